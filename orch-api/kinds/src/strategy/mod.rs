//! What is particular about creating, updating and deleting objects of each built-in kind.
//!
//! The API server calls, in this order: on create [`prepare_for_create`], [`crate::validate::validate_create`],
//! [`warnings_on_create`], [`canonicalize`]; on update the same with `update`; on a subresource
//! [`prepare_for_subresource`]. The functions are pure and take objects that are already defaulted.
//! They follow `pkg/registry/*/strategy.go` and `rest.BeforeCreate`, `BeforeUpdate` and `BeforeDelete`.
//!
//! Not here: names, UIDs and creation times of new objects (the server's), and the allocation of cluster IPs and
//! node ports.

mod delete;
mod equal;
mod fields;
mod pod;
mod scale;
mod service;
mod warnings;
mod warnings_pod;
mod workload;

pub use delete::{Deletion, graceful_period, mark_for_deletion};
pub use equal::semantic_eq;
pub use fields::{field_value, supports_field};
pub use pod::qos_class;
pub use scale::{ScaleError, apply_scale, scale_of};
pub use service::{needs_cluster_ip, needs_health_check_node_port, needs_node_port};
pub use warnings::{warnings_on_create, warnings_on_update};

use crate::json::{Json, JsonMut, empty};
use orch_core::GroupVersionKind;
use serde_json::{Map, Value, json};

/// How a kind behaves under the generic verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behavior {
    /// Whether an update of an object that is not there creates it.
    pub create_on_update: bool,
    /// Whether an update without a resource version overwrites whatever is there.
    pub unconditional_update: bool,
    /// What deletion does to dependents if the request does not say.
    pub propagation: Propagation,
}

/// What deletion does to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after the owner.
    Background,
    /// They are left behind.
    Orphan,
    /// The kind takes no part in garbage collection.
    Unsupported,
}

/// The behaviour of `gvk`; for kinds that are not built in, that of custom resources.
#[must_use]
pub fn behavior(gvk: &GroupVersionKind) -> Behavior {
    let kind = gvk.kind.as_str();
    let create_on_update = matches!(
        kind,
        "Service"
            | "Endpoints"
            | "Event"
            | "Lease"
            | "RuntimeClass"
            | "Role"
            | "RoleBinding"
            | "ClusterRole"
            | "ClusterRoleBinding"
    );
    let unconditional_update = match gvk.group.as_str() {
        ""
        | "apps"
        | "batch"
        | "events.k8s.io"
        | "rbac.authorization.k8s.io"
        | "discovery.k8s.io"
        | "scheduling.k8s.io" => true,
        "storage.k8s.io" => kind == "StorageClass",
        _ => false,
    };
    let propagation = match (gvk.group.as_str(), kind) {
        ("batch", "Job") => Propagation::Orphan,
        (_, "Event") => Propagation::Unsupported,
        _ => Propagation::Background,
    };
    Behavior {
        create_on_update,
        unconditional_update,
        propagation,
    }
}

/// Drops what a creator may not set, and sets what creation sets: the status, generation 1, and the like.
/// The name and UID must be set already (Jobs put them into their selector).
pub fn prepare_for_create(gvk: &GroupVersionKind, object: &mut Value) {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::create(object),
        ("", "Service") => service::create(object),
        ("", "Namespace") => {
            object.set("status", json!({"phase": "Active"}));
            if let Some(spec) = object.ensure("spec") {
                let mut finalizers = spec.list("finalizers").to_vec();
                if !finalizers.contains(&json!("kubernetes")) {
                    finalizers.push("kubernetes".into());
                }
                spec.set("finalizers", finalizers);
            }
        }
        ("", "Node") => {
            for (of, key) in [("spec", "configSource"), ("status", "config")] {
                if let Some(part) = object.at_mut(of) {
                    part.take_key(key);
                }
            }
        }
        ("", "ServiceAccount") => clean_secret_references(object),
        ("", "PodTemplate")
        | ("scheduling.k8s.io", "PriorityClass")
        | ("discovery.k8s.io", "EndpointSlice") => {
            set_generation(object, 1);
        }
        ("apps", "Deployment") => {
            object.set("status", empty());
            set_generation(object, 1);
        }
        ("apps", "ReplicaSet") => {
            object.set("status", json!({"replicas": 0}));
            set_generation(object, 1);
        }
        ("batch", "Job") => workload::create_job(object),
        ("policy", "PodDisruptionBudget") => {
            object.set(
                "status",
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
            );
            set_generation(object, 1);
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            object.set(
                "status",
                json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}),
            );
            remember_storage_version(object);
            set_generation(object, 1);
        }
        _ => {}
    }
}

/// Makes `new` a lawful successor of `old`: metadata that the system keeps, the old status, and a generation that
/// grows when what it counts has changed.
pub fn prepare_for_update(gvk: &GroupVersionKind, new: &mut Value, old: &Value) {
    keep(new, old, &["metadata", "generation"]);
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::update(new, old),
        ("", "Service") => service::update(new, old),
        ("", "Namespace") => {
            keep(new, old, &["spec", "finalizers"]);
            keep(new, old, &["status"]);
        }
        ("", "Node") => {
            keep(new, old, &["status"]);
            if !old.dig(&["spec", "configSource"]).is_object()
                && let Some(spec) = new.at_mut("spec")
            {
                spec.take_key("configSource");
            }
        }
        ("", "Secret") => {
            let kind = old.at("type").clone();
            if new.text("type").is_empty() {
                new.set("type", kind);
            }
        }
        ("", "ServiceAccount") => clean_secret_references(new),
        ("", "PodTemplate") => count_changes(new, old, &[&["template"]]),
        ("apps", "Deployment") => {
            keep(new, old, &["status"]);
            count_changes(new, old, &[&["spec"], &["metadata", "annotations"]]);
        }
        ("apps", "ReplicaSet") | ("batch", "Job") | ("policy", "PodDisruptionBudget") => {
            keep(new, old, &["status"]);
            count_changes(new, old, &[&["spec"]]);
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            keep(new, old, &["status"]);
            count_changes(new, old, &[&["spec"]]);
            remember_storage_version(new);
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            count_changes(
                new,
                old,
                &[
                    &["metadata", "labels"],
                    &["endpoints"],
                    &["ports"],
                    &["addressType"],
                ],
            );
        }
        _ => {}
    }
    keep_system_metadata(new, old);
}

/// Like [`prepare_for_update`] for the subresource `name` (`status`, `finalize`, `ephemeralcontainers`, `resize`),
/// which may change only what it is for.
pub fn prepare_for_subresource(gvk: &GroupVersionKind, name: &str, new: &mut Value, old: &Value) {
    keep(new, old, &["metadata", "generation"]);
    match (gvk.group.as_str(), gvk.kind.as_str(), name) {
        ("", "Pod", "status") => pod::update_status(new, old),
        ("", "Pod", "ephemeralcontainers") => pod::update_ephemeral_containers(new, old),
        ("", "Pod", "resize") => pod::resize(new, old),
        ("", "Namespace", "finalize") => keep(new, old, &["status"]),
        ("apps", "Deployment", "status") => {
            keep(new, old, &["spec"]);
            keep(new, old, &["metadata", "labels"]);
        }
        (_, _, "status") => keep(new, old, &["spec"]),
        _ => {}
    }
    keep_system_metadata(new, old);
}

/// What is put in order after validation: a namespace's name label, for names that were generated.
pub fn canonicalize(gvk: &GroupVersionKind, object: &mut Value) {
    if gvk.group.is_empty() && gvk.kind == "Namespace" {
        let name = object.dig(&["metadata", "name"]).clone();
        if let Some(labels) = object.ensure("metadata").and_then(|m| m.ensure("labels")) {
            labels.set("kubernetes.io/metadata.name", name);
        }
    }
}

/// Copies the member at `path` from `old` into `new`, or removes it there if `old` has none.
fn keep(new: &mut Value, old: &Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let held = old.dig(path);
    let mut target = new;
    for key in parents {
        if held.is_null() && !target.has(key) {
            return;
        }
        match target.ensure(key) {
            Some(next) => target = next,
            None => return,
        }
    }
    if held.is_null() {
        target.take_key(last);
    } else {
        target.set(last, held.clone());
    }
}

fn keep_system_metadata(new: &mut Value, old: &Value) {
    let had = old.at("metadata").clone();
    let Some(meta) = new.ensure("metadata") else {
        return;
    };
    if meta.text("uid").is_empty() && had.has("uid") {
        meta.set("uid", had.at("uid").clone());
    }
    for key in ["creationTimestamp", "deletionTimestamp"] {
        if had.has(key) {
            meta.set(key, had.at(key).clone());
        }
    }
    if had.has("deletionGracePeriodSeconds") {
        meta.default(
            "deletionGracePeriodSeconds",
            had.at("deletionGracePeriodSeconds").clone(),
        );
    }
}

/// Sets the generation of `new` one above that of `old` if anything at `paths` differs.
fn count_changes(new: &mut Value, old: &Value, paths: &[&[&str]]) {
    if paths
        .iter()
        .any(|path| !semantic_eq(new.dig(path), old.dig(path)))
    {
        let generation = old.dig(&["metadata"]).int("generation").unwrap_or(0);
        set_generation(new, generation.saturating_add(1));
    }
}

fn set_generation(object: &mut Value, generation: i64) {
    if let Some(meta) = object.ensure("metadata") {
        meta.set("generation", generation);
    }
}

/// Status writers may change the status, managed fields and nothing else of the metadata.
fn reset_metadata_for_status(new: &mut Value, old: &Value) {
    for key in [
        "deletionTimestamp",
        "generation",
        "selfLink",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ] {
        keep(new, old, &["metadata", key]);
    }
}

fn clean_secret_references(account: &mut Value) {
    for secret in account.list_mut("secrets") {
        let mut clean = Map::new();
        if let Some(name) = secret.at("name").some() {
            clean.insert("name".into(), name.clone());
        }
        *secret = Value::Object(clean);
    }
}

fn remember_storage_version(crd: &mut Value) {
    let stored = crd
        .dig(&["spec"])
        .list("versions")
        .iter()
        .find(|v| v.flag("storage"));
    let Some(name) = stored.map(|v| v.at("name").clone()) else {
        return;
    };
    let mut versions = crd.dig(&["status"]).list("storedVersions").to_vec();
    if !versions.contains(&name) {
        versions.push(name);
        if let Some(status) = crd.ensure("status") {
            status.set("storedVersions", versions);
        }
    }
}

#[cfg(test)]
mod tests;
