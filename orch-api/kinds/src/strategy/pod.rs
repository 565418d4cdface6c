//! Pods: creation, update, and the subresources that change them.

use super::{keep, reset_metadata_for_status, semantic_eq, set_generation};
use crate::json::{Json, JsonMut, empty};
use orch_core::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) fn create(pod: &mut Value) {
    set_generation(pod, 1);
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if !pod.at("spec").list("schedulingGates").is_empty() {
        status.set(
            "conditions",
            json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]),
        );
    }
    pod.set("status", status);
    let labels = pod.dig(&["metadata", "labels"]).clone();
    let Some(spec) = pod.at_mut("spec") else { return };
    if let Some(affinity) = spec.at_mut("affinity") {
        for side in ["podAffinity", "podAntiAffinity"] {
            let Some(terms) = affinity.at_mut(side) else {
                continue;
            };
            for term in terms.list_mut("requiredDuringSchedulingIgnoredDuringExecution") {
                merge_label_keys(term, &labels);
            }
            for weighted in terms.list_mut("preferredDuringSchedulingIgnoredDuringExecution") {
                if let Some(term) = weighted.at_mut("podAffinityTerm") {
                    merge_label_keys(term, &labels);
                }
            }
        }
    }
    for constraint in spec.list_mut("topologySpreadConstraints") {
        merge_label_keys(constraint, &labels);
    }
}

/// Merges `matchLabelKeys` and `mismatchLabelKeys` into the term's selector (KEP-3633, KEP-3243).
fn merge_label_keys(term: &mut Value, labels: &Value) {
    let mut requirements = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.list(keys).iter().map(Json::string) {
            if let Some(value) = labels.at(key).as_str() {
                requirements.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    // No selector matches nothing, and must go on doing so.
    if requirements.is_empty() || !term.at("labelSelector").is_object() {
        return;
    }
    if let Some(selector) = term.at_mut("labelSelector") {
        let mut expressions = selector.list("matchExpressions").to_vec();
        expressions.append(&mut requirements);
        selector.set("matchExpressions", expressions);
    }
}

fn bump_if_changed(new: &mut Value, old: &Value) {
    if !semantic_eq(new.at("spec"), old.at("spec")) {
        let generation = old.at("metadata").int("generation").unwrap_or(0);
        set_generation(new, generation.saturating_add(1));
    }
}

pub(super) fn update(new: &mut Value, old: &Value) {
    keep(new, old, &["status"]);
    bump_if_changed(new, old);
}

pub(super) fn update_status(new: &mut Value, old: &Value) {
    keep(new, old, &["spec"]);
    if let Some(meta) = new.at_mut("metadata") {
        meta.take_key("deletionTimestamp");
    }
    keep(new, old, &["metadata", "ownerReferences"]);
    let had = old.at("status").clone();
    let Some(status) = new.ensure("status") else {
        return;
    };
    if status.text("qosClass").is_empty() && had.has("qosClass") {
        status.set("qosClass", had.at("qosClass").clone());
    }
    if status.int("observedGeneration").unwrap_or(0) == 0 && had.has("observedGeneration") {
        status.set("observedGeneration", had.at("observedGeneration").clone());
    }
    let mut held: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for condition in had.list("conditions").iter().rev() {
        held.entry(condition.text("type"))
            .or_default()
            .push(condition.at("observedGeneration"));
    }
    for condition in status.list_mut("conditions") {
        let earlier = held.get_mut(condition.text("type")).and_then(Vec::pop);
        if condition.int("observedGeneration").unwrap_or(0) == 0
            && let Some(generation) = earlier.filter(|g| !g.is_null())
        {
            condition.set("observedGeneration", generation.clone());
        }
    }
}

pub(super) fn update_ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new.dig(&["spec", "ephemeralContainers"]).clone();
    keep(new, old, &["spec"]);
    keep(new, old, &["status"]);
    reset_metadata_for_status(new, old);
    if let Some(spec) = new.ensure("spec") {
        spec.set("ephemeralContainers", containers);
    }
    bump_if_changed(new, old);
}

/// Keeps only changes of resources and resize policies. If containers were added, removed, renamed or reordered,
/// everything is left for validation to refuse.
pub(super) fn resize(new: &mut Value, old: &Value) {
    let merged = |list: &str| -> Option<Option<Vec<Value>>> {
        let (asked, held) = (new.at("spec").list(list), old.at("spec").list(list));
        if asked.len() != held.len() {
            return None;
        }
        let same_names = asked.iter().zip(held).all(|(a, h)| a.at("name") == h.at("name"));
        if !same_names {
            return Some(Some(asked.to_vec()));
        }
        let one = |(asked, held): (&Value, &Value)| {
            let mut container = held.clone();
            for key in ["resources", "resizePolicy"] {
                keep(&mut container, asked, &[key]);
            }
            container
        };
        Some(if held.is_empty() {
            None
        } else {
            Some(asked.iter().zip(held).map(one).collect())
        })
    };
    let (Some(containers), Some(init)) = (merged("containers"), merged("initContainers")) else {
        return;
    };
    let resources = new.dig(&["spec", "resources"]).clone();
    keep(new, old, &["spec"]);
    keep(new, old, &["status"]);
    reset_metadata_for_status(new, old);
    if let Some(spec) = new.ensure("spec") {
        for (key, list) in [("containers", containers), ("initContainers", init)] {
            if let Some(list) = list {
                spec.set(key, list);
            }
        }
        if resources.is_null() {
            spec.take_key("resources");
        } else {
            spec.set("resources", resources);
        }
    }
    bump_if_changed(new, old);
}

/// The quality-of-service class of a pod, from the CPU and memory that it asks for:
/// `Guaranteed` if every container's limits are set and equal its requests, `BestEffort` if nothing is asked for,
/// else `Burstable`. Pod-level resources decide alone where there are any.
#[must_use]
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = pod.at("spec");
    let (mut requests, mut limits) = (Map::new(), Map::new());
    let mut guaranteed = true;
    let mut count = |resources: &Value, limits_decide: bool| {
        add_amounts(&mut requests, resources.at("requests"));
        let found = add_amounts(&mut limits, resources.at("limits"));
        if limits_decide && found < 2 {
            guaranteed = false;
        }
    };
    let pod_level = spec.at("resources");
    if pod_level.is_object() && *pod_level != empty() {
        count(
            pod_level,
            pod_level.at("limits").as_object().is_some_and(|m| !m.is_empty()),
        );
    } else {
        for list in ["containers", "initContainers"] {
            spec.list(list)
                .iter()
                .for_each(|c| count(c.at("resources"), true));
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds the positive CPU and memory amounts of `list` to `sum`; says how many of the two there were.
fn add_amounts(sum: &mut Map<String, Value>, list: &Value) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let Ok(amount) = list.text(name).parse::<Quantity>() else {
            continue;
        };
        if amount.sign() <= 0 {
            continue;
        }
        found += 1;
        let held = sum
            .get(name)
            .and_then(Value::as_str)
            .and_then(|s| s.parse::<i128>().ok())
            .unwrap_or(0);
        sum.insert(
            name.into(),
            held.saturating_add(amount.nanos()).to_string().into(),
        );
    }
    found
}
