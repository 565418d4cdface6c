//! Fields that a field selector may name, by kind.

use crate::json::Json;
use orch_core::GroupVersionKind;
use serde_json::Value;

/// Whether objects of `gvk` can be selected by `field`. Every kind has `metadata.name` and, if namespaced,
/// `metadata.namespace`; custom resources declare theirs in their definition.
#[must_use]
pub fn supports_field(gvk: &GroupVersionKind, field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace") || particular(gvk).contains(&field)
}

fn particular(gvk: &GroupVersionKind) -> &'static [&'static str] {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "Event") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        _ => &[],
    }
}

/// The value of the selectable `field` of `object`, as text; empty if unset.
#[must_use]
pub fn field_value(gvk: &GroupVersionKind, object: &Value, field: &str) -> String {
    match (gvk.kind.as_str(), field) {
        ("Pod", "status.podIP") => {
            let status = object.at("status");
            let first = status.list("podIPs").first().map_or("", |ip| ip.text("ip"));
            if first.is_empty() {
                status.text("podIP").into()
            } else {
                first.into()
            }
        }
        ("Pod", "status.podIPs") => {
            let ips: Vec<&str> = object
                .at("status")
                .list("podIPs")
                .iter()
                .map(|ip| ip.text("ip"))
                .collect();
            ips.join(",")
        }
        ("Pod", "spec.hostNetwork") => object.at("spec").flag("hostNetwork").to_string(),
        ("Node", "spec.unschedulable") => object.at("spec").flag("unschedulable").to_string(),
        ("ReplicaSet", "status.replicas") => object.at("status").int("replicas").unwrap_or(0).to_string(),
        ("Job", "status.successful") => object.at("status").int("succeeded").unwrap_or(0).to_string(),
        ("Event", "source") => {
            let component = object.at("source").text("component");
            if component.is_empty() {
                object.text("reportingComponent").into()
            } else {
                component.into()
            }
        }
        _ => match field.split('.').fold(object, |v, key| v.at(key)) {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        },
    }
}
