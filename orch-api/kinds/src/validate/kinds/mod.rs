//! The smaller kinds.

use super::meta::{self, NameRule};
use crate::field::FieldErrors;
use orch_core::GroupVersionKind;
use serde_json::Value;

pub(super) fn create(
    errors: &mut FieldErrors,
    gvk: &GroupVersionKind,
    object: &Value,
    namespaced: bool,
    rule: NameRule,
) {
    let _ = gvk;
    meta::create(errors, object, namespaced, rule);
}

pub(super) fn update(
    errors: &mut FieldErrors,
    gvk: &GroupVersionKind,
    new: &Value,
    old: &Value,
    namespaced: bool,
    rule: NameRule,
) {
    let _ = (gvk, namespaced, rule);
    meta::update(errors, new, old);
}

pub(super) fn update_subresource(
    errors: &mut FieldErrors,
    gvk: &GroupVersionKind,
    name: &str,
    new: &Value,
    old: &Value,
) {
    let _ = (gvk, name);
    meta::update(errors, new, old);
}
