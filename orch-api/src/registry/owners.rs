//! Who owns which field (`metadata.managedFields`), kept on every write.

use super::{Scope, options::FieldValidation};
use orch_core::{GroupVersionKind, Status};
use serde_json::Value;

impl Scope<'_> {
    /// Records `manager` as the owner of everything in a new object.
    pub(crate) fn own_create(&self, object: &mut Value, manager: &str) -> Result<(), Status> {
        let _ = (object, manager);
        Ok(())
    }

    /// Records `manager` as the owner of what `new` changes in `old`.
    pub(crate) fn own_update(&self, old: &Value, new: &mut Value, manager: &str) -> Result<(), Status> {
        let _ = (old, new, manager);
        Ok(())
    }

    /// Applies the intent of `manager` to `old`.
    pub(crate) fn own_apply(
        &self,
        old: Option<&Value>,
        intent: Value,
        manager: &str,
        force: bool,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let _ = (old, intent, manager, force, validation);
        Err(Status::internal("apply is not available"))
    }

    /// Where an update changes nothing but times of managed fields, keeps the old times.
    pub(crate) fn keep_owner_times(&self, new: &mut Value, old: &Value) {
        let _ = (new, old);
    }
}

/// Refuses an apply document that is of another kind or carries managed fields.
pub(crate) fn check_applied(intent: &Value, gvk: &GroupVersionKind) -> Result<(), Status> {
    let text = |name: &str| intent.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    if kind.is_empty() || version.is_empty() {
        let what = if kind.is_empty() { "kind" } else { "apiVersion" };
        return Err(Status::bad_request(format!(
            "invalid object type: {what} must be set"
        )));
    }
    let expected = gvk.api_version();
    if kind != gvk.kind || version != expected {
        let message = format!(
            "failed to create typed patch object: invalid object type: {version}, Kind={kind}; expected {expected}, Kind={}",
            gvk.kind
        );
        return Err(Status::bad_request(message));
    }
    if super::meta::field(intent, "managedFields").is_some() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}
