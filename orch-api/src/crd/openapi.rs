//! Validation of objects against an OpenAPI v3 schema, with the texts of upstream's validator.

use orch_kinds::field::{BadValue, FieldError, FieldErrorKind, FieldErrors};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// A schema ready to validate with: its patterns are compiled.
#[derive(Debug)]
pub(super) struct Validator {
    schema: Value,
    patterns: BTreeMap<String, Option<Regex>>,
}

impl Validator {
    /// From `openAPIV3Schema`.
    pub(super) fn new(schema: Value) -> Self {
        let mut patterns = BTreeMap::new();
        collect(&schema, &mut patterns);
        Self { schema, patterns }
    }

    /// The schema.
    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// What is wrong with `object`. `apiVersion`, `kind` and `metadata` are checked elsewhere.
    pub(super) fn validate(&self, object: &Value) -> FieldErrors {
        let mut found = Found::default();
        self.check(&self.schema, object, "", true, &mut found);
        let mut errors = FieldErrors::new();
        found.errors.into_iter().for_each(|e| errors.push(e));
        errors
    }

    /// The errors of list items that must differ (`x-kubernetes-list-type` `set` and `map`).
    pub(super) fn lists(&self, object: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        lists(&self.schema, object, "", &mut errors);
        errors
    }
}

fn collect(schema: &Value, patterns: &mut BTreeMap<String, Option<Regex>>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern") {
                patterns
                    .entry(pattern.clone())
                    .or_insert_with(|| Regex::new(pattern).ok());
            }
            map.values().for_each(|v| collect(v, patterns));
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, patterns)),
        _ => {}
    }
}

#[derive(Default)]
struct Found {
    errors: Vec<FieldError>,
    /// Checks that held; among failing alternatives the one with the most is explained.
    held: usize,
}

impl Found {
    fn push(
        &mut self,
        kind: FieldErrorKind,
        path: &str,
        bad: impl Into<BadValue>,
        detail: impl Into<String>,
    ) {
        let path = if path.is_empty() { "<nil>" } else { path };
        self.errors.push(FieldError {
            kind,
            path: path.to_owned(),
            bad: bad.into(),
            detail: detail.into(),
        });
    }
    fn invalid(&mut self, path: &str, bad: impl Into<BadValue>, detail: String) {
        self.push(FieldErrorKind::Invalid, path, bad, detail);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// `spec.x in body`
fn body(path: &str) -> String {
    format!("{path} in body")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn number(schema: &Value, keyword: &str) -> Option<f64> {
    schema.get(keyword).and_then(Value::as_f64)
}

fn count(schema: &Value, keyword: &str) -> Option<usize> {
    schema
        .get(keyword)
        .and_then(Value::as_u64)
        .and_then(|n| usize::try_from(n).ok())
}

fn flag(schema: &Value, keyword: &str) -> bool {
    schema.get(keyword).and_then(Value::as_bool).unwrap_or(false)
}

/// A number as Go prints it: without a fraction if it has none.
fn shown(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e15 {
        format!("{}", n as i64)
    } else {
        n.to_string()
    }
}

impl Validator {
    fn check(&self, schema: &Value, value: &Value, path: &str, root: bool, found: &mut Found) {
        if !self.check_type(schema, value, path, found) {
            return;
        }
        if value.is_null() {
            return;
        }
        self.check_composed(schema, value, path, found);
        if let Some(Value::Array(allowed)) = schema.get("enum") {
            if allowed.contains(value) {
                found.held += 1;
            } else {
                let texts: Vec<String> = allowed
                    .iter()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), ToOwned::to_owned))
                    .collect();
                let quoted: Vec<String> = texts.iter().map(|t| format!("{t:?}")).collect();
                let detail = format!("supported values: {}", quoted.join(", "));
                found.push(FieldErrorKind::NotSupported, path, value.clone(), detail);
            }
        }
        match value {
            Value::Object(_) => self.check_object(schema, value, path, root, found),
            Value::Array(list) => self.check_list(schema, list, path, found),
            Value::String(text) => self.check_text(schema, text, path, found),
            Value::Number(n) => check_number(schema, value, n.as_f64().unwrap_or(0.0), path, found),
            _ => {}
        }
    }

    /// Whether the value has the right type; if not, nothing else is checked.
    fn check_type(&self, schema: &Value, value: &Value, path: &str, found: &mut Found) -> bool {
        let is = type_name(value);
        let int_or_string = flag(schema, "x-kubernetes-int-or-string");
        let wanted = if int_or_string {
            "integer,string"
        } else {
            super::text(schema, "type")
        };
        let fits = match (value, wanted) {
            (_, "") => true,
            (Value::Null, _) => flag(schema, "nullable"),
            (Value::Number(n), "integer") => {
                n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0)
            }
            (Value::Number(_), "number") => true,
            (_, "integer,string") => matches!(is, "integer" | "string"),
            _ => wanted == is,
        };
        if fits {
            found.held += 1;
        } else {
            let detail = format!("{} must be of type {wanted}: {is:?}", body(path));
            found.push(FieldErrorKind::TypeInvalid, path, is, detail);
        }
        fits
    }

    fn check_composed(&self, schema: &Value, value: &Value, path: &str, found: &mut Found) {
        let try_one = |schema: &Value| {
            let mut inner = Found::default();
            self.check(schema, value, path, false, &mut inner);
            inner
        };
        let best = |failures: Vec<Found>| {
            failures
                .into_iter()
                .reduce(|a, b| if b.held > a.held { b } else { a })
        };
        let shown_path = if path.is_empty() { "<nil>" } else { path };
        let any = super::items(schema, "anyOf");
        if !any.is_empty() {
            let (passed, failed): (Vec<_>, Vec<_>) =
                any.iter().map(try_one).partition(|f| f.errors.is_empty());
            if passed.is_empty() {
                let detail = format!("{shown_path:?} must validate at least one schema (anyOf)");
                found.push(FieldErrorKind::Invalid, "", "", detail);
                found
                    .errors
                    .extend(best(failed).map(|f| f.errors).unwrap_or_default());
            }
        }
        let one = super::items(schema, "oneOf");
        if !one.is_empty() {
            let (passed, failed): (Vec<_>, Vec<_>) =
                one.iter().map(try_one).partition(|f| f.errors.is_empty());
            if passed.len() != 1 {
                let what = match passed.len() {
                    0 => "Found none valid".to_owned(),
                    n => format!("Found {n} valid alternatives"),
                };
                let detail = format!("{shown_path:?} must validate one and only one schema (oneOf). {what}");
                found.push(FieldErrorKind::Invalid, "", "", detail);
                if passed.is_empty() {
                    found
                        .errors
                        .extend(best(failed).map(|f| f.errors).unwrap_or_default());
                }
            }
        }
        let all = super::items(schema, "allOf");
        if !all.is_empty() {
            let (passed, failed): (Vec<_>, Vec<_>) =
                all.iter().map(try_one).partition(|f| f.errors.is_empty());
            let none = passed.is_empty();
            if !failed.is_empty() {
                found.errors.extend(failed.into_iter().flat_map(|f| f.errors));
                let tail = if none { ". None validated" } else { "" };
                let detail = format!("{shown_path:?} must validate all the schemas (allOf){tail}");
                found.push(FieldErrorKind::Invalid, "", "", detail);
            }
        }
        if let Some(not) = schema.get("not").filter(|s| s.is_object())
            && try_one(not).errors.is_empty()
        {
            let detail = format!("{shown_path:?} must not validate the schema (not)");
            found.push(FieldErrorKind::Invalid, "", "", detail);
        }
        found.held += 1;
    }

    fn check_object(&self, schema: &Value, value: &Value, path: &str, root: bool, found: &mut Found) {
        let Value::Object(map) = value else { return };
        if let Some(min) = count(schema, "minProperties").filter(|m| map.len() < *m) {
            let detail = format!("{} should have at least {min} properties", body(path));
            found.invalid(path, map.len(), detail);
        }
        if let Some(max) = count(schema, "maxProperties").filter(|m| map.len() > *m) {
            let unit = if max == 1 { "item" } else { "items" };
            found.push(
                FieldErrorKind::TooMany,
                path,
                map.len(),
                format!("must have at most {max} {unit}"),
            );
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|s| s.is_object());
        let embedded = root || flag(schema, "x-kubernetes-embedded-resource");
        for (name, member) in map {
            if embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            if let Some(schema) = properties.and_then(|p| p.get(name)).or(others) {
                self.check(schema, member, &join(path, name), false, found);
            }
        }
        for name in super::texts(schema, "required") {
            if map.contains_key(&name) {
                found.held += 1;
            } else {
                found.push(FieldErrorKind::Required, &join(path, &name), "", "");
            }
        }
    }

    fn check_list(&self, schema: &Value, list: &[Value], path: &str, found: &mut Found) {
        if let Some(items) = schema.get("items").filter(|s| s.is_object()) {
            for (i, item) in list.iter().enumerate() {
                self.check(items, item, &format!("{path}[{i}]"), false, found);
            }
        }
        if let Some(min) = count(schema, "minItems").filter(|m| list.len() < *m) {
            let detail = format!("{} should have at least {min} items", body(path));
            found.invalid(path, list.len(), detail);
        }
        if let Some(max) = count(schema, "maxItems").filter(|m| list.len() > *m) {
            let unit = if max == 1 { "item" } else { "items" };
            found.push(
                FieldErrorKind::TooMany,
                path,
                list.len(),
                format!("must have at most {max} {unit}"),
            );
        }
    }

    fn check_text(&self, schema: &Value, text: &str, path: &str, found: &mut Found) {
        let length = text.chars().count();
        if let Some(max) = count(schema, "maxLength").filter(|m| length > *m) {
            let unit = if max == 1 { "byte" } else { "bytes" };
            found.push(
                FieldErrorKind::TooLong,
                path,
                BadValue::Omitted,
                format!("may not be more than {max} {unit}"),
            );
        }
        if let Some(min) = count(schema, "minLength").filter(|m| length < *m) {
            found.invalid(
                path,
                text,
                format!("{} should be at least {min} chars long", body(path)),
            );
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && let Some(Some(regex)) = self.patterns.get(pattern)
        {
            if regex.is_match(text) {
                found.held += 1;
            } else {
                found.invalid(path, text, format!("{} should match '{pattern}'", body(path)));
            }
        }
        let format = super::text(schema, "format");
        if !has_format(text, format) {
            let detail = format!("{} must be of type {format}: {text:?}", body(path));
            found.push(FieldErrorKind::TypeInvalid, path, text, detail);
        }
    }
}

fn check_number(schema: &Value, value: &Value, n: f64, path: &str, found: &mut Found) {
    let mut refuse = |holds: bool, text: String| {
        if holds {
            found.held += 1;
        } else {
            found.invalid(path, value.clone(), format!("{} should be {text}", body(path)));
        }
    };
    if let Some(min) = number(schema, "minimum") {
        if flag(schema, "exclusiveMinimum") {
            refuse(n > min, format!("greater than {}", shown(min)));
        } else {
            refuse(n >= min, format!("greater than or equal to {}", shown(min)));
        }
    }
    if let Some(max) = number(schema, "maximum") {
        if flag(schema, "exclusiveMaximum") {
            refuse(n < max, format!("less than {}", shown(max)));
        } else {
            refuse(n <= max, format!("less than or equal to {}", shown(max)));
        }
    }
    if let Some(factor) = number(schema, "multipleOf").filter(|f| *f > 0.0) {
        let quotient = n / factor;
        refuse(
            (quotient - quotient.round()).abs() < 1e-9,
            format!("a multiple of {}", shown(factor)),
        );
    }
    let limits = match super::text(schema, "format") {
        "int32" => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        _ => None,
    };
    if let Some((low, high)) = limits.filter(|(l, h)| n < *l || n > *h) {
        let (word, bound) = if n < low { ("greater", low) } else { ("less", high) };
        refuse(false, format!("{word} than or equal to {}", shown(bound)));
    }
}

/// Whether `text` has a format that is enforced; unknown formats always fit.
fn has_format(text: &str, format: &str) -> bool {
    use base64::Engine;
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "uuid" => {
            let hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
            let plain: String = text.chars().filter(|c| *c != '-').collect();
            plain.len() == 32 && hex(&plain)
        }
        "email" => text
            .split_once('@')
            .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains('@')),
        "uri" => text.contains(':') || text.starts_with('/'),
        "mac" => {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            matches!(parts.len(), 6 | 8)
                && parts
                    .iter()
                    .all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok())
        }
        _ => true,
    }
}

fn lists(schema: &Value, value: &Value, path: &str, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties").filter(|s| s.is_object());
            for (name, member) in map {
                if let Some(schema) = properties.and_then(|p| p.get(name)).or(others) {
                    lists(schema, member, &join(path, name), errors);
                }
            }
        }
        Value::Array(list) => {
            let keys = super::texts(schema, "x-kubernetes-list-map-keys");
            let identity = |item: &Value| match super::text(schema, "x-kubernetes-list-type") {
                "set" => Some(item.clone()),
                "map" => {
                    let of = |k: &String| item.get(k).map(|v| (k.clone(), v.clone()));
                    Some(Value::Object(keys.iter().filter_map(of).collect()))
                }
                _ => None,
            };
            let mut seen: Vec<Value> = Vec::new();
            for (i, item) in list.iter().enumerate() {
                if let Some(identity) = identity(item) {
                    if seen.contains(&identity) {
                        errors.push(FieldError {
                            kind: FieldErrorKind::Duplicate,
                            path: format!("{path}[{i}]"),
                            bad: identity.into(),
                            detail: String::new(),
                        });
                    } else {
                        seen.push(identity);
                    }
                }
                if let Some(schema) = schema.get("items") {
                    lists(schema, item, &format!("{path}[{i}]"), errors);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, value: Value, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {"spec": schema}});
        let validator = Validator::new(schema);
        let object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {}, "spec": value});
        let mut errors = validator.validate(&object);
        errors.append(validator.lists(&object));
        let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn texts() {
        check(json!({"type": "integer"}), json!(3), &[]);
        check(
            json!({"type": "integer"}),
            json!("x"),
            &[r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#],
        );
        check(
            json!({"type": "integer", "minimum": 1, "maximum": 3}),
            json!(0),
            &["spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
        );
        check(
            json!({"type": "string", "pattern": "^a+$", "maxLength": 2}),
            json!("bbb"),
            &[
                "spec: Too long: may not be more than 2 bytes",
                "spec: Invalid value: \"bbb\": spec in body should match '^a+$'",
            ],
        );
        check(
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            &[r#"spec: Unsupported value: "c": supported values: "a", "b""#],
        );
        check(
            json!({"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}),
            json!({}),
            &["spec.x: Required value"],
        );
        check(
            json!({"type": "array", "maxItems": 1}),
            json!([1, 2]),
            &["spec: Too many: 2: must have at most 1 item"],
        );
        check(
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object"}}),
            json!([{"k": 1}, {"k": 1}]),
            &[r#"spec[1]: Duplicate value: {"k":1}"#],
        );
        check(json!({"x-kubernetes-int-or-string": true}), json!("5%"), &[]);
        check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    }
}
