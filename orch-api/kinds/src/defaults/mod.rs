//! Defaulting: what an object of a built-in kind means where it says nothing.
//!
//! [`apply`] does what upstream's decoding and defaulting do together: quantities take their canonical form, nulls
//! go, every default of `pkg/apis/*/v1/defaults.go` (Kubernetes 1.36, default feature gates) is filled in, and the
//! few empty objects that the typed encoding always prints (`resources: {}`, `status: {}`) are there. It is
//! idempotent, and never fails: what has the wrong type is left for validation to report.
//!
//! Not here: defaults that admission sets (service account, tolerations, priority), and allocation (cluster IPs).

mod canonical;
mod image;
mod kinds;
mod pod;
mod pod_resources;
mod service;
mod volume;

pub use canonical::canonicalize;
pub(crate) use pod_resources::aggregate_requests;

use orch_core::GroupVersionKind;
use serde_json::Value;

/// Fills in all defaults of `object`, a `gvk`. An unknown kind is left alone.
pub fn apply(gvk: &GroupVersionKind, object: &mut Value) {
    // Malformed quantities stay as they are: the caller who wants upstream's decoding error asks `canonicalize` first.
    let _ = canonicalize(gvk, object);
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::pod(object),
        ("", "PodTemplate") => pod::template_of(object, "template"),
        ("", "Service") => service::service(object),
        ("", "Endpoints") => kinds::endpoints(object),
        ("", "Namespace") => kinds::namespace(object),
        ("", "Node") => kinds::node(object),
        ("", "Secret") => kinds::secret(object),
        ("apps", "Deployment") => kinds::deployment(object),
        ("apps", "ReplicaSet") => kinds::replica_set(object),
        ("batch", "Job") => kinds::job(object),
        ("discovery.k8s.io", "EndpointSlice") => kinds::endpoint_slice(object),
        ("policy", "PodDisruptionBudget") => kinds::pod_disruption_budget(object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => kinds::role_binding(object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => kinds::role(object),
        ("scheduling.k8s.io", "PriorityClass") => kinds::priority_class(object),
        ("storage.k8s.io", "StorageClass") => kinds::storage_class(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => kinds::custom_resource_definition(object),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
