//! The smallest strategic merge patch from one status to another.
//!
//! Conditions are merged by type and addresses by value, so that what others write meanwhile is left alone; all other
//! lists are replaced as a whole (the merge keys of `PodStatus`).

use super::OWNED;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The patch for the `status` subresource that turns `old`, as the API has it, into `new`; `None` if there is nothing
/// to change. It holds only if the pod still has `uid`. Fields and conditions that the node does not own stay.
#[must_use]
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (object(old), object(new));
    let mut status = Map::new();
    // What the node never writes is not missing in the new status but somebody else's.
    const FOREIGN: [&str; 7] = [
        "nominatedNodeName",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
        "nodeAllocatableResourceClaimStatuses",
        "resize",
        "resources",
        "allocatedResources",
    ];
    for (key, value) in &new {
        if key == "conditions" || old.get(key) == Some(value) {
            continue;
        }
        let value = match key.as_str() {
            "podIPs" | "hostIPs" => merged_list(old.get(key), value, "ip"),
            _ => Some(value.clone()),
        };
        status.extend(value.map(|v| (key.clone(), v)));
    }
    for key in old
        .keys()
        .filter(|k| !new.contains_key(*k) && *k != "conditions" && !FOREIGN.contains(&k.as_str()))
    {
        status.insert(key.clone(), Value::Null);
    }
    let conditions = conditions(old.get("conditions"), new.get("conditions"));
    if !conditions.is_empty() {
        status.insert("conditions".into(), conditions.into());
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A list merged by `key`: what is new, and a deletion of what is gone. A change of order replaces the list.
fn merged_list(old: Option<&Value>, new: &Value, key: &str) -> Option<Value> {
    let (old, new) = (items(old), items(Some(new)));
    let gone = old.iter().filter(|o| !new.contains(o));
    let mut patch: Vec<Value> = new.to_vec();
    patch.extend(gone.map(|o| json!({"$patch": "delete", key: o[key].clone()})));
    Some(patch.into())
}

fn conditions(old: Option<&Value>, new: Option<&Value>) -> Vec<Value> {
    let (old, new) = (items(old), items(new));
    let same_type = |a: &Value, b: &Value| a["type"] == b["type"];
    let changed = new.iter().filter_map(|n| {
        let Some(before) = old.iter().find(|o| same_type(o, n)) else {
            return Some(n.clone());
        };
        if before == n {
            return None;
        }
        // A merged element keeps what the patch does not name.
        let mut patch = n.clone();
        let gone: Vec<String> = before
            .as_object()?
            .keys()
            .filter(|k| n.get(k.as_str()).is_none() && *k != "lastProbeTime")
            .cloned()
            .collect();
        let fields = patch.as_object_mut()?;
        fields.extend(gone.into_iter().map(|k| (k, Value::Null)));
        Some(patch)
    });
    let owned = |c: &&Value| c["type"].as_str().is_some_and(|t| OWNED.contains(&t));
    let gone = old
        .iter()
        .filter(owned)
        .filter(|o| !new.iter().any(|n| same_type(o, n)));
    changed
        .chain(gone.map(|o| json!({"$patch": "delete", "type": o["type"]})))
        .collect()
}
