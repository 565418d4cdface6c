//! Tables of custom resources, from the printer columns that their definition declares.

use super::jsonpath::JsonPath;
use super::{Column, name, since};
use crate::json::Json;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A printer column whose path can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized column definition {path:?}")]
pub struct PathError {
    /// The path as declared.
    pub path: String,
}

/// The columns of a custom resource, and how to fill them.
#[derive(Debug, Clone)]
pub struct CustomTable {
    columns: Vec<Column>,
    paths: Vec<JsonPath>,
}

impl CustomTable {
    /// From `additionalPrinterColumns` of a version; if there are none, the age is shown.
    ///
    /// # Errors
    /// The first column whose path can't be read.
    pub fn new(declared: &[Value]) -> Result<Self, PathError> {
        let age = [
            json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "Time since the object was created."}),
        ];
        let mut table = Self {
            columns: vec![Column::new("Name", "string", "name", 0)],
            paths: Vec::new(),
        };
        for column in if declared.is_empty() { &age[..] } else { declared } {
            let path = column.text("jsonPath");
            table
                .paths
                .push(JsonPath::parse(path).ok_or_else(|| PathError { path: path.into() })?);
            let description = match column.text("description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                text => text.into(),
            };
            table.columns.push(Column {
                name: column.text("name").into(),
                kind: column.text("type").into(),
                format: column.text("format").into(),
                description,
                priority: column
                    .int("priority")
                    .and_then(|p| p.try_into().ok())
                    .unwrap_or(0),
            });
        }
        Ok(table)
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The cells of `object`; null where it has nothing, or something of another type.
    #[must_use]
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![name(object)];
        for (path, column) in self.paths.iter().zip(self.columns.iter().skip(1)) {
            let found = path.find(object);
            cells.push(
                found
                    .first()
                    .map_or(Value::Null, |value| cell(value, &column.kind, now)),
            );
        }
        cells
    }
}

fn cell(value: &Value, kind: &str, now: Timestamp) -> Value {
    match kind {
        "string" => match value {
            Value::String(text) => text.as_str().into(),
            Value::Null => "<no value>".into(),
            other => other.to_string().into(),
        },
        "integer" => value
            .as_i64()
            .or_else(|| value.as_f64().map(|f| f as i64))
            .map_or(Value::Null, Value::from),
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "date" => match value.as_str() {
            Some("") => "<unknown>".into(),
            Some(text) if text.parse::<Timestamp>().is_err() => "<invalid>".into(),
            Some(_) => since(value, now).into(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}
