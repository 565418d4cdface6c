//! One served resource as the registry sees it: its strategy, where it is stored, and in which form.

use super::Strategy;
use crate::{cache::Cache, server::ServedResource};
use bytes::Bytes;
use orch_core::{GroupResource, GroupVersionKind, Object};
use orch_store::Durability;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// A resource in one version, with everything that serving it takes.
pub(crate) struct Resource {
    /// What discovery says of it.
    pub(crate) served: Arc<ServedResource>,
    /// Group and resource, for messages.
    pub(crate) group_resource: GroupResource,
    /// Group, version and kind.
    pub(crate) gvk: GroupVersionKind,
    /// What is particular about the kind.
    pub(crate) strategy: Arc<dyn Strategy>,
    /// Its objects.
    pub(crate) cache: Arc<Cache>,
    /// How stored objects turn into this version's.
    pub(crate) conversion: Conversion,
    /// How long objects live, if not forever.
    pub(crate) ttl: Option<Duration>,
    /// How sure a write must be before it is answered.
    pub(crate) durability: Durability,
}

/// How an object in its stored version becomes one in the served version, and back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Both are the same.
    None,
    /// Only `apiVersion` differs: stored, served.
    Relabel(String, String),
    /// Stored as the core group's Event, served as that of `events.k8s.io`.
    Events,
    /// Stored as `autoscaling/v2`, served as `autoscaling/v1`.
    Autoscaler,
}

impl Conversion {
    /// A stored object in the served version.
    pub(crate) fn served(&self, stored: &Arc<Object>) -> Arc<Object> {
        let convert = |change: &dyn Fn(&mut Value)| {
            let mut value = stored.value().clone();
            change(&mut value);
            Arc::new(Object::from_value(value))
        };
        match self {
            Self::None => stored.clone(),
            Self::Relabel(_, served) => {
                if stored.value().get("apiVersion").and_then(Value::as_str) == Some(served) {
                    return stored.clone();
                }
                convert(&|v| v["apiVersion"] = Value::from(served.as_str()))
            }
            Self::Events => convert(&|v| super::convert::event_to_group(v)),
            Self::Autoscaler => convert(&|v| super::convert::autoscaler_to_v1(v)),
        }
    }

    /// An object of the served version in the stored one.
    pub(crate) fn stored(&self, mut served: Value) -> Value {
        match self {
            Self::None => {}
            Self::Relabel(stored, _) => served["apiVersion"] = Value::from(stored.as_str()),
            Self::Events => super::convert::event_to_core(&mut served),
            Self::Autoscaler => super::convert::autoscaler_to_v2(&mut served),
        }
        served
    }
}

impl Resource {
    /// The key of an object below the resource's prefix.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        if self.served.namespaced {
            format!("{namespace}/{name}")
        } else {
            name.to_owned()
        }
    }

    /// The key of an object in the store.
    pub(crate) fn store_key(&self, key: &str) -> Bytes {
        let mut full = String::with_capacity(self.cache.prefix().len() + key.len());
        full.push_str(self.cache.prefix());
        full.push_str(key);
        Bytes::from(full)
    }

    /// Whether the stored form is the served form, so that cached objects are handed out as they are.
    pub(crate) fn is_stored_version(&self) -> bool {
        self.conversion == Conversion::None
    }
}

/// Where objects of a resource are stored, with a slash at the end. The layout is upstream's.
pub(crate) fn prefix_of(group: &str, resource: &str, custom: bool) -> String {
    let path = match (group, resource) {
        ("", "replicationcontrollers") => "controllers",
        ("", "endpoints") => "services/endpoints",
        ("", "services") => "services/specs",
        ("", "nodes") => "minions",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("events.k8s.io", "events") => "events",
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => {
            return format!("/registry/{group}/{resource}/");
        }
        _ if custom => return format!("/registry/{group}/{resource}/"),
        (_, resource) => resource,
    };
    format!("/registry/{path}/")
}
