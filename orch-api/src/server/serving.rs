//! From the table of served resources to the registry's view of them.

use super::{ApiServer, Inner, ResourceTable, ServedResource};
use crate::{
    cache::{Cache, Caches},
    crd,
    registry::{
        Resource, Strategy,
        resource::{Conversion, prefix_of},
        scope::store_status,
        strategy::BuiltIn,
    },
};
use orch_core::{Object, Status};
use orch_kinds::resources::ResourceDef;
use orch_store::{Durability, KeyRange, ReadAt};
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
        strategy: strategy_of(def),
        cache,
        conversion,
        ttl,
        durability,
        served: served.clone(),
    }))
}

fn strategy_of(def: &ResourceDef) -> Arc<dyn Strategy> {
    let built_in = Arc::new(BuiltIn::new(def));
    if crd::check::is_definition(&def.gvk()) {
        Arc::new(crd::check::Definitions(built_in))
    } else {
        built_in
    }
}

impl Inner {
    /// The cache of a resource, in whichever version it is served.
    pub(super) fn cache_of(&self, group: &str, resource: &str) -> Option<Arc<Cache>> {
        let built_in = !group.contains('.') || group.ends_with(".k8s.io");
        let found = if built_in {
            self.caches.get(&prefix_of(group, resource, false))
        } else {
            None
        };
        found.or_else(|| self.caches.get(&prefix_of(group, resource, true)))
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

    /// Reads an object from the store, for the server's own parts when the cache may not have it yet.
    pub(crate) async fn look_up(
        &self,
        group: &str,
        version: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let Some((_, Some(resource))) = self.resource(group, version, resource) else {
            return Ok(None);
        };
        let keys = KeyRange::key(resource.store_key(&resource.key(namespace, name)));
        let page = self
            .store()
            .range(keys, ReadAt::Latest, None)
            .await
            .map_err(|e| store_status(&e))?;
        Ok(page.kvs.first().and_then(|kv| resource.cache.object_at(kv)))
    }
}
