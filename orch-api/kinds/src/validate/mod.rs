//! Validation: upstream's rules for the built-in kinds, with its texts (`pkg/apis/*/validation`, Kubernetes 1.36,
//! default feature gates).
//!
//! Objects are taken to be decoded against their schema and defaulted ([`crate::defaults::apply`]); a member of the
//! wrong JSON type counts as absent and never panics. Rules that only spare objects stored by releases before 1.36
//! are left out, because there are none.

mod check;
pub(crate) mod ip;
mod kinds;
mod meta;
mod pod;
mod service;
mod workload;

pub use meta::{NameRule, field_manager};

use crate::field::{FieldErrors, Path};
use crate::json::Json;
use orch_core::GroupVersionKind;
use serde_json::Value;

/// How names of `gvk` are checked; custom resources' names are DNS subdomains.
#[must_use]
pub fn name_rule(gvk: &GroupVersionKind) -> NameRule {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Service" | "Namespace") => NameRule::Label,
        ("rbac.authorization.k8s.io", _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

fn namespaced(gvk: &GroupVersionKind) -> bool {
    crate::resources::by_kind(gvk).is_none_or(|def| def.namespaced)
}

/// What is wrong with a new `object` of kind `gvk`. Its name must be set (also a generated one).
#[must_use]
pub fn validate_create(gvk: &GroupVersionKind, object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let e = &mut errors;
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::create(e, object),
        ("", "PodTemplate") => pod::pod_template(e, object),
        ("", "Binding") => pod::binding(e, object),
        ("", "Service") => service::create(e, object),
        ("apps", "Deployment") => workload::deployment(e, object),
        ("apps", "ReplicaSet") => workload::replica_set(e, object),
        ("apps", "ControllerRevision") => workload::controller_revision(e, object),
        _ => kinds::create(e, gvk, object, namespaced(gvk), name_rule(gvk)),
    }
    // The generic check comes after the kind's own, and only if that found nothing.
    let answered = matches!(gvk.kind.as_str(), "Binding" | "TokenRequest") || gvk.kind.ends_with("Review");
    if errors.is_empty() && !answered {
        let path = Path::new("metadata");
        meta::generic(
            &mut errors,
            &path,
            object.at("metadata"),
            namespaced(gvk),
            NameRule::PathSegment,
        );
    }
    errors
}

fn common_update(gvk: &GroupVersionKind, new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata");
    meta::generic(
        &mut errors,
        &path,
        new.at("metadata"),
        namespaced(gvk),
        NameRule::PathSegment,
    );
    meta::update_generic(&mut errors, new, old);
    errors
}

/// What is wrong with replacing `old` by `new`. The resource version must be set: an unconditional update takes that
/// of `old` first.
#[must_use]
pub fn validate_update(gvk: &GroupVersionKind, new: &Value, old: &Value) -> FieldErrors {
    let mut errors = common_update(gvk, new, old);
    let e = &mut errors;
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::update(e, new, old),
        ("", "PodTemplate") => {
            meta::update(e, new, old);
            pod::template(e, &Path::new("template"), new.at("template"));
        }
        ("", "Service") => service::update(e, new, old),
        ("apps", "Deployment") => workload::update_deployment(e, new, old),
        ("apps", "ReplicaSet") => workload::update_replica_set(e, new, old),
        ("apps", "ControllerRevision") => workload::update_controller_revision(e, new, old),
        _ => kinds::update(e, gvk, new, old, namespaced(gvk), name_rule(gvk)),
    }
    errors
}

/// What is wrong with writing the status of `new` over that of `old`.
#[must_use]
pub fn validate_status_update(gvk: &GroupVersionKind, new: &Value, old: &Value) -> FieldErrors {
    validate_subresource_update(gvk, "status", new, old)
}

/// Like [`validate_update`] for the subresource `name` (`status`, `finalize`, `ephemeralcontainers`, `resize`).
#[must_use]
pub fn validate_subresource_update(
    gvk: &GroupVersionKind,
    name: &str,
    new: &Value,
    old: &Value,
) -> FieldErrors {
    let mut errors = common_update(gvk, new, old);
    let e = &mut errors;
    match (gvk.group.as_str(), gvk.kind.as_str(), name) {
        ("", "Pod", "status") => pod::update_status(e, new, old),
        ("", "Pod", "ephemeralcontainers") => pod::update_ephemeral_containers(e, new, old),
        ("", "Pod", "resize") => pod::resize(e, new, old),
        ("", "Service", "status") => service::update_status(e, new, old),
        ("apps", "Deployment", "status") => workload::update_deployment_status(e, new, old),
        ("apps", "ReplicaSet", "status") => workload::update_replica_set_status(e, new, old),
        _ => kinds::update_subresource(e, gvk, name, new, old),
    }
    errors
}

/// Metadata of a new object of any kind: what custom resources need.
#[must_use]
pub fn validate_object_meta(object: &Value, namespaced: bool, rule: NameRule) -> FieldErrors {
    let mut errors = FieldErrors::new();
    meta::create(&mut errors, object, namespaced, rule);
    errors
}

/// Metadata of an updated object of any kind.
#[must_use]
pub fn validate_object_meta_update(new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    meta::update(&mut errors, new, old);
    errors
}

#[cfg(test)]
mod tests;
