//! `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList` (`meta/v1`).

use crate::server::{ResourceTable, ServedGroup, ServedResource};
use base64::{Engine, prelude::BASE64_STANDARD};
use orch_core::{GroupVersion, GroupVersionKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The document at a path without a trailing slash.
pub(super) fn document(table: &ResourceTable, path: &str, address: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        [""] => Some(json!({"paths": paths(table)})),
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": table.groups().iter().filter(|g| g.name.is_empty()).flat_map(|g| &g.versions).collect::<Vec<_>>(),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = named(table).map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let mut found = group(named(table).find(|g| g.name == name)?);
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            Some(found)
        }
        ["api", version] => resources(table, &GroupVersion::new("", version)),
        ["apis", group, version] if !group.is_empty() => resources(table, &GroupVersion::new(group, version)),
        _ => None,
    }
}

/// Everything that can be asked for without naming a resource, sorted.
fn paths(table: &ResourceTable) -> BTreeSet<String> {
    const FIXED: [&str; 12] = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/apis/",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let mut paths: BTreeSet<String> = FIXED.iter().map(ToString::to_string).collect();
    for group in table.groups() {
        let root = if group.name.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", group.name)
        };
        paths.extend(group.versions.iter().map(|v| format!("{root}/{v}")));
        paths.insert(root);
    }
    paths
}

fn named(table: &ResourceTable) -> impl Iterator<Item = &ServedGroup> {
    table.groups().iter().filter(|g| !g.name.is_empty())
}

fn group(group: &ServedGroup) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|v| json!({"groupVersion": format!("{}/{v}", group.name), "version": v}))
        .collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn resources(table: &ResourceTable, gv: &GroupVersion) -> Option<Value> {
    let served = table.of(gv);
    if served.is_empty()
        && !table
            .groups()
            .iter()
            .any(|g| g.name == gv.group && g.versions.contains(&gv.version))
    {
        return None;
    }
    let mut list = Vec::new();
    for resource in served {
        list.push(entry(resource));
        for sub in &resource.subresources {
            let mut entry = Map::new();
            entry.insert(
                "name".into(),
                format!("{}/{}", resource.gvr.resource, sub.name).into(),
            );
            entry.insert("singularName".into(), "".into());
            entry.insert("namespaced".into(), resource.namespaced.into());
            if sub.gvk.group != gv.group || sub.gvk.version != gv.version {
                entry.insert("group".into(), sub.gvk.group.clone().into());
                entry.insert("version".into(), sub.gvk.version.clone().into());
            }
            entry.insert("kind".into(), sub.gvk.kind.clone().into());
            entry.insert("verbs".into(), sub.verbs.clone().into());
            list.push(entry.into());
        }
    }
    let mut document = json!({"kind": "APIResourceList", "groupVersion": gv.to_string(), "resources": list});
    if !gv.group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

fn entry(resource: &ServedResource) -> Value {
    let mut entry = json!({
        "name": resource.gvr.resource,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        entry["categories"] = resource.categories.clone().into();
    }
    if resource.def.is_stored() {
        entry["storageVersionHash"] = storage_version_hash(&resource.def.gvk()).into();
    }
    entry
}

/// Upstream's opaque mark of how objects are encoded in the store.
fn storage_version_hash(gvk: &GroupVersionKind) -> String {
    let text = format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    BASE64_STANDARD.encode(&digest.as_ref()[..8])
}
