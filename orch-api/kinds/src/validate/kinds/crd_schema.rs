//! Schemas of custom resources: what OpenAPI v3 allows here, and that they are structural.
//!
//! A structural schema says of every value what it is, outside of `allOf`, `anyOf`, `oneOf` and `not`
//! (`apiextensions-apiserver/pkg/apiserver/schema`). Expressions in `x-kubernetes-validations` are not compiled here.

use super::crd_openapi::{Context, openapi};
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use serde_json::{Value, json};

/// How deep schemas may nest: more is surely a mistake, and recursion must end.
const DEPTH: usize = 64;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks `validation.openAPIV3Schema`, if there is one. With `status`, the status subresource is on.
pub(super) fn schema(errors: &mut FieldErrors, path: &Path<'_>, validation: &Value, status: bool) {
    let Some(schema) = validation.at("openAPIV3Schema").some() else {
        return;
    };
    let path = path.child("openAPIV3Schema");
    if status {
        root_fields(errors, &path, schema);
    }
    if schema.flag("nullable") {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let mut structural = FieldErrors::new();
    invariants(&mut structural, &path, schema, Level::Root, DEPTH);
    complete(&mut structural, &path, &path, schema, schema, DEPTH);
    structural.0.sort_by_key(ToString::to_string);
    errors.append(structural);
    openapi(errors, &path, schema, Context::ROOT, DEPTH);
}

const AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// With a status subresource, the root may have only what still holds when the status is taken out.
fn root_fields(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value) {
    let kind = schema.text("type");
    if !kind.is_empty() && kind != "object" {
        errors.invalid(
            &path.child("type"),
            kind,
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
        return;
    }
    let known = |key: &str| AT_ROOT.iter().any(|(name, _)| *name == key);
    let other = schema
        .as_object()
        .into_iter()
        .flatten()
        .any(|(key, v)| !v.is_null() && !known(key));
    if other {
        let names: Vec<&str> = AT_ROOT.iter().map(|(_, shown)| *shown).collect();
        errors.invalid(
            path,
            schema.clone(),
            format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            ),
        );
    }
}

fn is_int_or_string(options: &Value) -> bool {
    *options == json!([{"type": "integer"}, {"type": "string"}])
}

fn invariants(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value, level: Level, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let kind = schema.text("type");
    let (int_or_string, preserve) = (
        schema.flag("x-kubernetes-int-or-string"),
        schema.flag("x-kubernetes-preserve-unknown-fields"),
    );
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let type_path = path.child("type");
    if kind == "array" && !schema.has("items") {
        errors.required(&path.child("items"), "must be specified");
    }
    if schema.at("items").is_object() {
        invariants(
            errors,
            &path.child("items"),
            schema.at("items"),
            Level::Item,
            depth,
        );
    }
    let properties = path.child("properties");
    for (name, property) in schema.entries("properties") {
        invariants(errors, &properties.key(name), property, Level::Field, depth);
    }
    let additional = schema.at("additionalProperties");
    if !additional.is_null() {
        if level == Level::Root {
            errors.forbidden(
                &path.child("additionalProperties"),
                "must not be used at the root",
            );
        }
        if additional.is_object() {
            invariants(
                errors,
                &path.child("additionalProperties"),
                additional,
                Level::Field,
                depth,
            );
        }
        if embedded {
            errors.forbidden(
                &path.child("additionalProperties"),
                "must not be used if x-kubernetes-embedded-resource is set",
            );
        }
    }
    if int_or_string {
        for key in [
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-embedded-resource",
        ] {
            if schema.flag(key) {
                errors.invalid(
                    &path.child(key),
                    true,
                    "must be false if x-kubernetes-int-or-string is true",
                );
            }
        }
    }
    let skip_any = is_int_or_string(schema.at("anyOf"));
    let skip_all = schema
        .list("allOf")
        .first()
        .is_some_and(|first| is_int_or_string(first.at("anyOf")));
    value_validation(errors, path, schema, skip_any, skip_all, depth);
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        if kind.is_empty() {
            errors.required(&type_path, why)
        } else {
            errors.invalid(&type_path, kind, why)
        }
    } else if kind.is_empty() && !int_or_string && !preserve {
        errors.required(
            &type_path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&type_path, kind, "must be object at the root");
    }
    if level == Level::Root || embedded {
        for name in ["kind", "apiVersion"] {
            let property = schema.at("properties").at(name);
            if !property.is_null() && property.text("type") != "string" {
                errors.invalid(
                    &properties.key(name).child("type"),
                    property.text("type"),
                    "must be string",
                );
            }
        }
    }
    metadata(
        errors,
        &properties.key("metadata"),
        schema.at("properties").at("metadata"),
        level,
        embedded,
    );
    let empty = schema
        .at("properties")
        .as_object()
        .is_none_or(serde_json::Map::is_empty);
    if embedded && !preserve && empty {
        errors.required(
            &properties,
            "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        );
    }
}

/// The metadata is given; a schema may narrow the names alone.
fn metadata(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value, level: Level, embedded: bool) {
    if schema.is_null() {
        return;
    }
    if (level == Level::Root || embedded) && schema.text("type") != "object" {
        errors.invalid(&path.child("type"), schema.text("type"), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let known = |key: &str| matches!(key, "type" | "properties" | "default");
    let more = schema
        .as_object()
        .into_iter()
        .flatten()
        .any(|(k, v)| !known(k) && !v.is_null())
        || schema
            .entries("properties")
            .any(|(k, _)| !matches!(k.as_str(), "name" | "generateName"));
    if more {
        errors.forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

fn value_validation(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    schema: &Value,
    skip_any: bool,
    skip_all: bool,
    depth: usize,
) {
    for list in ["anyOf", "allOf", "oneOf"] {
        if list == "anyOf" && skip_any {
            continue;
        }
        let list_path = path.child(list);
        for (i, nested_schema) in schema.list(list).iter().enumerate() {
            let skip = list == "allOf" && skip_all && i == 0;
            nested(errors, &list_path.index(i), nested_schema, skip, depth);
        }
    }
    if schema.at("not").is_object() {
        nested(errors, &path.child("not"), schema.at("not"), false, depth);
    }
    let pattern = schema.text("pattern");
    if !pattern.is_empty()
        && let Err(why) = regex::Regex::new(pattern)
    {
        let why = why.to_string().lines().last().unwrap_or_default().to_owned();
        errors.invalid(
            &path.child("pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {why}"),
        );
    }
}

/// A schema below `allOf` and the like only narrows: it may not say what a value is.
fn nested(errors: &mut FieldErrors, path: &Path<'_>, schema: &Value, skip_any: bool, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    value_validation(errors, path, schema, skip_any, false, depth);
    if schema.at("items").is_object() {
        nested(errors, &path.child("items"), schema.at("items"), false, depth);
    }
    let properties = path.child("properties");
    for (name, property) in schema.entries("properties") {
        nested(errors, &properties.key(name), property, false, depth);
    }
    for (key, why) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let value = schema.at(key);
        if !(value.is_null() || *value == false || *value == "" || *value == json!([])) {
            errors.forbidden(&path.child(key), why);
        }
    }
    if schema.at("properties").has("metadata") {
        errors.forbidden(
            &properties.key("metadata"),
            "must not be specified in a nested context",
        );
    }
}

/// Everything that `allOf` and the like mention must be specified outside of them: `value` is the narrowing schema at
/// `value_path`, `schema` the structural one at `path`.
fn complete(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    value_path: &Path<'_>,
    value: &Value,
    schema: &Value,
    depth: usize,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let each = |errors: &mut FieldErrors, nested_path: &Path<'_>, nested: &Value| {
        complete(errors, path, nested_path, nested, schema, depth);
        if nested.at("items").is_object() {
            member(
                errors,
                &path.child("items"),
                &nested_path.child("items"),
                nested.at("items"),
                schema.at("items"),
                depth,
            );
        }
        for (name, property) in nested.entries("properties") {
            let own = path.child("properties");
            let theirs = nested_path.child("properties");
            member(
                errors,
                &own.key(name),
                &theirs.key(name),
                property,
                schema.at("properties").at(name),
                depth,
            );
        }
    };
    if value.at("not").is_object() {
        each(errors, &value_path.child("not"), value.at("not"));
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for (i, nested) in value.list(list).iter().enumerate() {
            each(errors, &value_path.child(list).index(i), nested);
        }
    }
}

fn member(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    value_path: &Path<'_>,
    value: &Value,
    schema: &Value,
    depth: usize,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    if schema.is_null() {
        errors.required(path, format!("because it is defined in {value_path}"));
        return;
    }
    complete(errors, path, value_path, value, schema, depth);
    if value.at("items").is_object() {
        member(
            errors,
            &path.child("items"),
            &value_path.child("items"),
            value.at("items"),
            schema.at("items"),
            depth,
        );
    }
    for (name, property) in value.entries("properties") {
        let (own, theirs) = (path.child("properties"), value_path.child("properties"));
        member(
            errors,
            &own.key(name),
            &theirs.key(name),
            property,
            schema.at("properties").at(name),
            depth,
        );
    }
}
