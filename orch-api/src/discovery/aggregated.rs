//! `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`): everything in one answer.

use crate::server::{ResourceTable, ServedResource};
use orch_core::{GroupVersion, GroupVersionKind};
use serde_json::{Map, Value, json};

/// The core group alone, or all named groups.
pub(super) fn list(table: &ResourceTable, core: bool) -> Value {
    let groups = table.groups().iter().filter(|g| g.name.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let served = table.of(&GroupVersion::new(group.name.clone(), version.clone()));
                    let resources: Vec<Value> = served.into_iter().map(|r| resource(r)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut metadata = Map::new();
            if !group.name.is_empty() {
                metadata.insert("name".into(), group.name.clone().into());
            }
            metadata.insert("creationTimestamp".into(), Value::Null);
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn kind(gvk: &GroupVersionKind, of: &ServedResource) -> Value {
    // As upstream: empty text stands for the group and version of the list itself.
    let same = gvk.group == of.gvr.group && gvk.version == of.gvr.version;
    let (group, version) = if same {
        ("", "")
    } else {
        (gvk.group.as_str(), gvk.version.as_str())
    };
    json!({"group": group, "version": version, "kind": gvk.kind})
}

fn resource(resource: &ServedResource) -> Value {
    let mut entry = json!({
        "resource": resource.gvr.resource,
        "responseKind": kind(&resource.def.gvk(), resource),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        entry["categories"] = resource.categories.clone().into();
    }
    if !resource.subresources.is_empty() {
        let subs: Vec<Value> = resource
            .subresources
            .iter()
            .map(|s| json!({"subresource": s.name, "responseKind": kind(&s.gvk, resource), "verbs": s.verbs}))
            .collect();
        entry["subresources"] = subs.into();
    }
    entry
}
