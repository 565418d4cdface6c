//! The control plane: store, API server, controllers, scheduler.

use crate::{
    addons,
    machine::{NodeIdentity, NodeParts},
};
use ipnet::{IpNet, Ipv4Net};
use orch_api::{
    ApiServer, ApiServerBuilder, LocalClient, SetupError,
    admission::{Chain, DefaultTolerationSeconds},
    frontend::{Access, Frontend, FrontendConfig},
    http::Listener,
    kube_service::KubeService,
    kubeconfig::Kubeconfig,
    pki::{KeyAndCert, Pki, ServingNames},
    server::BuildError,
};
use orch_controllers::{ControllerConfig, ControllerSet, PodCidr};
use orch_core::{ApiClient, Env, UserInfo, informer::SharedInformers, spawn::Shutdown};
use orch_sched::{Scheduler, SchedulerConfig};
use orch_store::{EmbeddedStore, MemStore, Store};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a control plane could not be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store could not be opened.
    #[error("opening the store: {0}")]
    Store(#[from] orch_store::Error),
    /// A key, certificate, kubeconfig or socket.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The API server could not be built.
    #[error("starting the API server: {0}")]
    Build(#[from] BuildError),
    /// What every cluster has could not be made.
    #[error("creating the cluster's own objects: {0}")]
    Addons(#[from] orch_core::Status),
    /// A parameter makes no sense.
    #[error("{0}")]
    Parameter(String),
}

/// Parameters of a [`ControlPlane`].
pub struct ControlPlaneBuilder {
    env: Env,
    data_dir: Option<PathBuf>,
    listen: Vec<SocketAddr>,
    advertise: Vec<IpAddr>,
    service_cidr: Ipv4Net,
    pod_cidr: Ipv4Net,
    domain: String,
    controllers: Option<ControllerConfig>,
    scheduler: Option<SchedulerConfig>,
    default_toleration_seconds: u32,
}

/// An API server with its store, controllers and scheduler, in this process.
///
/// Dropping it leaves it running; call [`ControlPlane::stop`].
pub struct ControlPlane {
    env: Env,
    api: ApiServer,
    pki: Arc<Pki>,
    embedded: Option<Arc<EmbeddedStore>>,
    listening: Vec<SocketAddr>,
    service_cidr: Ipv4Net,
    pod_cidr: Ipv4Net,
    domain: String,
    scheduler: Option<Scheduler>,
    frontend: Frontend,
    shutdown: Shutdown,
}

impl ControlPlane {
    /// A control plane in memory, without a socket, with upstream's default ranges.
    #[must_use]
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder {
            env: Env::system(),
            data_dir: None,
            listen: Vec::new(),
            advertise: Vec::new(),
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
            pod_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16),
            domain: "cluster.local".into(),
            controllers: Some(ControllerConfig::default()),
            scheduler: Some(SchedulerConfig::default()),
            default_toleration_seconds: 300,
        }
    }

    /// The API server.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// A client in process with all rights.
    #[must_use]
    pub fn client(&self) -> Arc<dyn ApiClient> {
        self.client_as(admin())
    }

    /// A client in process that acts as `user`.
    #[must_use]
    pub fn client_as(&self, user: UserInfo) -> Arc<dyn ApiClient> {
        Arc::new(LocalClient::new(self.api.clone(), user))
    }

    /// A `kube` client in process with all rights. No socket is involved.
    #[must_use]
    pub fn kube_client(&self) -> kube::Client {
        kube::Client::new(KubeService::new(self.api.clone(), admin()), "default")
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// The scheduler, if it runs here.
    #[must_use]
    pub fn scheduler(&self) -> Option<&Scheduler> {
        self.scheduler.as_ref()
    }

    /// Where HTTPS is served.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The range of cluster IPs.
    #[must_use]
    pub fn service_cidr(&self) -> Ipv4Net {
        self.service_cidr
    }

    /// The range of pod addresses.
    #[must_use]
    pub fn pod_cidr(&self) -> Ipv4Net {
        self.pod_cidr
    }

    /// The cluster domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The address of cluster DNS: the tenth of the service range, as upstream's installers choose it.
    #[must_use]
    pub fn dns_ip(&self) -> Ipv4Addr {
        addons::dns_ip(self.service_cidr)
    }

    /// Serves HTTPS on one more address.
    ///
    /// # Errors
    /// [`SetupError`] if the address cannot be bound.
    pub fn listen_also(&self, address: SocketAddr) -> Result<(), SetupError> {
        let listener = Listener::bind(address)?;
        let server = self.frontend.server(&self.api)?;
        self.env
            .spawner
            .spawn("https", Box::pin(server.serve(vec![listener])));
        Ok(())
    }

    /// Credentials of an administrator, for `server` such as `https://127.0.0.1:6443`.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn admin_kubeconfig(&self, server: &str) -> Result<Kubeconfig, SetupError> {
        let now = self.env.clock.now();
        let client = self.pki.client("kubernetes-admin", &["system:masters"], now)?;
        Ok(Kubeconfig::with_certificate(
            server,
            self.pki.ca.cert_pem(),
            "kubernetes-admin",
            client,
        ))
    }

    /// Credentials of a node.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn node_kubeconfig(&self, node: &str, server: &str) -> Result<Kubeconfig, SetupError> {
        let client = self.pki.node_client(node, self.env.clock.now())?;
        Ok(Kubeconfig::with_certificate(
            server,
            self.pki.ca.cert_pem(),
            format!("system:node:{node}"),
            client,
        ))
    }

    /// What a node of this process needs: a client in process, and a serving certificate for its own API.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn node_identity(&self, node: &NodeParts) -> Result<NodeIdentity, SetupError> {
        let user = UserInfo::new(format!("system:node:{}", node.name), &["system:nodes"]);
        Ok(NodeIdentity {
            client: self.client_as(user),
            serving: self.node_serving(&node.name, node.ip)?,
            client_ca_pem: self.pki.ca.cert_pem().to_owned(),
        })
    }

    /// A serving certificate for the API of a node.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn node_serving(&self, node: &str, ip: Ipv4Addr) -> Result<KeyAndCert, SetupError> {
        let ips = vec![IpAddr::V4(ip), IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let names = ServingNames {
            dns: vec![node.to_owned()],
            ips,
        };
        self.pki.kubelet_serving(node, &names, self.env.clock.now())
    }

    /// Ends the loops and flushes the store. Pods are not touched.
    pub async fn stop(self) {
        self.shutdown.trigger();
        if let Some(store) = &self.embedded {
            store.close().await;
        }
    }
}

fn admin() -> UserInfo {
    UserInfo::new("kubernetes-admin", &["system:masters"])
}

impl ControlPlaneBuilder {
    /// Takes time, randomness and tasks from `env` instead of the machine.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }
    /// Keeps state and keys in a directory; without one everything is in memory.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }
    /// Serves HTTPS on an address. May repeat.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }
    /// Addresses at which pods reach the API server, through Service `default/kubernetes`.
    #[must_use]
    pub fn advertise(mut self, addresses: Vec<IpAddr>) -> Self {
        self.advertise = addresses;
        self
    }
    /// The range of cluster IPs.
    #[must_use]
    pub fn service_cidr(mut self, range: Ipv4Net) -> Self {
        self.service_cidr = range;
        self
    }
    /// The range of pod addresses.
    #[must_use]
    pub fn pod_cidr(mut self, range: Ipv4Net) -> Self {
        self.pod_cidr = range;
        self
    }
    /// The cluster domain.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }
    /// Settings of the controllers; `None` runs none.
    #[must_use]
    pub fn controllers(mut self, config: Option<ControllerConfig>) -> Self {
        self.controllers = config;
        self
    }
    /// How long pods that say nothing of it stay on nodes that are not ready or unreachable. Upstream: 300.
    #[must_use]
    pub fn default_toleration_seconds(mut self, seconds: u32) -> Self {
        self.default_toleration_seconds = seconds;
        self
    }
    /// Settings of the scheduler; `None` runs none.
    #[must_use]
    pub fn scheduler(mut self, config: Option<SchedulerConfig>) -> Self {
        self.scheduler = config;
        self
    }

    /// Starts everything. At return the API answers and what every cluster has exists.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<ControlPlane, StartError> {
        let env = self.env.clone();
        let now = env.clock.now();
        // Sockets first: a port in use must not leave anything behind.
        let listeners: Vec<Listener> = self
            .listen
            .iter()
            .map(|a| Listener::bind(*a))
            .collect::<Result<_, _>>()?;
        let listening: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
        let mut addresses: Vec<IpAddr> = self.advertise.clone();
        addresses.extend(listening.iter().map(SocketAddr::ip));
        let first_service_ip = self.service_cidr.hosts().next().map(IpAddr::V4);
        let names = ServingNames::api_server(&self.domain, first_service_ip, &addresses);
        let (store, embedded, pki) = match &self.data_dir {
            Some(dir) => {
                let store = Arc::new(EmbeddedStore::open(store_dir(dir), env.clone()).await?);
                (
                    store.clone() as Arc<dyn Store>,
                    Some(store),
                    Pki::open(&dir.join("pki"), &names, now)?,
                )
            }
            None => (
                Arc::new(MemStore::new(env.clone())) as Arc<dyn Store>,
                None,
                Pki::ephemeral(&names, now)?,
            ),
        };
        let shutdown = Shutdown::new();
        let access = Access::standard();
        let advertise_port = listening.first().map_or(6443, SocketAddr::port);
        let builder = ApiServerBuilder::new(env.clone(), store, access.authorizer())
            .service_cidrs(vec![IpNet::V4(self.service_cidr)])
            .advertise(self.advertise.clone(), advertise_port)
            .admission(Chain::standard().with(Arc::new(DefaultTolerationSeconds {
                not_ready: self.default_toleration_seconds,
                unreachable: self.default_toleration_seconds,
            })));
        let external = listening
            .first()
            .map_or_else(|| "127.0.0.1:6443".to_owned(), ToString::to_string);
        let mut config = FrontendConfig::new(external);
        config.shutdown = shutdown.clone();
        let (builder, frontend) = Frontend::equip(builder, env.clone(), &pki, &access, config)?;
        let api = builder.build().await?;
        if !listeners.is_empty() {
            let server = frontend.server(&api)?;
            env.spawner.spawn("https", Box::pin(server.serve(listeners)));
        }
        let plane = ControlPlane {
            env: env.clone(),
            api,
            pki: Arc::new(pki),
            embedded,
            listening,
            service_cidr: self.service_cidr,
            pod_cidr: self.pod_cidr,
            domain: self.domain,
            scheduler: None,
            frontend,
            shutdown,
        };
        plane.frontend.publish(&plane.api).await?;
        addons::ensure(&plane.client(), plane.service_cidr).await?;
        Ok(start_loops(plane, self.controllers, self.scheduler))
    }
}

/// Where the embedded store lives in a data directory.
#[must_use]
pub(crate) fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

fn start_loops(
    mut plane: ControlPlane,
    controllers: Option<ControllerConfig>,
    scheduler: Option<SchedulerConfig>,
) -> ControlPlane {
    let (env, shutdown) = (plane.env.clone(), plane.shutdown.clone());
    if let Some(mut config) = controllers {
        config
            .root_ca_pem
            .get_or_insert_with(|| plane.pki.ca.cert_pem().to_owned());
        config.pod_cidr = config.pod_cidr.map(|range| PodCidr {
            network: IpAddr::V4(plane.pod_cidr.network()),
            prefix: plane.pod_cidr.prefix_len(),
            ..range
        });
        let client = plane.client_as(UserInfo::new(
            "system:kube-controller-manager",
            &["system:masters"],
        ));
        let set = ControllerSet::new(env.clone(), client, config);
        let stop = shutdown.clone();
        env.spawner
            .spawn("controllers", Box::pin(async move { set.run(stop).await }));
    }
    if let Some(config) = scheduler {
        let client = plane.client_as(UserInfo::new("system:kube-scheduler", &[]));
        let scheduler = Scheduler::new(&env, client.clone(), config);
        plane.scheduler = Some(scheduler.clone());
        let informers = SharedInformers::new(&env, client, &shutdown);
        env.spawner.spawn(
            "scheduler",
            Box::pin(async move { scheduler.run(&informers, shutdown).await }),
        );
    }
    plane
}
