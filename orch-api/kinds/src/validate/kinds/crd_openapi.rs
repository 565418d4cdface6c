//! What OpenAPI v3 allows in schemas of custom resources, and the extensions of Kubernetes to it.

use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{one_of, strings};
use serde_json::Value;
use std::collections::BTreeSet;

#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    root: bool,
    in_meta: bool,
    no_default: Option<&'a str>,
}

impl Context<'_> {
    pub(super) const ROOT: Self = Self {
        root: true,
        in_meta: false,
        no_default: None,
    };
}

pub(super) fn openapi(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    schema: &Value,
    context: Context<'_>,
    depth: usize,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    keywords(errors, path, schema, context);
    let inner = Context {
        root: false,
        ..context
    };
    let additional = schema.at("additionalProperties");
    if !additional.is_null() {
        let has_properties = schema.at("properties").as_object().is_some_and(|p| !p.is_empty());
        if has_properties && *additional != true {
            errors.forbidden(
                &path.child("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
        if additional.is_object() {
            let why = context
                .in_meta
                .then_some("inside additionalProperties applying to object metadata");
            let inner = Context {
                no_default: why.or(context.no_default),
                ..inner
            };
            openapi(
                errors,
                &path.child("additionalProperties"),
                additional,
                inner,
                depth,
            );
        }
    }
    let properties = path.child("properties");
    for (name, property) in schema.entries("properties") {
        let is_meta = matches!(name.as_str(), "metadata" | "kind" | "apiVersion")
            && (context.root || schema.flag("x-kubernetes-embedded-resource"));
        let why = format!("in top-level {name}");
        let no_default = if is_meta && context.root {
            Some(why.as_str())
        } else {
            context.no_default
        };
        let inner = Context {
            root: false,
            in_meta: context.in_meta || is_meta,
            no_default,
        };
        openapi(errors, &properties.key(name), property, inner, depth);
    }
    if schema.at("not").is_object() {
        openapi(errors, &path.child("not"), schema.at("not"), inner, depth);
    }
    for list in ["allOf", "oneOf", "anyOf"] {
        let list_path = path.child(list);
        for (i, one) in schema.list(list).iter().enumerate() {
            openapi(errors, &list_path.index(i), one, inner, depth);
        }
    }
    if schema.at("items").is_object() {
        openapi(errors, &path.child("items"), schema.at("items"), inner, depth);
    }
    extensions(errors, path, schema);
}

fn keywords(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value, context: Context<'_>) {
    let kind = schema.text("type");
    let kinds = ["array", "boolean", "integer", "number", "object", "string"];
    if !kind.is_empty() && !kinds.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &kinds);
    }
    if let Some(why) = context.no_default.filter(|_| schema.has("default")) {
        errors.forbidden(&path.child("default"), format!("must not be set {why}"));
    }
    for key in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if schema.has(key) {
            errors.forbidden(&path.child(key), format!("{key} is not supported"));
        }
    }
    if kind == "null" {
        errors.forbidden(
            &path.child("type"),
            "type cannot be set to null, use nullable as an alternative",
        );
    }
    if schema.at("items").is_array() {
        errors.forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        );
    }
    if context.in_meta && schema.flag("x-kubernetes-embedded-resource") {
        errors.forbidden(
            &path.child("x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        );
    }
    if schema.flag("uniqueItems") {
        errors.forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
}

fn extensions(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value) {
    let kind = schema.text("type");
    if schema.at("x-kubernetes-preserve-unknown-fields") == false {
        errors.invalid(
            &path.child("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        );
    }
    let mut of_type = |wanted: &str, extension: &str| {
        if kind != wanted {
            let (path, why) = (
                path.child("type"),
                format!("must be {wanted} if {extension} is specified"),
            );
            if kind.is_empty() {
                errors.required(&path, why)
            } else {
                errors.invalid(&path, kind, why)
            }
        }
    };
    if schema.has("x-kubernetes-map-type") {
        of_type("object", "x-kubernetes-map-type");
    }
    if schema.has("x-kubernetes-list-type") {
        of_type("array", "x-kubernetes-list-type");
    }
    if let Some(map) = schema.at("x-kubernetes-map-type").as_str() {
        one_of(
            errors,
            &path.child("x-kubernetes-map-type"),
            map,
            &["atomic", "granular"],
        );
    }
    let list_path = path.child("x-kubernetes-list-type");
    let list = schema.at("x-kubernetes-list-type").as_str();
    let (items, items_path) = (schema.at("items"), path.child("items"));
    if list == Some("set") && kind == "array" {
        const WHY: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let inner = items.at("x-kubernetes-list-type");
        if items.text("type") == "array" && !inner.is_null() && inner != "atomic" {
            errors.invalid(&items_path.child("x-kubernetes-list-type"), inner.clone(), WHY);
        }
        if items.text("type") == "object" && items.at("x-kubernetes-map-type") != "atomic" {
            errors.invalid(&items_path.child("x-kubernetes-map-type"), inner.clone(), WHY);
        }
    }
    if let Some(list) = list {
        one_of(errors, &list_path, list, &["atomic", "set", "map"]);
    }
    let keys = schema.list("x-kubernetes-list-map-keys");
    if !keys.is_empty() {
        const WHY: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list {
            None => errors.required(&list_path, WHY),
            Some("map") => {}
            Some(other) => errors.invalid(&list_path, other, WHY),
        }
    }
    if list == Some("map") {
        map_list(errors, path, schema);
    }
    if matches!(list, Some("map" | "set")) && items.flag("nullable") {
        errors.forbidden(
            &items_path.child("nullable"),
            format!(
                "cannot be nullable when x-kubernetes-list-type is {}",
                list.unwrap_or_default()
            ),
        );
    }
    rules(errors, &path.child("x-kubernetes-validations"), schema);
}

/// Rules in the expression language: their form, not the expressions.
fn rules(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value) {
    const EMPTY: &str = "must be non-empty if specified";
    const BREAKS: &str = "must not contain line breaks";
    let broken = |text: &str| text.contains(['\n', '\r']);
    for (i, one) in schema.list("x-kubernetes-validations").iter().enumerate() {
        let here = path.index(i);
        let (rule, message) = (one.text("rule").trim(), one.text("message"));
        if rule.is_empty() {
            errors.required(&here.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&here.child("message"), message, EMPTY);
        } else if broken(message.trim()) {
            errors.invalid(&here.child("message"), message, BREAKS);
        } else if broken(rule) && message.is_empty() {
            errors.required(
                &here.child("message"),
                "message must be specified if rule contains line breaks",
            );
        }
        let expression = one.text("messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.required(
                &here.child("messageExpression"),
                "messageExpression must be non-empty if specified",
            );
        }
        if one.has("reason") {
            one_of(errors, &here.child("reason"), one.text("reason"), &REASONS);
        }
        let field = one.text("fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            errors.invalid(&here.child("fieldPath"), field, EMPTY);
        }
        if broken(field) {
            errors.invalid(&here.child("fieldPath"), field, BREAKS);
        }
    }
}

const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// A list whose items have keys: the keys are scalar properties that every item has.
fn map_list(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value) {
    let keys = schema.list("x-kubernetes-list-map-keys");
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let (items, items_path) = (schema.at("items"), path.child("items"));
    if keys.is_empty() {
        errors.required(&keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    if items.is_null() {
        errors.required(&items_path, "must have a schema if x-kubernetes-list-type is map");
        return;
    }
    if items.text("type") != "object" {
        errors.invalid(
            &items_path.child("type"),
            items.text("type"),
            "must be object if parent array's x-kubernetes-list-type is map",
        );
        return;
    }
    let mut seen = BTreeSet::new();
    let properties = items_path.child("properties");
    for key in strings(keys) {
        let (property, here) = (items.at("properties").at(key), properties.key(key));
        if property.is_null() {
            errors.invalid(
                &keys_path,
                keys.to_vec(),
                "entries must all be names of item properties",
            );
        } else if matches!(property.text("type"), "array" | "object") {
            errors.invalid(
                &here.child("type"),
                items.text("type"),
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            );
        }
        if !seen.insert(key) {
            errors.invalid(&keys_path, keys.to_vec(), "must not contain duplicate entries");
        }
        let required = strings(items.list("required")).any(|r| r == key);
        if !property.is_null() && !required && !property.has("default") {
            errors.required(
                &here.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if property.flag("nullable") {
            errors.forbidden(
                &here.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}
