//! The smaller kinds.

mod config;
mod crd;
mod crd_conversion;
mod crd_openapi;
mod crd_schema;
mod endpoints;
mod event;
mod job;
mod job_status;
mod node;
mod rbac;
mod small;

use super::meta::{self, NameRule};
use crate::field::FieldErrors;
use crate::json::Json;
use orch_core::GroupVersionKind;
use serde_json::Value;

pub(super) fn create(
    errors: &mut FieldErrors,
    gvk: &GroupVersionKind,
    object: &Value,
    namespaced: bool,
    rule: NameRule,
) {
    let kind = gvk.kind.as_str();
    match (gvk.group.as_str(), kind) {
        ("", "ConfigMap") => config::config_map(errors, object),
        ("", "Secret") => config::secret(errors, object),
        ("", "Node") => node::node(errors, object),
        ("", "Namespace") => node::namespace(errors, object),
        ("", "Endpoints") => endpoints::endpoints(errors, object, &Value::Null),
        ("", "Event") => event::create(errors, object, false),
        ("events.k8s.io", "Event") => event::create(errors, object, true),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::slice(errors, object, &Value::Null),
        ("batch", "Job") => job::create(errors, object, true),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rbac::role(errors, object, namespaced),
        ("rbac.authorization.k8s.io", _) => rbac::binding(errors, object, namespaced),
        ("coordination.k8s.io", "Lease") => {
            meta::create(errors, object, namespaced, rule);
            small::lease(errors, object.at("spec"));
        }
        // Upstream leaves the name to the generic check.
        ("policy", "PodDisruptionBudget") => small::disruption_budget(errors, object),
        ("scheduling.k8s.io", "PriorityClass") => small::priority_class(errors, object),
        ("node.k8s.io", "RuntimeClass") => small::runtime_class(errors, object),
        ("storage.k8s.io", "StorageClass") => small::storage_class(errors, object),
        ("storage.k8s.io", "CSINode") => small::csi_node(errors, object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::create(errors, object),
        ("authorization.k8s.io", "SelfSubjectRulesReview")
        | ("authentication.k8s.io", "TokenReview" | "SelfSubjectReview") => {}
        ("authorization.k8s.io", _) => small::access_review(errors, object, kind),
        ("authentication.k8s.io", "TokenRequest") => small::token_request(errors, object),
        _ => meta::create(errors, object, namespaced, rule),
    }
}

pub(super) fn update(
    errors: &mut FieldErrors,
    gvk: &GroupVersionKind,
    new: &Value,
    old: &Value,
    namespaced: bool,
    rule: NameRule,
) {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "ConfigMap") => config::update_config_map(errors, new, old),
        ("", "Secret") => config::update_secret(errors, new, old),
        ("", "Node") => node::update_node(errors, new, old),
        ("", "Namespace") => node::update_namespace(errors, new, old),
        ("", "Endpoints") => endpoints::update_endpoints(errors, new, old),
        ("", "Event") => event::update(errors, new, old, false),
        ("events.k8s.io", "Event") => event::update(errors, new, old, true),
        ("", "ServiceAccount") => {
            meta::update(errors, new, old);
            meta::create(errors, new, namespaced, rule);
        }
        ("discovery.k8s.io", "EndpointSlice") => endpoints::update_slice(errors, new, old),
        ("batch", "Job") => job::update(errors, new, old),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            rbac::update_role(errors, new, old, namespaced)
        }
        ("rbac.authorization.k8s.io", _) => rbac::update_binding(errors, new, old, namespaced),
        ("coordination.k8s.io", "Lease") => {
            meta::update(errors, new, old);
            small::lease(errors, new.at("spec"));
        }
        ("policy", "PodDisruptionBudget") => small::disruption_budget(errors, new),
        ("scheduling.k8s.io", "PriorityClass") => small::update_priority_class(errors, new, old),
        ("node.k8s.io", "RuntimeClass") => small::update_runtime_class(errors, new, old),
        ("storage.k8s.io", "StorageClass") => small::update_storage_class(errors, new, old),
        ("storage.k8s.io", "CSINode") => small::update_csi_node(errors, new, old),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::update(errors, new, old),
        _ => meta::update(errors, new, old),
    }
}

pub(super) fn update_subresource(
    errors: &mut FieldErrors,
    gvk: &GroupVersionKind,
    name: &str,
    new: &Value,
    old: &Value,
) {
    match (gvk.group.as_str(), gvk.kind.as_str(), name) {
        ("", "Node", "status") => node::update_node_status(errors, new, old),
        ("", "Namespace", "status") => node::update_namespace_status(errors, new, old),
        ("", "Namespace", "finalize") => node::finalize_namespace(errors, new, old),
        ("batch", "Job", "status") => job_status::update(errors, new, old),
        ("policy", "PodDisruptionBudget", "status") => small::disruption_budget_status(errors, new),
        ("apiextensions.k8s.io", "CustomResourceDefinition", "status") => {
            crd::update_status(errors, new, old)
        }
        _ => meta::update(errors, new, old),
    }
}
