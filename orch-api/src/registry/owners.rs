//! Who owns which field (`metadata.managedFields`), kept on every write.

use super::{Scope, meta, options::FieldValidation};
use orch_core::{
    GroupVersionKind, Status,
    status::{StatusCause, StatusDetails, StatusReason},
};
use orch_kinds::{
    managed::{self, ApplyError, FieldSet, Write},
    schema,
};
use serde_json::Value;

impl Scope<'_> {
    fn write<R>(&self, manager: &str, then: impl FnOnce(&Write<'_>) -> R) -> R {
        let ty = self.resource.strategy.ty();
        let subresource = self.info.subresource.as_str();
        let reset: FieldSet = managed::reset_fields(ty, subresource);
        let api_version = self.resource.gvk.api_version();
        then(&Write {
            ty,
            manager,
            subresource,
            api_version: &api_version,
            now: self.now(),
            reset: &reset,
        })
    }

    /// Records `manager` as the owner of everything in a new object.
    pub(crate) fn own_create(&self, object: &mut Value, manager: &str) {
        self.write(manager, |write| managed::track_update(None, object, write));
    }

    /// Records `manager` as the owner of what `new` changes in `old`.
    pub(crate) fn own_update(&self, old: &Value, new: &mut Value, manager: &str) {
        self.write(manager, |write| managed::track_update(Some(old), new, write));
    }

    /// Like [`Scope::own_update`] for a document of another type, such as the object's scale.
    pub(crate) fn own_update_as(
        &self,
        old: &Value,
        new: &mut Value,
        manager: &str,
        ty: &schema::TypeRef,
        api_version: &str,
    ) {
        let reset = FieldSet::default();
        let write = Write {
            ty,
            manager,
            subresource: "scale",
            api_version,
            now: self.now(),
            reset: &reset,
        };
        managed::track_update(Some(old), new, &write);
    }

    /// Applies the intent of `manager` to `old`. The result is normalized but not yet defaulted.
    pub(crate) fn own_apply(
        &self,
        old: Option<&Value>,
        intent: &Value,
        manager: &str,
        force: bool,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let applied = self
            .write(manager, |write| managed::apply(old, intent, force, write))
            .map_err(|e| refused(&e))?;
        let decoded = schema::normalize(self.resource.strategy.ty(), applied.object)
            .map_err(|e| Status::bad_request(e.to_string()))?;
        self.strict(decoded.strict, validation, |error| {
            Status::bad_request(format!("error strict decoding YAML: {error}"))
        })?;
        let mut value = decoded.value;
        value["kind"] = self.resource.gvk.kind.as_str().into();
        value["apiVersion"] = self.resource.gvk.api_version().into();
        Ok(value)
    }

    /// Where an update changes nothing but times of managed fields, keeps the old times.
    pub(crate) fn keep_owner_times(&self, new: &mut Value, old: &Value) {
        let (Some(fields), Some(held)) = (
            meta::field(new, "managedFields"),
            meta::field(old, "managedFields"),
        ) else {
            return;
        };
        if fields == held || !same_but_times(fields, held) {
            return;
        }
        let held = held.clone();
        let written = meta::meta_mut(new).insert("managedFields".into(), held);
        // Only when nothing else changed either are the old times right.
        if *new != *old
            && let Some(written) = written
        {
            meta::meta_mut(new).insert("managedFields".into(), written);
        }
    }
}

fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else {
        return false;
    };
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        if let Some(map) = entry.as_object_mut() {
            map.remove("time");
        }
        entry
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| timeless(a) == timeless(b))
}

/// The status of an apply that is refused.
fn refused(error: &ApplyError) -> Status {
    match error {
        ApplyError::BadRequest(text) => Status::bad_request(text),
        ApplyError::Untyped(text) => {
            let mut status = Status::new(StatusReason::Unknown, text);
            status.code = 500;
            status
        }
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts
                .iter()
                .map(|c| StatusCause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", c.manager),
                    field: c.path.clone(),
                })
                .collect();
            Status::new(StatusReason::Conflict, error.to_string()).with_details(StatusDetails {
                causes,
                ..StatusDetails::default()
            })
        }
    }
}

/// Refuses an apply document that is of another kind.
pub(crate) fn check_applied(intent: &Value, gvk: &GroupVersionKind) -> Result<(), Status> {
    let text = |name: &str| intent.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let expected = gvk.api_version();
    if !kind.is_empty() && !version.is_empty() && (kind != gvk.kind || version != expected) {
        let message = format!(
            "failed to create typed patch object ({}; {kind}): expected {expected}, Kind={}",
            version, gvk.kind
        );
        return Err(Status::bad_request(message));
    }
    Ok(())
}
