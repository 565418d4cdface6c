//! One requirement on one label.

use crate::validate;
use std::fmt;

/// How a label's value relates to a requirement's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// `=`
    Equals,
    /// `==`, the same as `=`.
    DoubleEquals,
    /// `!=`; also true of an absent label.
    NotEquals,
    /// `in (…)`
    In,
    /// `notin (…)`; also true of an absent label.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// `>`, both numbers.
    GreaterThan,
    /// `<`, both numbers.
    LessThan,
}

/// What is wrong with a label selector; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text does not follow the grammar.
    #[error("{0}")]
    Syntax(String),
    /// A requirement's keys or values are not valid.
    #[error("{0}")]
    Requirement(String),
    /// The API's selector has an unknown operator.
    #[error("{operator:?} is not a valid label selector operator")]
    Operator {
        /// The operator as given.
        operator: String,
    },
    /// The JSON is not a `LabelSelector`.
    #[error("not a label selector: {cause}")]
    Shape {
        /// Why.
        cause: String,
    },
}

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// If the key or a value is not valid or the number of values does not suit the operator.
    pub fn new(key: String, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errors = Vec::new();
        let key_errors = validate::qualified_name(&key);
        if !key_errors.is_empty() {
            errors.push(format!("key: Invalid value: {key:?}: {}", key_errors.join("; ")));
        }
        let wrong_count = match operator {
            Operator::In | Operator::NotIn => values
                .is_empty()
                .then_some("for 'in', 'notin' operators, values set can't be empty"),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                (values.len() != 1).then_some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist => {
                (!values.is_empty()).then_some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan => {
                (values.len() != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
        };
        if let Some(why) = wrong_count {
            let shown = serde_json::to_string(&values).unwrap_or_default();
            errors.push(format!("values: Invalid value: {shown}: {why}"));
        }
        for (i, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err()
            {
                errors.push(format!(
                    "values[{i}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let wrong = validate::label_value(value);
            if !wrong.is_empty() {
                errors.push(format!(
                    "values[{i}][{key}]: Invalid value: {value:?}: {}",
                    wrong.join("; ")
                ));
            }
        }
        match errors.len() {
            0 => {
                values.sort();
                values.dedup();
                Ok(Self {
                    key,
                    operator,
                    values,
                })
            }
            1 => Err(SelectorError::Requirement(errors.remove(0))),
            _ => Err(SelectorError::Requirement(format!("[{}]", errors.join(", ")))),
        }
    }

    /// An unchecked `key=value`.
    pub(super) fn equals(key: String, value: String) -> Self {
        Self {
            key,
            operator: Operator::Equals,
            values: vec![value],
        }
    }

    /// The label's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
    /// The operator.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator
    }
    /// The values, sorted.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether the requirement holds for the label's value, `None` if the label is absent.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let has = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(has),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
                match (number(value), number(self.values.first().map(String::as_str))) {
                    (Some(a), Some(b)) => {
                        if self.operator == Operator::GreaterThan {
                            a > b
                        } else {
                            a < b
                        }
                    }
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}
