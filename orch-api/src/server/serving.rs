//! From the table of served resources to the registry's view of them.

use super::{ApiServer, Inner, ResourceTable, ServedResource};
use crate::{
    cache::{Cache, Caches},
    registry::{
        Resource,
        resource::{Conversion, prefix_of},
        strategy::BuiltIn,
    },
};
use orch_store::Durability;
use std::{sync::Arc, time::Duration};

/// A snapshot of what is served.
pub(super) struct Serving {
    /// For discovery.
    pub(super) table: Arc<ResourceTable>,
    /// For the registry, in the order of the table; `None` for what is not stored.
    resources: Vec<Option<Arc<Resource>>>,
}

impl Serving {
    /// The built-in resources.
    pub(super) fn built_in(caches: &Caches, event_ttl: Duration) -> Self {
        let served: Vec<Arc<ServedResource>> = orch_kinds::resources::all()
            .iter()
            .map(|def| {
                Arc::new(ServedResource {
                    def: def.clone(),
                    custom: None,
                })
            })
            .collect();
        let resources = served.iter().map(|s| built_in(s, caches, event_ttl)).collect();
        Self {
            table: Arc::new(ResourceTable::new(1, served)),
            resources,
        }
    }

    /// The resource of a request, if it is served, and the registry's view, if it is stored.
    pub(super) fn find(
        &self,
        group: &str,
        version: &str,
        resource: &str,
    ) -> Option<(&Arc<ServedResource>, Option<&Arc<Resource>>)> {
        let at = self.table.index(group, version, resource)?;
        Some((
            self.table.resources().get(at)?,
            self.resources.get(at).and_then(Option::as_ref),
        ))
    }

    /// This with `custom` in place of all custom resources.
    pub(crate) fn with_custom(&self, custom: Vec<Arc<Resource>>) -> Self {
        let built_in = self
            .table
            .resources()
            .iter()
            .zip(&self.resources)
            .filter(|(s, _)| s.custom.is_none());
        let (mut served, mut resources): (Vec<_>, Vec<_>) =
            built_in.map(|(s, r)| (s.clone(), r.clone())).unzip();
        for resource in custom {
            served.push(resource.served.clone());
            resources.push(Some(resource));
        }
        Self {
            table: Arc::new(ResourceTable::new(self.table.generation + 1, served)),
            resources,
        }
    }
}

/// The store prefixes of everything built in.
pub(super) fn prefixes() -> Vec<String> {
    let stored = orch_kinds::resources::all().iter().filter(|d| d.is_stored());
    stored
        .map(|d| prefix_of(&d.gvr.group, &d.gvr.resource, false))
        .collect()
}

fn built_in(served: &Arc<ServedResource>, caches: &Caches, event_ttl: Duration) -> Option<Arc<Resource>> {
    let def = &served.def;
    if !def.is_stored() {
        return None;
    }
    let (group, resource) = (def.gvr.group.as_str(), def.gvr.resource.as_str());
    let cache = caches.get(&prefix_of(group, resource, false))?;
    let conversion = match (group, def.gvr.version.as_str(), def.kind.as_str()) {
        ("events.k8s.io", _, "Event") => Conversion::Events,
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => Conversion::Autoscaler,
        _ => Conversion::None,
    };
    let ttl = (def.kind == "Event").then_some(event_ttl);
    let durability = match def.kind.as_str() {
        "Event" | "Lease" => Durability::Buffered,
        _ => Durability::Synced,
    };
    Some(Arc::new(Resource {
        group_resource: def.gvr.group_resource(),
        gvk: def.gvk(),
        strategy: Arc::new(BuiltIn::new(def.gvk())),
        cache,
        conversion,
        ttl,
        durability,
        served: served.clone(),
    }))
}

impl Inner {
    /// The cache of a resource, in whichever version it is served.
    pub(super) fn cache_of(&self, group: &str, resource: &str) -> Option<Arc<Cache>> {
        let custom = self
            .serving
            .load()
            .table
            .resources()
            .iter()
            .any(|r| r.custom.is_some() && r.gvr.group == group && r.gvr.resource == resource);
        self.caches.get(&prefix_of(group, resource, custom))
    }
}

impl ApiServer {
    /// A served resource with the registry's view of it.
    pub(crate) fn resource(
        &self,
        group: &str,
        version: &str,
        resource: &str,
    ) -> Option<(Arc<ServedResource>, Option<Arc<Resource>>)> {
        let serving = self.inner.serving.load();
        let (served, resource) = serving.find(group, version, resource)?;
        Some((served.clone(), resource.cloned()))
    }

    /// Serves `custom` in place of all custom resources, and tells whoever watches the table.
    pub(crate) fn serve_custom(&self, custom: Vec<Arc<Resource>>) {
        let mut generation = 0;
        self.inner.serving.rcu(|old| {
            let new = old.with_custom(custom.clone());
            generation = new.table.generation;
            Arc::new(new)
        });
        self.inner.table_changed.send_replace(generation);
    }
}
