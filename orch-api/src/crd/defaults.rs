//! Defaults of a structural schema.

use serde_json::Value;

/// Fills in what `schema` has defaults for. A null where null is not allowed counts as absent if there is a default.
pub(super) fn apply(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                let Some(default) = property.get("default") else {
                    continue;
                };
                let nullable = property.get("nullable").and_then(Value::as_bool).unwrap_or(false);
                let missing = map.get(name).is_none_or(|v| v.is_null() && !nullable);
                if missing {
                    map.insert(name.clone(), default.clone());
                }
            }
            let others = schema.get("additionalProperties").filter(|s| s.is_object());
            for (name, member) in map.iter_mut() {
                if let Some(schema) = properties.and_then(|p| p.get(name)).or(others) {
                    apply(schema, member);
                }
            }
        }
        Value::Array(list) => {
            if let Some(schema) = schema.get("items") {
                list.iter_mut().for_each(|item| apply(schema, item));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_defaults() {
        let schema = json!({"properties": {"spec": {"default": {}, "properties": {
            "n": {"default": 1}, "l": {"items": {"properties": {"x": {"default": "y"}}}},
            "nullable": {"default": 1, "nullable": true}}}}});
        let check = |mut value: Value, expected: Value| {
            apply(&schema, &mut value);
            assert_eq!(value, expected);
        };
        check(json!({}), json!({"spec": {"n": 1, "nullable": 1}}));
        check(
            json!({"spec": {"n": null, "nullable": null, "l": [{}, {"x": "z"}]}}),
            json!({"spec": {"n": 1, "nullable": null, "l": [{"x": "y"}, {"x": "z"}]}}),
        );
    }
}
