//! Schemas of custom resources.

use crate::{Form, Served};
use orch_core::GroupVersionKind;
use orch_kinds::resources::ResourceDef;
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The definition names of a custom resource and of its list: `com.example.stable.v1.CronTab`.
pub(crate) fn names(resource: &ResourceDef) -> (String, String) {
    let reversed: Vec<&str> = resource.gvr.group.rsplit('.').collect();
    let prefix = format!("{}.{}", reversed.join("."), resource.gvr.version);
    (
        format!("{prefix}.{}", resource.kind),
        format!("{prefix}.{}", resource.list_kind),
    )
}

fn gvk(of: &GroupVersionKind) -> Value {
    json!([{"group": of.group, "version": of.version, "kind": of.kind}])
}

/// The definitions of a custom resource; none for a built-in one.
pub(crate) fn definitions(served: &Served, form: Form) -> Vec<(String, Value)> {
    let Some(schema) = &served.schema else {
        return Vec::new();
    };
    let resource = &served.resource;
    let (object, list) = names(resource);
    let mut definition = match form {
        Form::V3 => schema.as_object().cloned().unwrap_or_default(),
        Form::V2 => match reduced(schema) {
            Value::Object(map) => map,
            _ => Map::new(),
        },
    };
    definition.insert("type".into(), json!("object"));
    definition.insert("x-kubernetes-group-version-kind".into(), gvk(&resource.gvk()));
    if definition.contains_key("properties") || schema.is_object() {
        let properties = definition.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert(
                "apiVersion".into(),
                text("The version of the object's schema: group and version."),
            );
            properties.insert("kind".into(), text("The kind of the object."));
            properties.insert(
                "metadata".into(),
                described(form, "ObjectMeta", "Standard object metadata."),
            );
        }
    }
    let items = json!({
        "type": "array",
        "description": "The objects of the list.",
        "items": form.reference(&object),
    });
    let list_definition = json!({
        "description": format!("{} is a list of {} objects.", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("The version of the object's schema: group and version."),
            "kind": text("The kind of the object."),
            "items": items,
            "metadata": described(form, "ListMeta", "Standard list metadata."),
        },
        "x-kubernetes-group-version-kind": gvk(&resource.list_gvk()),
    });
    vec![(object, Value::Object(definition)), (list, list_definition)]
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn described(form: Form, name: &str, description: &str) -> Value {
    let mut reference = form.reference(&format!("{META}.{name}"));
    if form == Form::V3 {
        reference = json!({"allOf": [reference]});
    }
    reference["description"] = description.into();
    reference
}

/// What v2 can say of a v3 schema: without unions, nullability, defaults and rules, and without types where the
/// schema allows more than one.
fn reduced(schema: &Value) -> Value {
    let Value::Object(map) = schema else {
        return schema.clone();
    };
    let on = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
    let mut out = Map::new();
    for (key, value) in map {
        let value = match key.as_str() {
            "allOf" | "anyOf" | "oneOf" | "not" | "nullable" | "default" | "x-kubernetes-validations" => {
                continue;
            }
            "type" if on("x-kubernetes-int-or-string") || on("nullable") => continue,
            // Fields that a schema neither names nor refuses cannot be told in v2.
            "properties" | "items" | "required" | "additionalProperties"
                if on("nullable") || on("x-kubernetes-preserve-unknown-fields") =>
            {
                continue;
            }
            "properties" => Value::Object(
                value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), reduced(v)))
                    .collect(),
            ),
            "items" | "additionalProperties" => reduced(value),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}
