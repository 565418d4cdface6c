//! The `scale` subresource: an object seen as `autoscaling/v1` `Scale`, and a `Scale` put back into it.

use crate::field::{FieldErrors, Path};
use crate::json::{Json, JsonMut};
use orch_core::selector::{LabelSelector, SelectorError};
use serde_json::{Map, Value, json};

/// Why a `Scale` can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// The Scale itself is wrong; upstream answers `Scale.autoscaling "x" is invalid: …`.
    #[error("{0}")]
    Invalid(FieldErrors),
    /// It was made for an object that is gone.
    #[error("Precondition failed: UID in precondition: {asked}, UID in object meta: {held}")]
    Uid {
        /// UID in the Scale.
        asked: String,
        /// UID of the object.
        held: String,
    },
}

/// `object` (a Deployment or ReplicaSet, or anything with `spec.replicas` and `spec.selector`) as a Scale.
///
/// # Errors
/// If its selector can't be read.
pub fn scale_of(object: &Value) -> Result<Value, SelectorError> {
    let selector = LabelSelector::from_value(object.at("spec").at("selector").some())?;
    let mut meta = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at("metadata").at(key).some() {
            meta.insert(key.into(), value.clone());
        }
    }
    let mut spec = Map::new();
    if let Some(replicas) = object.at("spec").int("replicas").filter(|n| *n != 0) {
        spec.insert("replicas".into(), replicas.into());
    }
    let mut status = json!({"replicas": object.at("status").int("replicas").unwrap_or(0)});
    let text = selector.to_string();
    if !text.is_empty() {
        status.set("selector", text);
    }
    Ok(
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status}),
    )
}

/// Takes the replicas and resource version of `scale` over into `object`.
///
/// # Errors
/// If the number is negative, or the Scale is for another UID; `object` is then unchanged.
pub fn apply_scale(object: &mut Value, scale: &Value) -> Result<(), ScaleError> {
    let replicas = scale.at("spec").int("replicas").unwrap_or(0);
    let mut errors = FieldErrors::new();
    if replicas < 0 {
        let spec = Path::new("spec");
        errors.invalid(
            &spec.child("replicas"),
            replicas,
            "must be greater than or equal to 0",
        );
    }
    if !errors.is_empty() {
        return Err(ScaleError::Invalid(errors));
    }
    let (asked, held) = (
        scale.at("metadata").text("uid"),
        object.at("metadata").text("uid"),
    );
    if !asked.is_empty() && asked != held {
        return Err(ScaleError::Uid {
            asked: asked.into(),
            held: held.into(),
        });
    }
    let version = scale.at("metadata").at("resourceVersion").clone();
    if let Some(spec) = object.ensure("spec") {
        spec.set("replicas", replicas);
    }
    if let Some(meta) = object.ensure("metadata") {
        if version.is_null() {
            meta.take_key("resourceVersion");
        } else {
            meta.set("resourceVersion", version);
        }
    }
    Ok(())
}
