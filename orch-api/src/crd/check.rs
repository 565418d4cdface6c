//! What may be in a CustomResourceDefinition.

use super::{CLEANUP, items, text, texts};
use crate::registry::Strategy;
use jiff::Timestamp;
use orch_core::{GroupVersionKind, Object, validate as rules};
use orch_kinds::{
    field::{FieldError, FieldErrorKind, FieldErrors},
    schema::TypeRef,
    strategy::Behavior,
};
use serde_json::{Value, json};
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
        errors.append(definition(object));
        errors
    }
    fn prepare_for_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        self.0.prepare_for_update(subresource, new, old);
    }
    fn validate_update(&self, subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = self.0.validate_update(subresource, new, old);
        if subresource.is_empty() {
            errors.append(definition(new));
            immutable(new, old, &mut errors);
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

struct Errors(FieldErrors);

impl Errors {
    fn push(
        &mut self,
        kind: FieldErrorKind,
        path: impl Into<String>,
        bad: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        let error = FieldError {
            kind,
            path: path.into(),
            bad: bad.into().into(),
            detail: detail.into(),
        };
        if !self.0.0.contains(&error) {
            self.0.push(error);
        }
    }
    fn invalid(&mut self, path: impl Into<String>, bad: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldErrorKind::Invalid, path, bad, detail);
    }
    fn required(&mut self, path: impl Into<String>, detail: &str) {
        self.push(FieldErrorKind::Required, path, "", detail);
    }
    fn forbidden(&mut self, path: impl Into<String>, detail: &str) {
        self.push(FieldErrorKind::Forbidden, path, "", detail);
    }
}

fn definition(crd: &Value) -> FieldErrors {
    let mut e = Errors(FieldErrors::new());
    let spec = &crd["spec"];
    let (group, names) = (text(spec, "group"), &spec["names"]);
    let expected = format!("{}.{group}", text(names, "plural"));
    let name = crate::registry::meta::text(crd, "name");
    if !text(names, "plural").is_empty() && name != expected {
        e.invalid(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    if group.is_empty() {
        e.required("spec.group", "");
    } else if let [first, ..] = rules::dns1123_subdomain(group).as_slice() {
        e.invalid("spec.group", group, first.as_str());
    } else if !group.contains('.') {
        e.invalid("spec.group", group, "should be a domain with at least one dot");
    }
    match text(spec, "scope") {
        "Namespaced" | "Cluster" => {}
        "" => e.required("spec.scope", ""),
        other => e.push(
            FieldErrorKind::NotSupported,
            "spec.scope",
            other,
            r#"supported values: "Cluster", "Namespaced""#,
        ),
    }
    check_names(names, &mut e);
    match text(&spec["conversion"], "strategy") {
        "" | "None" => {
            for field in ["webhook", "webhookClientConfig"] {
                if !spec["conversion"][field].is_null() {
                    e.forbidden(
                        format!("spec.conversion.{field}"),
                        "should not be set when strategy is not set to Webhook",
                    );
                }
            }
        }
        "Webhook" => e.forbidden(
            "spec.conversion.strategy",
            "conversion webhooks are not supported by this server",
        ),
        other => e.push(
            FieldErrorKind::NotSupported,
            "spec.conversion.strategy",
            other,
            r#"supported values: "None", "Webhook""#,
        ),
    }
    if spec["preserveUnknownFields"] == true {
        e.invalid("spec.preserveUnknownFields", true, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead");
    }
    check_versions(items(spec, "versions"), &mut e);
    e.0
}

fn check_names(names: &Value, e: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(names, field);
        let path = format!("spec.names.{field}");
        if name.is_empty() {
            e.required(path, "");
            continue;
        }
        let lower = matches!(field, "plural" | "singular");
        let tested = if lower {
            name.to_owned()
        } else {
            name.to_lowercase()
        };
        if let [first, ..] = rules::dns1035_label(&tested).as_slice() {
            let prefix = if lower {
                ""
            } else {
                "may have mixed case, but should otherwise match: "
            };
            e.invalid(path, name, format!("{prefix}{first}"));
        }
    }
    if !text(names, "kind").is_empty() && text(names, "kind") == text(names, "listKind") {
        e.invalid(
            "spec.names.listKind",
            text(names, "listKind"),
            "kind and listKind may not be the same",
        );
    }
    for (field, list) in [
        ("shortNames", texts(names, "shortNames")),
        ("categories", texts(names, "categories")),
    ] {
        for (i, name) in list.iter().enumerate() {
            if let [first, ..] = rules::dns1035_label(name).as_slice() {
                e.invalid(format!("spec.names.{field}[{i}]"), name.as_str(), first.as_str());
            }
        }
    }
}

fn check_versions(versions: &[Value], e: &mut Errors) {
    let names: Vec<&str> = versions.iter().map(|v| text(v, "name")).collect();
    let all = || Value::from(versions.to_vec());
    if names.iter().enumerate().any(|(i, n)| names[..i].contains(n)) {
        e.invalid("spec.versions", all(), "must contain unique version names");
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        e.invalid(
            "spec.versions",
            all(),
            "must have exactly one version marked as storage version",
        );
    }
    for (i, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{i}]");
        if let [first, ..] = rules::dns1035_label(text(version, "name")).as_slice() {
            e.invalid(format!("{path}.name"), text(version, "name"), first.as_str());
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        let schema_path = format!("{path}.schema.openAPIV3Schema");
        if schema.is_null() {
            e.required(schema_path, "schemas are required");
        } else {
            match text(schema, "type") {
                "object" => {}
                "" => e.required(format!("{schema_path}.type"), "must not be empty at the root"),
                other => e.invalid(format!("{schema_path}.type"), other, "must be object at the root"),
            }
            if schema["nullable"] == true {
                e.forbidden(
                    format!("{schema_path}.nullable"),
                    "nullable cannot be true at the root",
                );
            }
            check_schema(schema, &schema_path, true, e);
        }
        check_subresources(&version["subresources"], &format!("{path}.subresources"), e);
        for (j, column) in items(version, "additionalPrinterColumns").iter().enumerate() {
            let path = format!("{path}.additionalPrinterColumns[{j}]");
            const TYPES: &str = "must be one of boolean,date,integer,number,string";
            if text(column, "name").is_empty() {
                e.required(format!("{path}.name"), "");
            }
            match text(column, "type") {
                "boolean" | "date" | "integer" | "number" | "string" => {}
                "" => e.required(format!("{path}.type"), TYPES),
                other => e.invalid(format!("{path}.type"), other, TYPES),
            }
            if text(column, "jsonPath").is_empty() {
                e.required(format!("{path}.JSONPath"), "");
            }
        }
    }
}

fn check_subresources(subresources: &Value, path: &str, e: &mut Errors) {
    let scale = &subresources["scale"];
    if scale.is_null() {
        return;
    }
    for (field, under, required) in [
        ("specReplicasPath", &[".spec."][..], true),
        ("statusReplicasPath", &[".status."], true),
        ("labelSelectorPath", &[".spec.", ".status."], false),
    ] {
        let given = text(scale, field);
        let path = format!("{path}.scale.{field}");
        if given.is_empty() {
            if required {
                e.required(path, "");
            }
        } else if !under.iter().any(|u| given.starts_with(u)) || given.contains("[") {
            let where_ = match under {
                [one] => format!("should be a json path under {}", one.trim_end_matches('.')),
                _ => "should be a json path under either .spec or .status".to_owned(),
            };
            e.invalid(path, given, where_);
        }
    }
}

/// Rules of structural schemas (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>).
fn check_schema(schema: &Value, path: &str, root: bool, e: &mut Errors) {
    let Some(map) = schema.as_object() else {
        e.invalid(path, schema.clone(), "must be an object");
        return;
    };
    for keyword in [
        "$ref",
        "definitions",
        "dependencies",
        "patternProperties",
        "additionalItems",
        "id",
    ] {
        if map.get(keyword).is_some_and(|v| !v.is_null()) {
            e.forbidden(
                format!("{path}.{keyword}"),
                &format!("{keyword} is not supported"),
            );
        }
    }
    if schema["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        e.forbidden(format!("{path}.uniqueItems"), detail);
    }
    if !items(schema, "x-kubernetes-validations").is_empty() {
        e.forbidden(
            format!("{path}.x-kubernetes-validations"),
            "validation rules in CEL are not supported by this server",
        );
    }
    let kind = text(schema, "type");
    let untyped = schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if kind.is_empty() && !untyped && !root {
        e.required(
            format!("{path}.type"),
            "must not be empty for specified object fields",
        );
    }
    if !matches!(
        kind,
        "" | "array" | "boolean" | "integer" | "number" | "object" | "string"
    ) {
        let detail = r#"supported values: "array", "boolean", "integer", "number", "object", "string""#;
        e.push(FieldErrorKind::NotSupported, format!("{path}.type"), kind, detail);
    }
    let has = |keyword: &str| map.get(keyword).is_some_and(|v| !v.is_null());
    if has("properties") && has("additionalProperties") && schema["additionalProperties"] != false {
        e.forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        );
    }
    if schema["additionalProperties"] == false {
        e.forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties cannot be set to false",
        );
    }
    if kind == "array" && !schema["items"].is_object() {
        let detail = if schema["items"].is_array() {
            "items must be a schema object and not an array"
        } else {
            "must be specified"
        };
        if schema["items"].is_array() {
            e.forbidden(format!("{path}.items"), detail)
        } else {
            e.required(format!("{path}.items"), detail)
        }
    }
    if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
        && let Err(error) = regex::Regex::new(pattern)
    {
        e.invalid(
            format!("{path}.pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {error}"),
        );
    }
    check_lists(schema, path, e);
    for (name, property) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if root && name == "metadata" {
            continue;
        }
        check_schema(property, &format!("{path}.properties[{name}]"), false, e);
    }
    for keyword in ["items", "additionalProperties"] {
        if schema[keyword].is_object() {
            check_schema(&schema[keyword], &format!("{path}.{keyword}"), false, e);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (i, part) in items(schema, keyword).iter().enumerate() {
            check_value_validation(part, &format!("{path}.{keyword}[{i}]"), e);
        }
    }
    if schema["not"].is_object() {
        check_value_validation(&schema["not"], &format!("{path}.not"), e);
    }
}

/// Inside of allOf, anyOf, oneOf and not there are values' rules only, no structure.
fn check_value_validation(schema: &Value, path: &str, e: &mut Errors) {
    if !items(schema, "x-kubernetes-validations").is_empty() {
        e.forbidden(
            format!("{path}.x-kubernetes-validations"),
            "validation rules in CEL are not supported by this server",
        );
    }
    for keyword in ["description", "default", "additionalProperties", "nullable"] {
        if !schema[keyword].is_null() {
            e.forbidden(format!("{path}.{keyword}"), "must be empty to be structural");
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check_value_validation(property, &format!("{path}.properties[{name}]"), e);
    }
}

fn check_lists(schema: &Value, path: &str, e: &mut Errors) {
    let list_type = text(schema, "x-kubernetes-list-type");
    let keys = texts(schema, "x-kubernetes-list-map-keys");
    if !matches!(list_type, "" | "atomic" | "set" | "map") {
        let detail = r#"supported values: "atomic", "set", "map""#;
        e.push(
            FieldErrorKind::NotSupported,
            format!("{path}.x-kubernetes-list-type"),
            list_type,
            detail,
        );
    }
    if !list_type.is_empty() && text(schema, "type") != "array" {
        e.invalid(
            format!("{path}.type"),
            text(schema, "type"),
            "must be array if x-kubernetes-list-type is specified",
        );
    }
    if list_type == "map" {
        if keys.is_empty() {
            e.required(
                format!("{path}.x-kubernetes-list-map-keys"),
                "must not be empty if x-kubernetes-list-type is map",
            );
        }
        let properties = schema["items"]["properties"].as_object();
        for key in &keys {
            if properties.is_none_or(|p| !p.contains_key(key)) {
                let all = json!(keys);
                e.invalid(
                    format!("{path}.x-kubernetes-list-map-keys"),
                    all,
                    "entries must all be names of item properties",
                );
            } else {
                let item = &schema["items"];
                let required = texts(item, "required").contains(key);
                if !required && item["properties"][key]["default"].is_null() {
                    let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    e.required(format!("{path}.items.properties[{key}].default"), detail);
                }
            }
        }
    } else if !keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        e.invalid(format!("{path}.x-kubernetes-list-type"), list_type, detail);
    }
}

fn immutable(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let established = super::is_true(old, "Established");
    let mut e = Errors(FieldErrors::new());
    let mut same = |path: &str, pointer: &str, always: bool| {
        let (is, was) = (new.pointer(pointer), old.pointer(pointer));
        if is != was && (always || established) {
            e.invalid(path, is.cloned().unwrap_or_default(), "field is immutable");
        }
    };
    same("spec.group", "/spec/group", true);
    same("spec.scope", "/spec/scope", false);
    same("spec.names.kind", "/spec/names/kind", false);
    same("spec.names.plural", "/spec/names/plural", true);
    let names: Vec<&str> = items(&new["spec"], "versions")
        .iter()
        .map(|v| text(v, "name"))
        .collect();
    for (i, stored) in texts(&old["status"], "storedVersions").iter().enumerate() {
        if !names.contains(&stored.as_str()) {
            let detail = format!(
                "missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {stored} and removes {stored} from \
                 status.storedVersions"
            );
            e.invalid(format!("status.storedVersions[{i}]"), stored.as_str(), detail);
        }
    }
    errors.append(e.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd() -> Value {
        json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]}})
    }

    #[test]
    fn refusals() {
        assert_eq!(definition(&crd()).0, []);
        let check = |change: &dyn Fn(&mut Value), expected: &str| {
            let mut crd = crd();
            change(&mut crd);
            let found = definition(&crd)
                .0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            assert_eq!(found, expected);
        };
        check(
            &|c| c["metadata"]["name"] = "x".into(),
            r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#,
        );
        check(
            &|c| c["spec"]["conversion"] = json!({"strategy": "Webhook"}),
            "spec.conversion.strategy: Forbidden: conversion webhooks are not supported by this server",
        );
        check(
            &|c| {
                let spec = &mut c["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
                spec["x-kubernetes-validations"] = json!([{"rule": "true"}]);
            },
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations: Forbidden: validation \
             rules in CEL are not supported by this server",
        );
        check(
            &|c| c["spec"]["versions"][0]["schema"] = Value::Null,
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        );
    }
}
