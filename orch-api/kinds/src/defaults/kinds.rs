//! Defaults of the smaller kinds.

use super::pod;
use crate::json::{Json, JsonMut, empty};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn deployment(object: &mut Value) {
    if let Some(spec) = object.ensure("spec") {
        spec.default("replicas", 1);
        if let Some(strategy) = spec.ensure("strategy") {
            strategy.default_text("type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = strategy.ensure("rollingUpdate")
            {
                rolling.default("maxUnavailable", "25%");
                rolling.default("maxSurge", "25%");
            }
        }
        spec.default("revisionHistoryLimit", 10);
        spec.default("progressDeadlineSeconds", 600);
        pod::template_of(spec, "template");
    }
    object.ensure("status");
}

pub(super) fn replica_set(object: &mut Value) {
    if let Some(spec) = object.ensure("spec") {
        spec.default("replicas", 1);
        pod::template_of(spec, "template");
    }
    if let Some(status) = object.ensure("status") {
        status.default("replicas", 0);
    }
}

pub(super) fn job(object: &mut Value) {
    let Some(spec) = object.ensure("spec") else { return };
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.set("completions", 1);
    }
    spec.default("parallelism", 1);
    let retries = if spec.has("backoffLimitPerIndex") {
        i64::from(i32::MAX)
    } else {
        6
    };
    spec.default("backoffLimit", retries);
    spec.default("completionMode", "NonIndexed");
    spec.default("suspend", false);
    let replacement = if spec.has("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    spec.default("podReplacementPolicy", replacement);
    spec.default("manualSelector", false);
    if let Some(policy) = spec.at_mut("podFailurePolicy") {
        for rule in policy.list_mut("rules") {
            for pattern in rule.list_mut("onPodConditions") {
                pattern.default_text("status", "True");
            }
        }
    }
    pod::template_of(spec, "template");
    let labels = spec.dig(&["template", "metadata", "labels"]).as_object().cloned();
    if let Some(labels) = labels
        && let Some(meta) = object.ensure("metadata")
        && meta.at("labels").as_object().is_none_or(Map::is_empty)
    {
        meta.set("labels", labels);
    }
    object.ensure("status");
}

pub(super) fn endpoints(object: &mut Value) {
    for subset in object.list_mut("subsets") {
        for port in subset.list_mut("ports") {
            port.default_text("protocol", "TCP");
        }
    }
}

pub(super) fn namespace(object: &mut Value) {
    object.ensure("spec");
    if let Some(status) = object.ensure("status") {
        status.default_text("phase", "Active");
    }
    let name = object.dig(&["metadata", "name"]).string().to_owned();
    if !name.is_empty()
        && let Some(labels) = object.ensure("metadata").and_then(|m| m.ensure("labels"))
    {
        labels.set("kubernetes.io/metadata.name", name);
    }
}

pub(super) fn node(object: &mut Value) {
    object.ensure("spec");
    let Some(status) = object.ensure("status") else {
        return;
    };
    if let Some(capacity) = status.at("capacity").as_object().cloned() {
        status.default("allocatable", capacity);
    }
    status.default("daemonEndpoints", json!({"kubeletEndpoint": {"Port": 0}}));
    if let Some(info) = status.ensure("nodeInfo") {
        for key in [
            "machineID",
            "systemUUID",
            "bootID",
            "kernelVersion",
            "osImage",
            "containerRuntimeVersion",
            "kubeletVersion",
            "kubeProxyVersion",
            "operatingSystem",
            "architecture",
        ] {
            info.default(key, "");
        }
    }
}

/// The type, and the write-only `stringData` moved over into `data`.
pub(super) fn secret(object: &mut Value) {
    object.default_text("type", "Opaque");
    let Some(Value::Object(plain)) = object.take_key("stringData") else {
        return;
    };
    if plain.is_empty() {
        return;
    }
    let Some(data) = object.ensure("data") else { return };
    for (key, value) in plain {
        data.set(&key, BASE64.encode(value.string()));
    }
}

pub(super) fn endpoint_slice(object: &mut Value) {
    for port in object.list_mut("ports") {
        port.default("name", "");
        port.default("protocol", "TCP");
    }
    object.default("endpoints", Value::Array(Vec::new()));
    object.default("ports", Value::Array(Vec::new()));
}

pub(super) fn pod_disruption_budget(object: &mut Value) {
    object.ensure("spec");
    if let Some(status) = object.ensure("status") {
        for key in [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ] {
            status.default(key, 0);
        }
    }
}

pub(super) fn role_binding(object: &mut Value) {
    if let Some(role) = object.ensure("roleRef") {
        role.default_text("apiGroup", RBAC);
    }
    for subject in object.list_mut("subjects") {
        if matches!(subject.text("kind"), "User" | "Group") {
            subject.default_text("apiGroup", RBAC);
        }
    }
}

pub(super) fn role(object: &mut Value) {
    if !object.has("rules") && !object.has("aggregationRule") {
        object.set("rules", Value::Array(Vec::new()));
    }
}

pub(super) fn priority_class(object: &mut Value) {
    object.default("value", 0);
    object.default("preemptionPolicy", "PreemptLowerPriority");
}

pub(super) fn storage_class(object: &mut Value) {
    object.default("reclaimPolicy", "Delete");
    object.default("volumeBindingMode", "Immediate");
}

pub(super) fn custom_resource_definition(object: &mut Value) {
    let Some(spec) = object.ensure("spec") else { return };
    if let Some(names) = spec.ensure("names") {
        let kind = names.text("kind").to_owned();
        if !kind.is_empty() {
            names.default_text("singular", &kind.to_lowercase());
            names.default_text("listKind", &format!("{kind}List"));
        }
    }
    spec.default("conversion", json!({"strategy": "None"}));
    if let Some(service) = spec
        .pointer_mut("/conversion/webhook/clientConfig/service")
        .filter(|s| s.is_object())
    {
        service.default("port", 443);
    }
    let stored = spec
        .list("versions")
        .iter()
        .find(|v| v.flag("storage"))
        .map(|v| v.at("name").clone());
    let Some(status) = object.ensure("status") else {
        return;
    };
    if status.list("storedVersions").is_empty()
        && let Some(version) = stored
    {
        status.set("storedVersions", vec![version]);
    }
    if !status.has("conditions") {
        status.set("conditions", Value::Array(Vec::new()));
    }
    status.default("acceptedNames", empty());
    if let Some(names) = status.at_mut("acceptedNames") {
        names.default("plural", "");
        names.default("kind", "");
    }
}
