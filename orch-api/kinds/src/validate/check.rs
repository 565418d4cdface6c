//! Small checks that many kinds share.

use crate::field::{BadValue, FieldErrors, Path};
use crate::json::Json;
use crate::strategy::semantic_eq;
use orch_core::validate as format;
use serde_json::Value;

pub(super) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const NOT_POSITIVE: &str = "must be greater than zero";
pub(super) const IMMUTABLE: &str = "field is immutable";

/// One error for each of `messages`.
pub(super) fn each(errors: &mut FieldErrors, path: &Path<'_>, value: &str, messages: Vec<String>) {
    for message in messages {
        errors.invalid(path, value, message);
    }
}

pub(super) fn each_number(errors: &mut FieldErrors, path: &Path<'_>, value: i64, messages: Vec<String>) {
    for message in messages {
        errors.invalid(path, value, message);
    }
}

pub(super) fn dns_label(errors: &mut FieldErrors, path: &Path<'_>, value: &str) {
    each(errors, path, value, format::dns1123_label(value));
}

pub(super) fn dns_subdomain(errors: &mut FieldErrors, path: &Path<'_>, value: &str) {
    each(errors, path, value, format::dns1123_subdomain(value));
}

pub(super) fn qualified_name(errors: &mut FieldErrors, path: &Path<'_>, value: &str) {
    each(errors, path, value, format::qualified_name(value));
}

/// A number that is there must not be negative.
pub(super) fn nonnegative(errors: &mut FieldErrors, path: &Path<'_>, value: Option<i64>) {
    if let Some(value) = value.filter(|v| *v < 0) {
        errors.invalid(path, value, NEGATIVE);
    }
}

pub(super) fn positive(errors: &mut FieldErrors, path: &Path<'_>, value: i64) {
    if value <= 0 {
        errors.invalid(path, value, NOT_POSITIVE);
    }
}

pub(super) fn required(errors: &mut FieldErrors, path: &Path<'_>, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
    }
}

/// `supported` must be sorted: the message lists it.
pub(super) fn one_of(errors: &mut FieldErrors, path: &Path<'_>, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        errors.not_supported(path, value, supported);
    }
}

/// Like [`one_of`], with an empty value reported as missing.
pub(super) fn required_one_of(errors: &mut FieldErrors, path: &Path<'_>, value: &str, supported: &[&str]) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        one_of(errors, path, value, supported);
    }
}

pub(super) fn immutable(errors: &mut FieldErrors, path: &Path<'_>, new: &Value, old: &Value) {
    if !semantic_eq(new, old) {
        errors.invalid(path, ordered(new), IMMUTABLE);
    }
}

/// A value as messages show it; a label selector with its members in upstream's order.
pub(super) fn ordered(value: &Value) -> BadValue {
    let (labels, expressions) = (value.get("matchLabels"), value.get("matchExpressions"));
    match (labels, expressions) {
        (Some(labels), Some(expressions)) => {
            let list: Vec<String> = expressions
                .items()
                .iter()
                .map(|e| {
                    let values = e
                        .get("values")
                        .map(|v| format!(",\"values\":{v}"))
                        .unwrap_or_default();
                    format!(
                        "{{\"key\":{},\"operator\":{}{values}}}",
                        e.at("key"),
                        e.at("operator")
                    )
                })
                .collect();
            BadValue::Raw(format!(
                "{{\"matchLabels\":{labels},\"matchExpressions\":[{}]}}",
                list.join(",")
            ))
        }
        _ => BadValue::Json(value.clone()),
    }
}

pub(super) fn labels(errors: &mut FieldErrors, path: &Path<'_>, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        qualified_name(errors, path, key);
        each(errors, path, value.string(), format::label_value(value.string()));
    }
}

/// A `LabelSelector` that may be absent.
pub(super) fn label_selector(errors: &mut FieldErrors, path: &Path<'_>, selector: &Value) {
    if selector.is_null() {
        return;
    }
    labels(errors, &path.child("matchLabels"), selector.at("matchLabels"));
    for (i, requirement) in selector.list("matchExpressions").iter().enumerate() {
        let here = path.child("matchExpressions");
        let here = here.index(i);
        let values = requirement.list("values");
        match requirement.text("operator") {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &here.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &here.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&here.child("operator"), other, "not a valid selector operator"),
        }
        qualified_name(errors, &here.child("key"), requirement.text("key"));
        for (j, value) in values.iter().enumerate() {
            each(
                errors,
                &here.child("values").index(j),
                value.string(),
                format::label_value(value.string()),
            );
        }
    }
}

/// A port given by number or by name.
pub(super) fn port_number_or_name(errors: &mut FieldErrors, path: &Path<'_>, port: &Value) {
    match port.as_str() {
        Some(name) => each(errors, path, name, format::port_name(name)),
        None => {
            let number = crate::json::number(port).unwrap_or(0);
            each_number(errors, path, number, format::port_number(number));
        }
    }
}

/// No `..` among the elements of a path.
pub(super) fn no_backsteps(errors: &mut FieldErrors, path: &Path<'_>, target: &str) {
    if target.split('/').any(|element| element == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// A relative path without `..`.
pub(super) fn local_descending_path(errors: &mut FieldErrors, path: &Path<'_>, target: &str) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(errors, path, target);
}

/// Like [`local_descending_path`], and not starting with two dots either.
pub(super) fn local_path(errors: &mut FieldErrors, path: &Path<'_>, target: &str) {
    local_descending_path(errors, path, target);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.invalid(path, target, "must not start with '..'");
    }
}

/// Strings of a list.
pub(super) fn strings(list: &[Value]) -> impl Iterator<Item = &str> {
    list.iter().map(Json::string)
}
