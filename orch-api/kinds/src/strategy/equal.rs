//! Semantic equality of objects: what typed comparison calls equal although the JSON differs.

use serde_json::Value;

/// Whether `a` and `b` mean the same: an absent member equals null, an empty list and an empty map of strings, and
/// whole numbers compare by value. Quantities and defaults are taken to be canonical already.
#[must_use]
pub fn semantic_eq(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| match y.get(k) {
                Some(w) => semantic_eq(v, w),
                None => as_absent(k, v),
            }) && y.iter().all(|(k, w)| x.contains_key(k) || as_absent(k, w))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(v, w)| semantic_eq(v, w))
        }
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Null, other) | (other, Value::Null) => as_absent("", other),
        _ => a == b,
    }
}

fn as_absent(key: &str, value: &Value) -> bool {
    const MAPS: [&str; 13] = [
        "labels",
        "annotations",
        "matchLabels",
        "nodeSelector",
        "selector",
        "data",
        "binaryData",
        "limits",
        "requests",
        "overhead",
        "parameters",
        "metadata",
        "resources",
    ];
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && (key.is_empty() || MAPS.contains(&key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal() {
        for (a, b, same) in [
            (json!({}), json!({"a": null, "b": [], "labels": {}}), true),
            (json!({"a": 1}), json!({"a": 1.0}), true),
            (json!({"a": 0}), json!({}), false),
            (json!({"namespaceSelector": {}}), json!({}), false),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
            (json!(null), json!({}), true),
        ] {
            assert_eq!(semantic_eq(&a, &b), same, "{a} {b}");
            assert_eq!(semantic_eq(&b, &a), same, "{b} {a}");
        }
    }
}
