//! The Node object itself, and the status of claims.

use super::{NodeWrite, differ, text};
use crate::admission::Operation;
use orch_core::Status;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn own_node(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
    let name = if write.operation == Operation::Create && write.name.is_empty() {
        text(write.object, "/metadata/name")
    } else {
        write.name
    };
    if name != node {
        return Err(write.forbid(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let creating = match write.operation {
        Operation::Create => true,
        Operation::Update => false,
        _ => return Ok(()),
    };
    if !creating {
        for (pointer, why) in [
            ("/spec/taints", "modify taints"),
            ("/metadata/ownerReferences", "modify ownerReferences"),
        ] {
            if differ(write.object, write.old, pointer) {
                return Err(write.forbid(format!("node {node:?} is not allowed to {why}")));
            }
        }
        let source = "/spec/configSource";
        if write
            .object
            .and_then(|o| o.pointer(source))
            .is_some_and(|s| !s.is_null())
            && differ(write.object, write.old, source)
        {
            return Err(write.forbid(format!(
                "node {node:?} is not allowed to update configSource to a new non-nil configSource"
            )));
        }
    } else if write
        .object
        .and_then(|o| o.pointer("/spec/configSource"))
        .is_some_and(|s| !s.is_null())
    {
        return Err(write.forbid(format!(
            "node {node:?} is not allowed to create pods with a non-nil configSource"
        )));
    }
    let forbidden = forbidden_labels(write.object, if creating { None } else { write.old });
    if forbidden.is_empty() {
        return Ok(());
    }
    let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    Err(write.forbid(if creating {
        format!("node {node:?} is not allowed to set the following labels: {list}")
    } else {
        format!("is not allowed to modify labels: {list}")
    }))
}

/// Labels that differ and that a node must not decide about: they steer workloads.
fn forbidden_labels<'a>(new: Option<&'a Value>, old: Option<&'a Value>) -> BTreeSet<&'a str> {
    const OWN: [&str; 12] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    let labels = |v: Option<&'a Value>| {
        v.and_then(|v| v.pointer("/metadata/labels"))
            .and_then(Value::as_object)
    };
    let (new, old) = (labels(new), labels(old));
    let keys = new.into_iter().chain(old).flat_map(|m| m.keys());
    let changed = keys.filter(|k| new.and_then(|m| m.get(*k)) != old.and_then(|m| m.get(*k)));
    let under = |namespace: &str, domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    changed
        .map(String::as_str)
        .filter(|key| {
            let namespace = key.split_once('/').map_or("", |(ns, _)| ns);
            let own = OWN.contains(key)
                || under(namespace, "kubelet.kubernetes.io")
                || under(namespace, "node.kubernetes.io");
            under(namespace, "node-restriction.kubernetes.io")
                || ((under(namespace, "kubernetes.io") || under(namespace, "k8s.io")) && !own)
        })
        .collect()
}

pub(super) fn claim_status(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
    let (Operation::Update, Some(new), Some(old)) = (write.operation, write.object, write.old) else {
        return Err(write.forbid("unexpected operation"));
    };
    let rest = |v: &Value| {
        let mut v = v.clone();
        for (at, fields) in [
            ("/metadata", &["resourceVersion", "managedFields"][..]),
            (
                "/status",
                &[
                    "capacity",
                    "conditions",
                    "allocatedResourceStatuses",
                    "allocatedResources",
                ],
            ),
        ] {
            if let Some(map) = v.pointer_mut(at).and_then(Value::as_object_mut) {
                fields.iter().for_each(|f| drop(map.remove(*f)));
            }
        }
        v
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(write.forbid(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    )))
}
