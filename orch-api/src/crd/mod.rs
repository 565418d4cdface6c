//! Custom resources: definitions become served resources of the same registry.
//!
//! - [`check`]: what may be in a CustomResourceDefinition. Rules in CEL and conversion webhooks are refused, not
//!   ignored, until they are served.
//! - [`names`]: which names a definition gets, and its conditions; pure.
//! - [`openapi`], [`defaults`]: objects against their version's structural schema.
//! - [`strategy`]: a custom kind's behaviour in the registry.
//! - [`serve`]: the loop that follows the definitions, serves them, and cleans up after deleted ones.

pub(crate) mod check;
mod defaults;
mod names;
mod openapi;
mod serve;
mod strategy;

pub(crate) use serve::follow;

use serde_json::Value;

/// The finalizer that holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A text member, empty if absent.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list member.
fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The texts of a list member.
fn texts(value: &Value, field: &str) -> Vec<String> {
    items(value, field)
        .iter()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

/// A condition of a definition.
fn condition<'a>(crd: &'a Value, kind: &str) -> Option<&'a Value> {
    items(crd.get("status")?, "conditions")
        .iter()
        .find(|c| c["type"] == kind)
}

/// Whether a condition is true.
fn is_true(crd: &Value, kind: &str) -> bool {
    condition(crd, kind).is_some_and(|c| c["status"] == "True")
}

/// Sets a condition; its time changes with its status. Whether anything changed.
fn set_condition(crd: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) -> bool {
    let wanted = [("status", status), ("reason", reason), ("message", message)];
    let held = condition(crd, kind);
    if held.is_some_and(|c| wanted.iter().all(|(field, value)| text(c, field) == *value)) {
        return false;
    }
    let since = held
        .filter(|c| text(c, "status") == status)
        .map_or(now, |c| text(c, "lastTransitionTime"))
        .to_owned();
    let new = serde_json::json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since});
    if !crd["status"].is_object() {
        crd["status"] = serde_json::json!({});
    }
    if !crd["status"]["conditions"].is_array() {
        crd["status"]["conditions"] = serde_json::json!([]);
    }
    if let Some(list) = crd["status"]["conditions"].as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == kind) {
            Some(held) => *held = new,
            None => list.push(new),
        }
    }
    true
}
