//! Label and field selectors: which objects of a collection are meant.
//!
//! Grammar and error texts are those of `k8s.io/apimachinery/pkg/{labels,fields}`.

mod field;
mod parse;
mod requirement;

pub use field::{FieldRequirement, FieldSelector, FieldSelectorError};
pub use requirement::{Operator, Requirement, SelectorError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiLabelSelector;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// A conjunction of requirements on labels, sorted by key; one without requirements selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// From requirements, in any order.
    #[must_use]
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key().cmp(b.key()));
        Self {
            requirements,
            nothing: false,
        }
    }

    /// Parses the form used in query strings: `a=b,c in (d,e),!f,g notin (h),i>1`.
    ///
    /// # Errors
    /// With upstream's text.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self::new(parse::requirements(text)?))
    }

    /// All of these labels, unchecked: for a Service's or ReplicationController's `spec.selector`. An empty map
    /// selects everything; the caller decides what an absent selector means.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self::new(
            labels
                .into_iter()
                .map(|(k, v)| Requirement::equals(k.clone(), v.clone()))
                .collect(),
        )
    }

    /// From the API's `LabelSelector`; absent selects nothing, empty selects everything.
    ///
    /// # Errors
    /// If an operator, key or value is not valid, with upstream's text.
    pub fn from_api(selector: Option<&ApiLabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(
                key.clone(),
                Operator::Equals,
                vec![value.clone()],
            )?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError::Operator {
                        operator: other.into(),
                    });
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(expression.key.clone(), operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// From a JSON `LabelSelector` object; null or absent selects nothing.
    ///
    /// # Errors
    /// If it has not the shape of a `LabelSelector`, and as [`LabelSelector::from_api`].
    pub fn from_value(value: Option<&serde_json::Value>) -> Result<Self, SelectorError> {
        let selector: Option<ApiLabelSelector> = match value {
            None => None,
            Some(value) => serde::Deserialize::deserialize(value)
                .map_err(|e: serde_json::Error| SelectorError::Shape { cause: e.to_string() })?,
        };
        Self::from_api(selector.as_ref())
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Like [`LabelSelector::matches`] for labels that may be absent altogether.
    #[must_use]
    pub fn matches_opt(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_with(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }

    /// Like [`LabelSelector::matches`], with labels looked up by `label`.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(r.key())))
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it selects nothing, whatever the labels.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The requirements, sorted by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "x=a,y=b,z=c",
            "",
            "x!=a,y=b",
            "x=",
            "x= ",
            "x=,z= ",
            "!x",
            "x>1",
            "x>1,z<5",
            "x in (a,b)",
            "x==a",
            "in in (in)",
        ] {
            let printed = LabelSelector::parse(text).unwrap().to_string();
            assert_eq!(printed.replace(' ', ""), text.replace(' ', ""), "{text}");
        }
        assert_eq!(
            LabelSelector::parse("x=a,a=x").unwrap(),
            LabelSelector::parse("a=x,x=a").unwrap()
        );
        assert_eq!(
            LabelSelector::parse("x in (c,,a)").unwrap().to_string(),
            "x in (,a,c)"
        );
        assert_eq!(LabelSelector::parse("x in ()").unwrap().to_string(), "x in ()");
    }

    #[test]
    fn error_texts() {
        let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
            alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
            '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        for (text, error) in [
            ("x==a==b", "found '==', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a,", "found '', expected: identifier after ','"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "a=(",
                "unable to parse requirement: found '(', expected: identifier",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "x<a",
                "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "@=b",
                &format!("unable to parse requirement: <nil>: Invalid value: \"@\": {name}"),
            ),
        ] {
            assert_eq!(
                LabelSelector::parse(text).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        let label = LabelSelector::parse("x=a||y").unwrap_err().to_string();
        assert!(
            label.starts_with(
                "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be"
            ),
            "{label}"
        );
    }

    #[test]
    fn matching() {
        let set = labels(&[("foo", "bar"), ("n", "7"), ("notin", "in")]);
        for (text, expected) in [
            ("", true),
            ("foo=bar", true),
            ("foo!=bar", false),
            ("nope!=bar", true),
            ("foo in (a,bar)", true),
            ("foo notin (a,bar)", false),
            ("nope notin (a)", true),
            ("foo", true),
            ("!foo", false),
            ("!nope", true),
            ("n>6", true),
            ("n<7", false),
            ("foo>1", false),
            ("notin=in", true),
            ("foo=bar,n=8", false),
            ("nope=", false),
        ] {
            assert_eq!(
                LabelSelector::parse(text).unwrap().matches(&set),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn from_api_and_json() {
        let set = labels(&[("a", "1"), ("b", "2")]);
        let check = |value: serde_json::Value| {
            LabelSelector::from_value(Some(&value))
                .map(|s| s.matches(&set))
                .map_err(|e| e.to_string())
        };
        assert_eq!(check(json!(null)), Ok(false));
        assert_eq!(check(json!({})), Ok(true));
        assert_eq!(
            check(
                json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "In", "values": ["2"]}]})
            ),
            Ok(true)
        );
        assert_eq!(
            check(json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]})),
            Ok(false)
        );
        assert_eq!(
            check(json!({"matchExpressions": [{"key": "b", "operator": "Is"}]})),
            Err("\"Is\" is not a valid label selector operator".into())
        );
        assert_eq!(
            check(json!({"matchExpressions": [{"key": "b", "operator": "In"}]})),
            Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into())
        );
        assert!(LabelSelector::from_value(None).unwrap().is_nothing());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c=!,()<> 1]{0,20}|\\PC{0,30}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
        #[test]
        fn negation(value in "[a-z]{1,3}", other in proptest::option::of("[a-z]{1,3}")) {
            let set: BTreeMap<_, _> = other.into_iter().map(|v| ("k".to_string(), v)).collect();
            let yes = LabelSelector::parse(&format!("k in ({value})")).unwrap();
            let no = LabelSelector::parse(&format!("k notin ({value})")).unwrap();
            prop_assert_ne!(yes.matches(&set), no.matches(&set));
        }
    }
}
