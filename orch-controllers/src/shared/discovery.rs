//! Which resources the server has, read from its discovery documents (aggregated where served, plain otherwise).

use async_trait::async_trait;
use http::{HeaderValue, header};
use orch_core::{
    ApiClient, GroupVersionResource, Status,
    client::{ApiRequest, ResponseBody},
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// A resource that the server has, in the version it prefers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceInfo {
    /// Coordinates.
    pub gvr: GroupVersionResource,
    /// Kind of its objects.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done: `get`, `list`, `watch`, `delete`, `deletecollection` …
    pub verbs: BTreeSet<String>,
}

impl ResourceInfo {
    /// Whether all of these verbs are supported.
    #[must_use]
    pub fn supports(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|v| self.verbs.contains(*v))
    }
}

/// What was found, and which groups could not be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The resources, without subresources, in order of their coordinates.
    pub resources: Vec<ResourceInfo>,
    /// Groups (with version) that failed, and why.
    pub failed: Vec<String>,
}

/// Finds out which resources there are.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// The resources now. A group that fails (an aggregated server that is down) is told apart, not an error.
    async fn discover(&self) -> Result<Discovered, Status>;
}

/// [`Discovery`] over an [`ApiClient`].
pub struct ClientDiscovery(pub Arc<dyn ApiClient>);

impl std::fmt::Debug for ClientDiscovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientDiscovery")
    }
}

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl ClientDiscovery {
    async fn get(&self, path: &str) -> Result<Value, Status> {
        let mut request = ApiRequest::get(path);
        request
            .headers
            .insert(header::ACCEPT, HeaderValue::from_static(AGGREGATED));
        match self.0.call(request).await?.body {
            ResponseBody::Object(object) => Ok(object.value().clone()),
            ResponseBody::Raw { bytes, .. } => serde_json::from_slice(&bytes)
                .map_err(|e| Status::internal(format!("discovery document {path}: {e}"))),
            other => Err(Status::internal(format!("discovery document {path}: {other:?}"))),
        }
    }

    async fn plain(&self, group: &str, version: &str, out: &mut Discovered) {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        match self.get(&path).await {
            Ok(document) => out.resources.extend(plain_resources(group, version, &document)),
            Err(error) => out.failed.push(format!("{group}/{version}: {error}")),
        }
    }
}

/// Resources of an `APIResourceList`.
fn plain_resources(group: &str, version: &str, document: &Value) -> Vec<ResourceInfo> {
    list(document, "resources")
        .filter(|r| !text(r, "/name").contains('/'))
        .map(|r| ResourceInfo {
            gvr: GroupVersionResource::new(group, version, text(r, "/name")),
            kind: text(r, "/kind").into(),
            namespaced: r.get("namespaced").and_then(Value::as_bool).unwrap_or(false),
            verbs: texts(r, "/verbs").map(str::to_owned).collect(),
        })
        .collect()
}

/// Resources of an `APIGroupDiscoveryList`: each in the first, that is preferred, version that has it.
fn aggregated_resources(document: &Value, out: &mut Discovered) {
    for group in list(document, "items") {
        let name = text(group, "/metadata/name");
        let mut seen = BTreeSet::new();
        for version in list(group, "versions") {
            if text(version, "/freshness") == "Stale" {
                out.failed
                    .push(format!("{name}/{}: stale", text(version, "/version")));
            }
            for r in list(version, "resources") {
                if seen.insert(text(r, "/resource").to_owned()) {
                    out.resources.push(ResourceInfo {
                        gvr: GroupVersionResource::new(name, text(version, "/version"), text(r, "/resource")),
                        kind: text(r, "/responseKind/kind").into(),
                        namespaced: text(r, "/scope") == "Namespaced",
                        verbs: texts(r, "/verbs").map(str::to_owned).collect(),
                    });
                }
            }
        }
    }
}

#[async_trait]
impl Discovery for ClientDiscovery {
    async fn discover(&self) -> Result<Discovered, Status> {
        let mut out = Discovered::default();
        let core = self.get("/api").await?;
        if text(&core, "/kind") == "APIGroupDiscoveryList" {
            aggregated_resources(&core, &mut out);
        } else {
            self.plain("", "v1", &mut out).await;
        }
        let groups = self.get("/apis").await?;
        if text(&groups, "/kind") == "APIGroupDiscoveryList" {
            aggregated_resources(&groups, &mut out);
        } else {
            for group in list(&groups, "groups") {
                let preferred = text(group, "/preferredVersion/version");
                let others = list(group, "versions")
                    .map(|v| text(v, "/version"))
                    .filter(|v| *v != preferred);
                let mut found = Discovered::default();
                for version in std::iter::once(preferred).chain(others) {
                    self.plain(text(group, "/name"), version, &mut found).await;
                }
                let mut seen = BTreeSet::new();
                found.resources.retain(|r| seen.insert(r.gvr.resource.clone()));
                out.resources.extend(found.resources);
                out.failed.extend(found.failed);
            }
        }
        out.resources.sort();
        Ok(out)
    }
}

/// A fixed list, for tests and for embedders that know their server.
#[async_trait]
impl Discovery for Vec<ResourceInfo> {
    async fn discover(&self) -> Result<Discovered, Status> {
        Ok(Discovered {
            resources: self.clone(),
            failed: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_say_the_same() {
        let plain = plain_resources(
            "apps",
            "v1",
            &json!({"kind": "APIResourceList", "resources": [
                {"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": ["list", "delete"]},
                {"name": "deployments/status", "kind": "Deployment", "namespaced": true, "verbs": ["get"]},
            ]}),
        );
        let mut aggregated = Discovered::default();
        aggregated_resources(
            &json!({"items": [{"metadata": {"name": "apps"}, "versions": [
                {"version": "v1", "resources": [{"resource": "deployments", "scope": "Namespaced",
                    "responseKind": {"kind": "Deployment"}, "verbs": ["list", "delete"]}]},
                {"version": "v1beta1", "freshness": "Stale", "resources": [{"resource": "deployments"}]},
            ]}]}),
            &mut aggregated,
        );
        assert_eq!(plain, aggregated.resources);
        assert!(plain[0].supports(&["list", "delete"]) && !plain[0].supports(&["watch"]));
        assert_eq!(aggregated.failed, ["apps/v1beta1: stale"]);
    }
}
