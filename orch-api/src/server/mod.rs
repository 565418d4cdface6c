//! The API server after authentication: one chain for every caller, in process or over HTTPS.
//!
//! [`ApiServer::call`], [`ApiServer::watch`] and [`ApiServer::connect`] take a request apart ([`RequestInfo`]),
//! impersonate, authorize, admit and answer it. An HTTP front end authenticates, hands the request over and encodes
//! the answer; it decides nothing.

mod authorize;
mod builder;
mod dispatch;
mod extend;
mod request_info;
mod table;

pub use builder::{ApiServerBuilder, BuildError};
pub use extend::{ConnectContext, ConnectHandler, CreateHandler, ObjectReader, RawEndpoint};
pub use request_info::RequestInfo;
pub use table::{CustomFacts, ResourceTable, ServedGroup, ServedResource, version_priority};

use crate::authz::Authorizer;
use arc_swap::ArcSwap;
use orch_core::Env;
use orch_store::Store;
use std::{collections::BTreeMap, sync::Arc};

/// A running API server. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

/// Group, resource, subresource.
type Endpoint = (String, String, String);

struct Inner {
    env: Env,
    store: Arc<dyn Store>,
    authorizer: Arc<dyn Authorizer>,
    table: ArcSwap<ResourceTable>,
    table_changed: tokio::sync::watch::Sender<u64>,
    connect: BTreeMap<Endpoint, Arc<dyn ConnectHandler>>,
    create: BTreeMap<Endpoint, Arc<dyn CreateHandler>>,
    raw: Vec<(String, Arc<dyn RawEndpoint>)>,
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
        self.inner.table.load_full()
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
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}
