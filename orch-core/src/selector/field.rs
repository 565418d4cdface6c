//! Field selectors: `metadata.name=a,spec.nodeName!=b`.

use std::{fmt, str::FromStr};

/// What is wrong with a field selector; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A term without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole text.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash before something else than `\`, `,` or `=`.
    #[error("invalid field selector: invalid escape sequence: {sequence}")]
    Escape {
        /// The sequence.
        sequence: String,
    },
    /// An `=` in a value without a backslash.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*character))]
    Unescaped {
        /// The character.
        character: char,
    },
}

/// One term: a field equals a value, or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Path of the field, such as `spec.nodeName`.
    pub field: String,
    /// The value, unescaped.
    pub value: String,
    /// `true` for `!=`.
    pub negated: bool,
}

/// A conjunction of terms on fields; one without terms selects everything. Which fields a kind supports is the API
/// server's to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FieldSelector {
    /// Selects every object.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Objects whose `field` is `value`.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self(vec![FieldRequirement {
            field: field.into(),
            value: value.into(),
            negated: false,
        }])
    }

    /// Parses the form used in query strings; `\` escapes `\`, `,` and `=` in values.
    ///
    /// # Errors
    /// With upstream's text.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut out = Vec::new();
        for term in terms.into_iter().filter(|t| !t.is_empty()) {
            let (field, value, negated) = split_term(term).ok_or_else(|| FieldSelectorError::Term {
                selector: text.into(),
                term: term.into(),
            })?;
            out.push(FieldRequirement {
                field: field.into(),
                value: unescape(value)?,
                negated,
            });
        }
        Ok(Self(out))
    }

    /// The terms, in order of their text.
    #[must_use]
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `field` must have, if a term fixes it.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|r| r.field == field && !r.negated)
            .map(|r| r.value.as_str())
    }

    /// Whether an object is selected whose fields `field` looks up; an absent field is the empty string.
    pub fn matches_with<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|r| (field(&r.field).unwrap_or("") == r.value) != r.negated)
    }

    /// Like [`FieldSelector::matches_with`] for a JSON object, following each field's path. Strings, numbers and
    /// booleans have their text; anything else is empty.
    #[must_use]
    pub fn matches_value(&self, object: &serde_json::Value) -> bool {
        use serde_json::Value;
        self.0.iter().all(|r| {
            let found = r.field.split('.').try_fold(object, |v, part| v.get(part));
            let equal = match found {
                Some(Value::String(s)) => *s == r.value,
                Some(Value::Number(n)) => n.to_string() == r.value,
                Some(Value::Bool(b)) => b.to_string() == r.value,
                _ => r.value.is_empty(),
            };
            equal != r.negated
        })
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let (at, _) = term
        .char_indices()
        .find(|(i, _)| term[*i..].starts_with("!=") || term[*i..].starts_with('='))?;
    let (field, rest) = term.split_at(at);
    match rest.strip_prefix("!=") {
        Some(value) => Some((field, value, true)),
        None => Some((
            field,
            rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?,
            false,
        )),
    }
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence = other.map_or_else(|| "\\".to_owned(), |c| format!("\\{c}"));
                    return Err(FieldSelectorError::Escape { sequence });
                }
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped { character: c }),
            c => out.push(c),
        }
    }
    Ok(out)
}

impl FromStr for FieldSelector {
    type Err = FieldSelectorError;
    fn from_str(text: &str) -> Result<Self, FieldSelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.0.iter().enumerate() {
            let escaped = r
                .value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            let comma = if i > 0 { "," } else { "" };
            write!(
                f,
                "{comma}{}{}{escaped}",
                r.field,
                if r.negated { "!=" } else { "=" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parses_prints_and_matches() {
        for text in ["x=a,y=b,z=c", "", "x!=a,y=b", r"x=a||y\=b", r"x=a\=\=b"] {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), text);
        }
        for bad in ["x=a||y=b", "x==a==b", "x=a,b", "x in (a)", "x", r"x=\a", r"x=\"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            FieldSelector::parse("x").unwrap_err().to_string(),
            "invalid selector: 'x'; can't understand 'x'"
        );
        assert_eq!(
            FieldSelector::parse("x==a=b").unwrap_err().to_string(),
            "invalid field selector: unescaped character in value: 61"
        );
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "hostNetwork": true}});
        for (text, expected) in [
            ("metadata.name=a,spec.nodeName==n", true),
            ("spec.nodeName!=n", false),
            ("status.phase=", true),
            ("status.phase!=Running", true),
            ("spec.hostNetwork=true", true),
        ] {
            assert_eq!(
                FieldSelector::parse(text).unwrap().matches_value(&pod),
                expected,
                "{text}"
            );
        }
        assert_eq!(
            FieldSelector::parse("a=b,metadata.name=c")
                .unwrap()
                .exact("metadata.name"),
            Some("c")
        );
    }

    proptest! {
        #[test]
        fn any_value_survives(value in "\\PC{0,20}") {
            let selector = FieldSelector::equals("a.b", value);
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") { drop(FieldSelector::parse(&text)); }
    }
}
