//! What may be in a CustomResourceDefinition here, beside the rules that hold everywhere.

use super::{CLEANUP, items, text};
use crate::registry::Strategy;
use jiff::Timestamp;
use orch_core::{GroupVersionKind, Object};
use orch_kinds::{
    field::{FieldError, FieldErrorKind, FieldErrors},
    schema::TypeRef,
    strategy::Behavior,
};
use serde_json::Value;
use std::sync::Arc;

/// The strategy of CustomResourceDefinitions: the built-in one, with checks of what it defines.
pub(crate) struct Definitions(pub(crate) Arc<dyn Strategy>);

impl Strategy for Definitions {
    fn ty(&self) -> &TypeRef {
        self.0.ty()
    }
    fn behavior(&self) -> Behavior {
        Behavior {
            unconditional_update: false,
            ..self.0.behavior()
        }
    }
    fn apply_defaults(&self, object: &mut Value) {
        self.0.apply_defaults(object);
    }
    fn prepare_for_create(&self, object: &mut Value) {
        self.0.prepare_for_create(object);
    }
    fn validate_create(&self, object: &Value) -> FieldErrors {
        let mut errors = self.0.validate_create(object);
        errors.append(unserved(object));
        errors
    }
    fn prepare_for_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        self.0.prepare_for_update(subresource, new, old);
    }
    fn validate_update(&self, subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = self.0.validate_update(subresource, new, old);
        if subresource.is_empty() {
            errors.append(unserved(new));
        }
        errors
    }
    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        self.0.warnings_on_create(object)
    }
    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        self.0.warnings_on_update(new, old)
    }
    fn canonicalize(&self, object: &mut Value) {
        self.0.canonicalize(object);
    }
    fn supports_field(&self, field: &str) -> bool {
        self.0.supports_field(field)
    }
    fn field_value(&self, object: &Value, field: &str) -> String {
        self.0.field_value(object, field)
    }
    fn table(&self, objects: &[Arc<Object>], now: Timestamp) -> (Value, Vec<Value>) {
        self.0.table(objects, now)
    }
}

/// Whether `gvk` is that of definitions.
pub(crate) fn is_definition(gvk: &GroupVersionKind) -> bool {
    gvk.group == "apiextensions.k8s.io" && gvk.kind == "CustomResourceDefinition"
}

/// Marks a definition that is deleted: its objects are deleted before it goes.
pub(crate) fn hold_for_cleanup(crd: &mut Value, now: &str) {
    let mut finalizers = crate::registry::meta::finalizers(crd);
    if !finalizers.iter().any(|f| f == CLEANUP)
        && crate::registry::meta::field(crd, "deletionTimestamp").is_none()
    {
        finalizers.push(CLEANUP.to_owned());
        crate::registry::meta::set(crd, "finalizers", finalizers);
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        super::set_condition(
            crd,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            message,
            now,
        );
    }
}

/// What a definition may have upstream and may not have here, because it is not served yet.
fn unserved(crd: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = &crd["spec"];
    if text(&spec["conversion"], "strategy") == "Webhook" {
        forbid(
            &mut errors,
            "spec.conversion.strategy",
            "conversion webhooks are not supported by this server",
        );
    }
    for (i, version) in items(spec, "versions").iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        rules(
            schema,
            &format!("spec.versions[{i}].schema.openAPIV3Schema"),
            &mut errors,
        );
    }
    errors
}

fn forbid(errors: &mut FieldErrors, path: impl Into<String>, detail: &str) {
    errors.push(FieldError {
        kind: FieldErrorKind::Forbidden,
        path: path.into(),
        bad: "".into(),
        detail: detail.to_owned(),
    });
}

/// Finds rules in CEL anywhere in a schema.
fn rules(schema: &Value, path: &str, errors: &mut FieldErrors) {
    if !items(schema, "x-kubernetes-validations").is_empty() {
        let path = format!("{path}.x-kubernetes-validations");
        forbid(
            errors,
            path,
            "validation rules in CEL are not supported by this server",
        );
    }
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        rules(property, &format!("{path}.properties[{name}]"), errors);
    }
    for keyword in ["items", "additionalProperties", "not"] {
        if let Some(part) = schema.get(keyword).filter(|p| p.is_object()) {
            rules(part, &format!("{path}.{keyword}"), errors);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (i, part) in items(schema, keyword).iter().enumerate() {
            rules(part, &format!("{path}.{keyword}[{i}]"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals() {
        let crd = json!({"spec": {"conversion": {"strategy": "Webhook"}, "versions": [{"schema": {"openAPIV3Schema":
            {"properties": {"spec": {"items": {"x-kubernetes-validations": [{"rule": "true"}]}}}}}}]}});
        let found: Vec<String> = unserved(&crd).0.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "spec.conversion.strategy: Forbidden: conversion webhooks are not supported by this server",
                "spec.versions[0].schema.openAPIV3Schema.properties[spec].items.x-kubernetes-validations: Forbidden: \
                 validation rules in CEL are not supported by this server",
            ]
        );
    }
}
