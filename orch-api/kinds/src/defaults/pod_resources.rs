//! What a pod asks for in sum, and the defaults of pod-level resources that follow from it (KEP-2837).

use crate::json::{Json, JsonMut};
use orch_core::quantity::Quantity;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

fn amounts(list: &Value) -> Amounts {
    let parse = |(name, v): (&String, &Value)| Some((name.clone(), v.as_str()?.parse().ok()?));
    list.as_object().into_iter().flatten().filter_map(parse).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.get(name).map_or_else(|| amount.clone(), |held| held + amount);
        sum.insert(name.clone(), total);
    }
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, amount) in at_least {
        if to.get(name).is_none_or(|held| held < amount) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

/// The sum over containers and sidecars, or what the init phase needs at its peak where that is more.
/// `which` is `requests` or `limits`.
pub(crate) fn aggregate_requests(spec: &Value, which: &str) -> Amounts {
    let of = |container: &Value| amounts(container.dig(&["resources", which]));
    let (mut total, mut sidecars, mut init_peak) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in spec.list("containers") {
        add(&mut total, &of(container));
    }
    for container in spec.list("initContainers") {
        let mut needed = of(container);
        if container.text("restartPolicy") == "Always" {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut init_peak, &needed);
    }
    raise(&mut total, &init_peak);
    total
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// Where a pod states some pod-level resources, fills in huge page limits from its containers, and requests from
/// its containers' requests or else from its own limits.
pub(super) fn pod_level(spec: &mut Value) {
    let set = |v: &Value, key: &str| v.at(key).as_object().is_some_and(|m| !m.is_empty());
    let resources = spec.at("resources");
    if !resources.is_object() || !(set(resources, "limits") || set(resources, "requests")) {
        return;
    }
    let mut limits = resources.at("limits").as_object().cloned().unwrap_or_default();
    for (name, amount) in aggregate_requests(spec, "limits") {
        let requested = spec.dig(&["resources", "requests"]).has(&name);
        if is_huge_page(&name) && !requested && !limits.contains_key(&name) {
            limits.insert(name, amount.to_string().into());
        }
    }
    if limits.is_empty() {
        return;
    }
    let mut requests: Map<String, Value> = spec
        .dig(&["resources", "requests"])
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (name, amount) in aggregate_requests(spec, "requests") {
        if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
            requests.insert(name, amount.to_string().into());
        }
    }
    for (name, amount) in &limits {
        if is_pod_level(name) && !requests.contains_key(name) {
            requests.insert(name.clone(), amount.clone());
        }
    }
    if let Some(resources) = spec.at_mut("resources") {
        resources.set("limits", limits);
        if !requests.is_empty() {
            resources.set("requests", requests);
        }
    }
}
