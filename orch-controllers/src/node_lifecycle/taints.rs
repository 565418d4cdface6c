//! Which taints a node should have; pure.

use super::{NOT_READY, UNREACHABLE};
use crate::shared::text;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::Time,
};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition, its status, and the taint that goes with it.
const CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

pub(super) fn of(node: &Node) -> Vec<Taint> {
    node.spec
        .as_ref()
        .and_then(|s| s.taints.clone())
        .unwrap_or_default()
}

pub(super) fn has(node: &Node, key: &str, effect: &str) -> bool {
    of(node).iter().any(|t| t.key == key && t.effect == effect)
}

/// The taints with NoSchedule ones corrected; `None` if they are right.
pub(super) fn no_schedule(node: &Node) -> Option<Vec<Taint>> {
    let mut wanted: Vec<&str> = CONDITIONS
        .iter()
        .filter(|(kind, status, _)| condition(node, kind).is_some_and(|c| c.status == *status))
        .map(|(_, _, key)| *key)
        .collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    let managed = |t: &Taint| {
        t.effect == "NoSchedule"
            && (t.key == UNSCHEDULABLE || CONDITIONS.iter().any(|(_, _, key)| *key == t.key))
    };
    let before = of(node);
    let mut taints: Vec<Taint> = before
        .iter()
        .filter(|t| !managed(t) || wanted.contains(&t.key.as_str()))
        .cloned()
        .collect();
    for key in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == "NoSchedule") {
            taints.push(Taint {
                key: key.into(),
                effect: "NoSchedule".into(),
                ..Taint::default()
            });
        }
    }
    (taints != before).then_some(taints)
}

/// The taints with the NoExecute one of the node's readiness set to `key` (or none).
pub(super) fn no_execute(node: &Node, key: Option<&str>, now: &Time) -> Option<Vec<Taint>> {
    let before = of(node);
    let ours = |t: &Taint| t.effect == "NoExecute" && (t.key == NOT_READY || t.key == UNREACHABLE);
    let mut taints: Vec<Taint> = before
        .iter()
        .filter(|t| !ours(t) || key == Some(t.key.as_str()))
        .cloned()
        .collect();
    if let Some(key) = key
        && !taints.iter().any(ours)
    {
        let time_added = Some(now.clone());
        taints.push(Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            time_added,
            value: None,
        });
    }
    (taints != before).then_some(taints)
}

/// Whether a toleration tolerates a taint.
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match text(&toleration.operator) {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}
