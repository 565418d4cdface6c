//! Formats of names, labels and the like, with upstream's messages (`k8s.io/apimachinery/pkg/util/validation`).
//!
//! Each function answers with what is wrong with a value, nothing when it is right. The caller puts the field's path
//! in front. Only ASCII is ever right, so the checks look at bytes.

/// Longest DNS label.
pub const DNS_LABEL_MAX: usize = 63;
/// Longest DNS subdomain, and so most objects' names.
pub const DNS_SUBDOMAIN_MAX: usize = 253;
/// Longest value of a label.
pub const LABEL_VALUE_MAX: usize = 63;

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
    and must start and end with an alphanumeric character";
const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
    '-' or '.', and must start and end with an alphanumeric character";
const DNS_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS_1035_MSG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character";
const NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const NAME_MSG: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
    or '.', and must start and end with an alphanumeric character";

/// `must be no more than … characters`
#[must_use]
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// `must be between … and …, inclusive`
#[must_use]
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A message about a pattern, with examples.
#[must_use]
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let mut out = format!("{message} (e.g. ");
    for (i, example) in examples.iter().enumerate() {
        if i > 0 {
            out.push_str(" or ");
        }
        out.push_str(&format!("'{example}', "));
    }
    out.push_str(&format!("regex used for validation is '{pattern}')"));
    out
}

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Not empty, `inner` throughout, `edge` at both ends.
fn shaped(value: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn label_shape(value: &str) -> bool {
    shaped(value, lower_or_digit, |b| lower_or_digit(b) || b == b'-')
}

fn subdomain_shape(value: &str) -> bool {
    value.split('.').all(label_shape)
}

fn name_shape(value: &str) -> bool {
    shaped(
        value,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b),
    )
}

fn checks(list: &[(bool, &dyn Fn() -> String)]) -> Vec<String> {
    list.iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, message)| message())
        .collect()
}

/// A DNS label of RFC 1123: names of namespaces, services' ports' hosts and so on.
#[must_use]
pub fn dns1123_label(value: &str) -> Vec<String> {
    checks(&[
        (value.len() > DNS_LABEL_MAX, &|| max_len_error(DNS_LABEL_MAX)),
        (!label_shape(value), &|| {
            if subdomain_shape(value) {
                "must not contain dots".into()
            } else {
                regex_error(DNS_LABEL_MSG, DNS_LABEL, &["my-name", "123-abc"])
            }
        }),
    ])
}

/// A DNS subdomain of RFC 1123: most objects' names.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    checks(&[
        (value.len() > DNS_SUBDOMAIN_MAX, &|| {
            max_len_error(DNS_SUBDOMAIN_MAX)
        }),
        (!subdomain_shape(value), &|| {
            regex_error(DNS_SUBDOMAIN_MSG, DNS_SUBDOMAIN, &["example.com"])
        }),
    ])
}

/// A DNS label of RFC 1035, which does not start with a digit: names of Services.
#[must_use]
pub fn dns1035_label(value: &str) -> Vec<String> {
    let right = label_shape(value) && value.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    checks(&[
        (value.len() > DNS_LABEL_MAX, &|| max_len_error(DNS_LABEL_MAX)),
        (!right, &|| {
            regex_error(DNS_1035_MSG, DNS_1035, &["my-name", "abc-123"])
        }),
    ])
}

/// A DNS subdomain whose first label is `*`: host names of ingress rules.
#[must_use]
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    const MSG: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
        must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let right = value.strip_prefix("*.").is_some_and(subdomain_shape);
    checks(&[
        (value.len() > DNS_SUBDOMAIN_MAX, &|| {
            max_len_error(DNS_SUBDOMAIN_MAX)
        }),
        (!right, &|| {
            regex_error(MSG, &format!(r"\*\.{DNS_SUBDOMAIN}"), &["*.example.com"])
        }),
    ])
}

/// A name with an optional DNS subdomain and `/` before it: keys of labels, annotations, taints, resources.
#[must_use]
pub fn qualified_name(value: &str) -> Vec<String> {
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".into());
            } else {
                errors.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|e| format!("prefix part {e}")),
                );
            }
            name
        }
        _ => {
            let message = regex_error(NAME_MSG, NAME, &EXAMPLES);
            return vec![format!(
                "a valid label key {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > LABEL_VALUE_MAX {
        errors.push(format!("name part {}", max_len_error(LABEL_VALUE_MAX)));
    }
    if !name_shape(name) {
        errors.push(format!("name part {}", regex_error(NAME_MSG, NAME, &EXAMPLES)));
    }
    errors
}

/// The value of a label.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    checks(&[
        (value.len() > LABEL_VALUE_MAX, &|| max_len_error(LABEL_VALUE_MAX)),
        (!value.is_empty() && !name_shape(value), &|| {
            regex_error(
                LABEL_VALUE_MSG,
                &format!("({NAME})?"),
                &["MyValue", "my_value", "12345"],
            )
        }),
    ])
}

/// The name of a port (IANA service name).
#[must_use]
pub fn port_name(value: &str) -> Vec<String> {
    let charset = !value.is_empty() && value.bytes().all(|b| lower_or_digit(b) || b == b'-');
    checks(&[
        (value.len() > 15, &|| max_len_error(15)),
        (!charset, &|| {
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into()
        }),
        (!value.bytes().any(|b| b.is_ascii_lowercase()), &|| {
            "must contain at least one letter (a-z)".into()
        }),
        (value.contains("--"), &|| {
            "must not contain consecutive hyphens".into()
        }),
        (value.starts_with('-') || value.ends_with('-'), &|| {
            "must not begin or end with a hyphen".into()
        }),
    ])
}

/// A port's number.
#[must_use]
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65535)
}

/// A number between two others.
#[must_use]
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    checks(&[(!(low..=high).contains(&value), &|| {
        inclusive_range_error(low, high)
    })])
}

/// A user or group ID.
#[must_use]
pub fn user_or_group_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(i32::MAX))
}

/// A percentage.
#[must_use]
pub fn percent(value: &str) -> Vec<String> {
    const MSG: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    let right = value
        .strip_suffix('%')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    checks(&[(!right, &|| regex_error(MSG, "[0-9]+%", &["1%", "93%"]))])
}

/// The name of an HTTP header.
#[must_use]
pub fn http_header_name(value: &str) -> Vec<String> {
    const MSG: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    let right = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    checks(&[(!right, &|| regex_error(MSG, "[-A-Za-z0-9]+", &["X-Header-Name"]))])
}

/// A C identifier.
#[must_use]
pub fn c_identifier(value: &str) -> Vec<String> {
    const MSG: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
        alphanumeric characters or '_'";
    let right = value
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    checks(&[(!right, &|| {
        regex_error(MSG, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])
    })])
}

/// The name of an environment variable, as relaxed since v1.34: printable ASCII but `=`.
#[must_use]
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    const MSG: &str =
        "a valid environment variable name must consist only of printable ASCII characters other than '='";
    checks(&[
        (value.is_empty(), &|| {
            "environment variable name must be non-empty".into()
        }),
        (
            !value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'='),
            &|| MSG.into(),
        ),
    ])
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_map_key(value: &str) -> Vec<String> {
    const MSG: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let right = !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    checks(&[
        (value.len() > DNS_SUBDOMAIN_MAX, &|| {
            max_len_error(DNS_SUBDOMAIN_MAX)
        }),
        (!right, &|| {
            regex_error(MSG, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"])
        }),
        (value == ".", &|| "must not be '.'".into()),
        (value == "..", &|| "must not be '..'".into()),
        (value != ".." && value.starts_with(".."), &|| {
            "must not start with '..'".into()
        }),
    ])
}

/// A name that can be one segment of a URL path: the least that any object's name must satisfy.
#[must_use]
pub fn path_segment_name(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    checks(&[
        (value.contains('/'), &|| "may not contain '/'".into()),
        (value.contains('%'), &|| "may not contain '%'".into()),
    ])
}

/// A `generateName` as it is checked: a trailing dash is fine, because characters will follow it.
#[must_use]
pub fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() && rest.is_char_boundary(rest.len() - 1) => {
            format!("{}a", &rest[..rest.len() - 1])
        }
        _ => prefix.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for (value, right) in [
            ("a", true),
            ("a-b", true),
            ("1a", true),
            ("a.b", false),
            ("A", false),
            ("-a", false),
            ("a-", false),
            ("", false),
            ("a_b", false),
            (&long, false),
        ] {
            assert_eq!(dns1123_label(value).is_empty(), right, "{value}");
        }
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
              start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1035_label("1a"),
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
              character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
              validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert!(
            dns1123_subdomain(&"a.".repeat(200)).contains(&"must be no more than 253 characters".to_string())
        );
        assert!(
            wildcard_dns1123_subdomain("*.a.b").is_empty() && !wildcard_dns1123_subdomain("*").is_empty()
        );
    }

    #[test]
    fn labels() {
        for good in [
            "simple",
            "1-num.2-num/3-num",
            "example.com/Uppercase_Is_OK_123",
            "1234/5678",
        ] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in [
            "no%^=@",
            "-a-",
            "only/one/slash",
            "Example.com/abc",
            "example.com/",
            "/simple",
            "",
        ] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert!(
            label_value("").is_empty() && label_value("a_b.c").is_empty() && !label_value("a b").is_empty()
        );
    }

    #[test]
    fn others() {
        assert!(port_name("http-2").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(percent("25%").is_empty() && !percent("25").is_empty() && !percent("%").is_empty());
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(path_segment_name("."), ["may not be '.'"]);
        assert_eq!(mask_trailing_dash("abc-"), "aba");
        assert!(relaxed_env_var_name("1 a").is_empty() && !relaxed_env_var_name("a=b").is_empty());
    }

    proptest! {
        #[test]
        fn no_input_panics(value in "\\PC{0,80}") {
            drop((dns1123_label(&value), dns1123_subdomain(&value), qualified_name(&value), label_value(&value)));
            drop((port_name(&value), percent(&value), config_map_key(&value), mask_trailing_dash(&value)));
        }
    }
}
