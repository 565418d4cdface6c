//! Building an [`ApiServer`].

use super::{
    ApiServer, ConnectHandler, CreateHandler, Endpoint, Inner, RawEndpoint,
    leases::LeasePool,
    serving::{Serving, prefixes},
};
use crate::{
    admission::Chain, alloc::Pools, authz::Authorizer, cache::Caches, registry::resource::prefix_of,
};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use orch_core::Env;
use orch_store::Store;
use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The store failed at start.
    #[error("reading the store")]
    Store(#[from] orch_store::Error),
    /// A parameter makes no sense.
    #[error("invalid parameter: {0}")]
    Parameter(String),
    /// Objects that every cluster has could not be made.
    #[error("creating the first objects")]
    Bootstrap(#[source] orch_core::Status),
}

/// Parameters of an [`ApiServer`], and its extension points.
pub struct ApiServerBuilder {
    pub(crate) env: Env,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) node_ports: RangeInclusive<u16>,
    pub(crate) advertise: Vec<IpAddr>,
    pub(crate) advertise_port: u16,
    pub(crate) event_ttl: Duration,
    pub(crate) connect: BTreeMap<Endpoint, Arc<dyn ConnectHandler>>,
    pub(crate) create: BTreeMap<Endpoint, Arc<dyn CreateHandler>>,
    pub(crate) raw: Vec<(String, Arc<dyn RawEndpoint>)>,
    pub(crate) admission: Chain,
}

impl ApiServerBuilder {
    /// A server over `store` that asks `authorizer`, with upstream's defaults: services in `10.96.0.0/12`, node ports
    /// 30000 to 32767, events kept for an hour, nothing advertised as `default/kubernetes`.
    pub fn new(env: Env, store: Arc<dyn Store>, authorizer: Arc<dyn Authorizer>) -> Self {
        let default_cidr = IpNet::from(ipnet::Ipv4Net::new_assert(
            std::net::Ipv4Addr::new(10, 96, 0, 0),
            12,
        ));
        Self {
            env,
            store,
            authorizer,
            service_cidrs: vec![default_cidr],
            node_ports: 30000..=32767,
            advertise: Vec::new(),
            advertise_port: 6443,
            event_ttl: Duration::from_secs(3600),
            connect: BTreeMap::new(),
            create: BTreeMap::new(),
            raw: Vec::new(),
            admission: Chain::standard(),
        }
    }
    /// The range that cluster IPs come from. A second call adds the range of the other IP family.
    #[must_use]
    pub fn service_cidrs(mut self, cidrs: impl Into<Vec<IpNet>>) -> Self {
        self.service_cidrs = cidrs.into();
        self
    }
    /// The range that node ports come from.
    #[must_use]
    pub fn node_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.node_ports = ports;
        self
    }
    /// Where this server can be reached by pods: endpoints of Service `default/kubernetes`.
    #[must_use]
    pub fn advertise(mut self, addresses: impl Into<Vec<IpAddr>>, port: u16) -> Self {
        self.advertise = addresses.into();
        self.advertise_port = port;
        self
    }
    /// How long events are kept.
    #[must_use]
    pub fn event_ttl(mut self, ttl: Duration) -> Self {
        self.event_ttl = ttl;
        self
    }
    /// Replaces the authorizer.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = authorizer;
        self
    }
    /// Replaces the admission chain, which is [`Chain::standard`] otherwise.
    #[must_use]
    pub fn admission(mut self, chain: Chain) -> Self {
        self.admission = chain;
        self
    }
    /// Adds a plugin at the end of the admission chain.
    #[must_use]
    pub fn admission_plugin(mut self, plugin: Arc<dyn crate::admission::AdmissionPlugin>) -> Self {
        self.admission.push(plugin);
        self
    }
    /// Serves a streaming or proxying subresource.
    #[must_use]
    pub fn connect_handler(
        mut self,
        group: &str,
        resource: &str,
        subresource: &str,
        handler: Arc<dyn ConnectHandler>,
    ) -> Self {
        self.connect
            .insert((group.into(), resource.into(), subresource.into()), handler);
        self
    }
    /// Serves a create-only resource (empty `subresource`) or subresource whose answer is computed.
    #[must_use]
    pub fn create_handler(
        mut self,
        group: &str,
        resource: &str,
        subresource: &str,
        handler: Arc<dyn CreateHandler>,
    ) -> Self {
        self.create
            .insert((group.into(), resource.into(), subresource.into()), handler);
        self
    }
    /// Serves the path `path`; with a trailing `*`, everything that begins so. The longest match wins.
    #[must_use]
    pub fn raw_endpoint(mut self, path: &str, endpoint: Arc<dyn RawEndpoint>) -> Self {
        self.raw.push((path.into(), endpoint));
        self
    }

    /// Reads the store, makes what every cluster has, and starts serving. Background work runs on the `Env`'s
    /// spawner until the last clone of the server is dropped.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left running.
    pub async fn build(mut self) -> Result<ApiServer, BuildError> {
        self.raw.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let caches = Caches::start(self.env.clone(), self.store.clone(), prefixes()).await?;
        let serving = Serving::built_in(&caches, self.event_ttl);
        for (endpoint, handler) in super::reviews::endpoints() {
            self.create.entry(endpoint).or_insert(handler);
        }
        let mut pools = Pools::new(&self.service_cidrs, self.node_ports);
        if let Some(services) = caches.get(&prefix_of("", "services", false)) {
            services
                .range("", None, 0, |_| true, usize::MAX)
                .objects
                .iter()
                .for_each(|s| pools.occupy(s));
        }
        let inner = Inner {
            env: self.env,
            store: self.store,
            authorizer: self.authorizer,
            caches,
            serving: ArcSwap::from_pointee(serving),
            table_changed: tokio::sync::watch::channel(1).0,
            admission: self.admission,
            pools: Arc::new(parking_lot::Mutex::new(pools)),
            leases: LeasePool::default(),
            background: parking_lot::Mutex::default(),
            connect: self.connect,
            create: self.create,
            raw: self.raw,
        };
        let server = ApiServer {
            inner: Arc::new(inner),
        };
        server.authorizer().attach(server.reader());
        crate::bootstrap::ensure(&server, &self.advertise, self.advertise_port).await?;
        let (first, served) = tokio::sync::oneshot::channel();
        let follow = Box::pin(crate::crd::follow(server.weak(), first));
        let task = server.env().spawner.spawn("api-custom-resources", follow);
        server.inner.background.lock().push(task);
        let keep = crate::bootstrap::keep(server.weak(), self.advertise, self.advertise_port);
        let task = server.env().spawner.spawn("api-own-objects", Box::pin(keep));
        server.inner.background.lock().push(task);
        // Objects of custom resources are reachable from the first moment on.
        drop(served.await);
        Ok(server)
    }
}
