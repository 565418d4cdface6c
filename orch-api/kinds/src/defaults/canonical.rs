//! The canonical form that typed decoding gives an object: no nulls, quantities as upstream prints them.

use crate::json::JsonMut;
use orch_core::GroupVersionKind;
use orch_core::quantity::{NANOS, Quantity, QuantityError};
use serde_json::Value;

/// Drops nulls and rewrites every quantity of `object` in canonical form (`1000m` becomes `1`; resource lists are
/// rounded up to thousandths).
///
/// # Errors
/// The first malformed quantity; the rest of the object is canonical all the same. Upstream refuses such an object
/// while decoding, as a bad request.
pub fn canonicalize(gvk: &GroupVersionKind, object: &mut Value) -> Result<(), QuantityError> {
    let kind = (gvk.group.as_str(), gvk.kind.as_str());
    match kind {
        // Free-form content, where null is a value.
        ("apps", "ControllerRevision") | ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            if let Some(meta) = object.at_mut("metadata") {
                drop_nulls(meta);
            }
        }
        _ => drop_nulls(object),
    }
    let mut outcome = Ok(());
    match kind {
        ("", "Pod") => {
            spec(object.get_mut("spec"), &mut outcome);
            pod_status(object.get_mut("status"), &mut outcome);
        }
        ("", "PodTemplate") => spec(object.pointer_mut("/template/spec"), &mut outcome),
        ("apps" | "batch", _) => spec(object.pointer_mut("/spec/template/spec"), &mut outcome),
        ("", "Node") => {
            list(object.pointer_mut("/status/capacity"), &mut outcome);
            list(object.pointer_mut("/status/allocatable"), &mut outcome);
        }
        ("node.k8s.io", "RuntimeClass") => list(object.pointer_mut("/overhead/podFixed"), &mut outcome),
        _ => {}
    }
    outcome
}

/// Maps of strings, where a null decodes to an empty string instead of going away.
const STRING_MAPS: [&str; 9] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "selector",
    "data",
    "binaryData",
    "stringData",
    "parameters",
];

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // Most objects have none: look before rebuilding.
            if map.values().any(Value::is_null) {
                map.retain(|_, v| !v.is_null());
            }
            for (key, member) in map.iter_mut() {
                if STRING_MAPS.contains(&key.as_str())
                    && let Value::Object(entries) = member
                    && !entries.contains_key("matchLabels")
                    && !entries.contains_key("matchExpressions")
                {
                    entries
                        .values_mut()
                        .filter(|v| v.is_null())
                        .for_each(|v| *v = "".into());
                    continue;
                }
                drop_nulls(member);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

type Outcome = Result<(), QuantityError>;

fn quantity(value: Option<&mut Value>, round: bool, outcome: &mut Outcome) {
    let Some(value) = value else { return };
    let parsed = match &*value {
        Value::String(text) => text.trim().parse::<Quantity>(),
        Value::Number(n) => n.to_string().parse::<Quantity>(),
        _ => return,
    };
    match parsed {
        Ok(q) => {
            let q = if round && q.nanos() % (NANOS / 1000) != 0 {
                q.round_up(NANOS / 1000)
            } else {
                q
            };
            let text = q.to_string();
            if value.as_str() != Some(&text) {
                *value = text.into();
            }
        }
        Err(e) => *outcome = outcome.and(Err(e)),
    }
}

fn list(value: Option<&mut Value>, outcome: &mut Outcome) {
    for entry in value
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|m| m.values_mut())
    {
        quantity(Some(entry), true, outcome);
    }
}

fn requirements(value: Option<&mut Value>, outcome: &mut Outcome) {
    if let Some(value) = value {
        list(value.get_mut("limits"), outcome);
        list(value.get_mut("requests"), outcome);
    }
}

fn resource_field(value: Option<&mut Value>, outcome: &mut Outcome) {
    if let Some(field) = value.filter(|f| f.is_object()) {
        // Not a pointer upstream, so always printed.
        field.default("divisor", "0");
        quantity(field.get_mut("divisor"), false, outcome);
    }
}

fn spec(spec: Option<&mut Value>, outcome: &mut Outcome) {
    let Some(spec) = spec else { return };
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.list_mut(containers) {
            requirements(container.get_mut("resources"), outcome);
            for env in container.list_mut("env") {
                resource_field(env.pointer_mut("/valueFrom/resourceFieldRef"), outcome);
            }
        }
    }
    for volume in spec.list_mut("volumes") {
        quantity(volume.pointer_mut("/emptyDir/sizeLimit"), false, outcome);
        requirements(
            volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec/resources"),
            outcome,
        );
        downward(volume.get_mut("downwardAPI"), outcome);
        if let Some(projected) = volume.get_mut("projected") {
            for source in projected.list_mut("sources") {
                downward(source.get_mut("downwardAPI"), outcome);
            }
        }
    }
    list(spec.get_mut("overhead"), outcome);
    requirements(spec.get_mut("resources"), outcome);
}

fn downward(source: Option<&mut Value>, outcome: &mut Outcome) {
    if let Some(source) = source {
        for item in source.list_mut("items") {
            resource_field(item.get_mut("resourceFieldRef"), outcome);
        }
    }
}

fn pod_status(status: Option<&mut Value>, outcome: &mut Outcome) {
    let Some(status) = status else { return };
    for statuses in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        for status in status.list_mut(statuses) {
            list(status.get_mut("allocatedResources"), outcome);
            requirements(status.get_mut("resources"), outcome);
        }
    }
    list(status.get_mut("allocatedResources"), outcome);
    requirements(status.get_mut("resources"), outcome);
}
