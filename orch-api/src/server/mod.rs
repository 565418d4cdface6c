//! The API server after authentication: one chain for every caller, in process or over HTTPS.
//!
//! [`ApiServer::call`], [`ApiServer::watch`] and [`ApiServer::connect`] take a request apart ([`RequestInfo`]),
//! impersonate, authorize, admit and answer it. An HTTP front end authenticates, hands the request over and encodes
//! the answer; it decides nothing.

mod authorize;
mod builder;
mod dispatch;
mod extend;
mod leases;
mod request_info;
mod reviews;
mod serving;
mod table;

pub use builder::{ApiServerBuilder, BuildError};
pub use extend::{ConnectContext, ConnectHandler, CreateHandler, ObjectReader, RawEndpoint};
pub use request_info::RequestInfo;
pub use table::{CustomFacts, ResourceTable, ServedGroup, ServedResource, version_priority};

pub(crate) use authorize::forbidden;
pub(crate) use dispatch::{method_not_allowed, not_served};

use crate::{admission::Chain, alloc::Pools, authz::Authorizer, cache::Caches};
use arc_swap::ArcSwap;
use orch_core::{Env, Object};
use orch_store::Store;
use serving::Serving;
use std::{collections::BTreeMap, sync::Arc};

/// A running API server. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

/// A server that lives only as long as somebody else holds it: for its own background work.
#[derive(Clone)]
pub(crate) struct WeakServer(std::sync::Weak<Inner>);

impl WeakServer {
    /// The server, if it still lives.
    pub(crate) fn upgrade(&self) -> Option<ApiServer> {
        self.0.upgrade().map(|inner| ApiServer { inner })
    }
}

/// Group, resource, subresource.
type Endpoint = (String, String, String);

struct Inner {
    env: Env,
    store: Arc<dyn Store>,
    authorizer: Arc<dyn Authorizer>,
    caches: Caches,
    serving: ArcSwap<Serving>,
    table_changed: tokio::sync::watch::Sender<u64>,
    admission: Chain,
    pools: Arc<parking_lot::Mutex<Pools>>,
    leases: leases::LeasePool,
    background: parking_lot::Mutex<Vec<orch_core::spawn::TaskHandle>>,
    connect: BTreeMap<Endpoint, Arc<dyn ConnectHandler>>,
    create: BTreeMap<Endpoint, Arc<dyn CreateHandler>>,
    raw: Vec<(String, Arc<dyn RawEndpoint>)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.background
            .get_mut()
            .iter()
            .for_each(orch_core::spawn::TaskHandle::abort);
    }
}

impl ApiServer {
    /// The handles that the server was built with.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }
    /// What is served now.
    #[must_use]
    pub fn resources(&self) -> Arc<ResourceTable> {
        self.inner.serving.load().table.clone()
    }
    /// Changes whenever [`ApiServer::resources`] does; the value is the table's generation.
    #[must_use]
    pub fn resources_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.table_changed.subscribe()
    }
    /// The authorizer, for virtual endpoints that ask on a user's behalf.
    #[must_use]
    pub fn authorizer(&self) -> &Arc<dyn Authorizer> {
        &self.inner.authorizer
    }
    /// The store below, for health checks.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }
    /// Direct reads for the server's own parts.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn ObjectReader> {
        Arc::new(Reader(Arc::downgrade(&self.inner)))
    }
    /// This server for its own background work, which must not keep it alive.
    pub(crate) fn weak(&self) -> WeakServer {
        WeakServer(Arc::downgrade(&self.inner))
    }
    /// Told of every change of a resource's objects.
    pub(crate) fn changes_of(
        &self,
        group: &str,
        resource: &str,
    ) -> Option<tokio::sync::watch::Receiver<u64>> {
        self.inner.cache_of(group, resource).map(|c| c.subscribe())
    }
    pub(crate) fn caches(&self) -> &Caches {
        &self.inner.caches
    }
    pub(crate) fn pools(&self) -> &Arc<parking_lot::Mutex<Pools>> {
        &self.inner.pools
    }
    pub(crate) fn admission(&self) -> &Chain {
        &self.inner.admission
    }
}

impl ObjectReader for ApiServer {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let cache = self.inner.cache_of(group, resource)?;
        let entry = if namespace.is_empty() {
            cache.get(name)
        } else {
            cache.get(&format!("{namespace}/{name}"))
        };
        entry.map(|e| e.object)
    }
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let Some(cache) = self.inner.cache_of(group, resource) else {
            return Vec::new();
        };
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        cache.range(&prefix, None, 0, |_| true, usize::MAX).objects
    }
    fn revision(&self, group: &str, resource: &str) -> u64 {
        self.inner
            .cache_of(group, resource)
            .map_or(0, |c| c.last_change())
    }
}

/// A reader that does not keep the server alive: its own parts hold it.
struct Reader(std::sync::Weak<Inner>);

impl ObjectReader for Reader {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        ApiServer {
            inner: self.0.upgrade()?,
        }
        .get(group, resource, namespace, name)
    }
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let Some(inner) = self.0.upgrade() else {
            return Vec::new();
        };
        ApiServer { inner }.list(group, resource, namespace)
    }
    fn revision(&self, group: &str, resource: &str) -> u64 {
        self.0
            .upgrade()
            .map_or(0, |inner| ApiServer { inner }.revision(group, resource))
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}
