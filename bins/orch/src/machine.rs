//! The node side of one machine: agents, container runtime, pod network, service proxy, cluster DNS.

use crate::{demo, privileges};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use orch_api::pki::KeyAndCert;
use orch_core::{
    ApiClient, Env,
    informer::{Informer, InformerScope, SharedInformers},
    node::{NetworkBackend, NetworkError},
    spawn::Shutdown,
};
use orch_net::{
    dns::{DnsConfig, DnsServer, host_resolvers},
    feed,
    pod::{SimNetwork, VethConfig, VethNetwork, ipam, link},
    proxy::{
        ServiceProxy,
        nftables::{NftablesConfig, NftablesProxy},
        userspace::{LoopbackAddresses, UserspaceProxy},
    },
};
use orch_oci::{Config as OciConfig, OciRuntime};
use orch_runtime::{
    agent::{NodeAgent, NodeConfig, machine::FixedMachine},
    probe::SimProbes,
    runtime::{
        Runtime,
        sim::{SimOptions, SimRuntime},
    },
    server::{ByCertificate, ServerConfig, tls_config},
    volume::NoFiles,
};
use rustls::pki_types::pem::PemObject;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// What makes containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeKind {
    /// The embedded OCI runtime.
    Embedded,
    /// Nothing: containers are simulated.
    Sim,
}

/// One node of a machine.
#[derive(Debug, Clone)]
pub struct NodeParts {
    /// Name of the Node object.
    pub name: String,
    /// Range of its pods; `None` takes the one that the cluster gives it.
    pub pod_cidr: Option<Ipv4Net>,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Port of its own API.
    pub port: u16,
}

/// Who a node is towards the API server, and how it serves its own API.
#[derive(Clone)]
pub struct NodeIdentity {
    /// A client that acts as the node.
    pub client: Arc<dyn ApiClient>,
    /// Serving certificate of the node's API.
    pub serving: KeyAndCert,
    /// CA that the API server's client certificate chains to, PEM.
    pub client_ca_pem: String,
}

/// Settings of a [`Machine`].
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// Where pods, images and addresses are kept.
    pub data_dir: PathBuf,
    /// What makes containers.
    pub runtime: RuntimeKind,
    /// The nodes.
    pub nodes: Vec<NodeParts>,
    /// All pods of the cluster.
    pub cluster_cidr: Ipv4Net,
    /// Cluster IPs.
    pub service_cidr: Ipv4Net,
    /// Address of cluster DNS.
    pub dns_ip: Ipv4Addr,
    /// Cluster domain.
    pub domain: String,
    /// How long a node counts as alive after a heartbeat; heartbeats come four times as often. Upstream: 40 s.
    pub lease_duration: Duration,
}

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// Privileges are missing.
    #[error(
        "real containers need root; missing: {}. Without root, --runtime sim runs the whole control plane with simulated pods",
        .0.join(", ")
    )]
    Privileges(Vec<&'static str>),
    /// The container runtime.
    #[error("container runtime: {0}")]
    Runtime(#[from] orch_oci::Error),
    /// The pod network.
    #[error("pod network: {0}")]
    Network(#[from] NetworkError),
    /// An address of this machine.
    #[error("network: {0}")]
    Link(#[from] link::LinkError),
    /// A node's certificate or CA can't be used.
    #[error("credentials of node {node}: {message}")]
    Credentials {
        /// The node.
        node: String,
        /// What is wrong.
        message: String,
    },
    /// Files and sockets.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// How Services are proxied, for telling the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// Kernel rules.
    Nftables,
    /// Sockets on the cluster IPs, for want of `nft`.
    Userspace,
    /// Not at all: simulated pods answer nobody.
    None,
}

/// The running node side of this machine.
pub struct Machine {
    /// How Services are proxied.
    pub proxy: ProxyMode,
    dns: Option<Arc<DnsServer>>,
}

/// The address that a node has unless told otherwise.
#[must_use]
pub fn gateway(pod_cidr: Ipv4Net) -> Ipv4Addr {
    ipam::gateway(pod_cidr)
}

impl Machine {
    /// Starts the nodes, each with the identity that is given for it in the same order; proxy and DNS use the first one's.
    /// Ends with `shutdown`; containers run on.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn start(
        env: &Env,
        config: &MachineConfig,
        identities: &[NodeIdentity],
        shutdown: &Shutdown,
    ) -> Result<Self, MachineError> {
        let Some(first) = identities.first() else {
            return Ok(Self {
                proxy: ProxyMode::None,
                dns: None,
            });
        };
        if config.runtime == RuntimeKind::Sim {
            for (node, identity) in config.nodes.iter().zip(identities) {
                let agent = sim_agent(env, config, node, identity).await?;
                let stop = shutdown.clone();
                env.spawner
                    .spawn("node", Box::pin(async move { agent.run(stop).await }));
            }
            return Ok(Self {
                proxy: ProxyMode::None,
                dns: None,
            });
        }
        let missing = privileges::missing_for_containers();
        if !missing.is_empty() {
            return Err(MachineError::Privileges(missing));
        }
        let nft = NftablesProxy::probe().await;
        if let Err(e) = &nft {
            tracing::warn!("{e}: Services go through a userspace proxy");
        }
        let mut agents = Vec::new();
        for (node, identity) in config.nodes.iter().zip(identities) {
            agents.push(real_agent(env, config, node, identity, nft.is_ok(), shutdown).await?);
        }
        let (proxy, mode): (Arc<dyn ServiceProxy>, ProxyMode) = match nft {
            Ok(()) => {
                let rules = NftablesConfig {
                    table: "orch-services".into(),
                    service_cidr: config.service_cidr,
                    pod_cidr: config.cluster_cidr,
                };
                (Arc::new(NftablesProxy::new(rules)), ProxyMode::Nftables)
            }
            Err(_) => {
                let proxy = UserspaceProxy::on_cluster_ips(env.clone(), Arc::new(LoopbackAddresses));
                (Arc::new(proxy), ProxyMode::Userspace)
            }
        };
        let dns = start_dns(env, config).await?;
        let informers = SharedInformers::new(env, first.client.clone(), shutdown);
        let local: BTreeSet<String> = config.nodes.iter().map(|n| n.name.clone()).collect();
        spawn_feeds(
            env,
            &informers,
            proxy,
            dns.clone(),
            local,
            &config.domain,
            shutdown,
        );
        for agent in agents {
            let stop = shutdown.clone();
            env.spawner
                .spawn("node", Box::pin(async move { agent.run(stop).await }));
        }
        Ok(Self {
            proxy: mode,
            dns: Some(dns),
        })
    }

    /// Where cluster DNS listens.
    #[must_use]
    pub fn dns(&self) -> &[SocketAddr] {
        self.dns.as_ref().map_or(&[], |dns| dns.listening())
    }
}

fn spawn_feeds(
    env: &Env,
    informers: &SharedInformers,
    proxy: Arc<dyn ServiceProxy>,
    dns: Arc<DnsServer>,
    local: BTreeSet<String>,
    domain: &str,
    shutdown: &Shutdown,
) {
    let (env_, informers_, nodes, stop) = (env.clone(), informers.clone(), local.clone(), shutdown.clone());
    let rules = async move { feed::run_proxy(&env_, &informers_, proxy, nodes, stop).await };
    env.spawner.spawn("service-proxy", Box::pin(rules));
    let (informers_, domain, stop) = (informers.clone(), domain.to_owned(), shutdown.clone());
    let records = async move { feed::run_dns(&informers_, dns, &domain, stop).await };
    env.spawner.spawn("cluster-dns", Box::pin(records));
    let (env_, informers_, stop) = (env.clone(), informers.clone(), shutdown.clone());
    let routes = async move { feed::run_routes(&env_, &informers_, local, stop).await };
    env.spawner.spawn("routes", Box::pin(routes));
}

async fn start_dns(env: &Env, config: &MachineConfig) -> Result<Arc<DnsServer>, MachineError> {
    link::add_loopback_address(IpAddr::V4(config.dns_ip)).await?;
    let resolvers = host_resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let listen = vec![SocketAddr::new(IpAddr::V4(config.dns_ip), 53)];
    let dns = DnsConfig {
        listen,
        forward: resolvers,
    };
    let started = DnsServer::start(env, dns, &config.domain).await;
    started.map(Arc::new).map_err(|source| MachineError::Io {
        what: "starting cluster DNS".into(),
        source,
    })
}

fn node_config(config: &MachineConfig, node: &NodeParts) -> NodeConfig {
    let mut agent = NodeConfig::new(
        node.name.clone(),
        IpAddr::V4(node.ip),
        node_dir(&config.data_dir, &node.name),
    );
    agent.port = node.port;
    agent.pod_cidrs = node.pod_cidr.iter().map(ToString::to_string).collect();
    agent.cluster_dns = vec![IpAddr::V4(config.dns_ip)];
    agent.cluster_domain.clone_from(&config.domain);
    agent.lease_duration = config.lease_duration;
    agent.lease_interval = config.lease_duration / 4;
    agent
}

fn node_dir(data_dir: &Path, node: &str) -> PathBuf {
    data_dir.join("nodes").join(node)
}

async fn real_agent(
    env: &Env,
    config: &MachineConfig,
    node: &NodeParts,
    identity: &NodeIdentity,
    nftables: bool,
    shutdown: &Shutdown,
) -> Result<NodeAgent, MachineError> {
    let dir = node_dir(&config.data_dir, &node.name);
    let io = |what: &str, path: &Path| {
        let what = format!("{what} {}", path.display());
        move |source| MachineError::Io { what, source }
    };
    let runtime_dir = dir.join("runtime");
    std::fs::create_dir_all(&runtime_dir).map_err(io("creating", &runtime_dir))?;
    share_images(&config.data_dir, &runtime_dir).map_err(io("linking the images into", &runtime_dir))?;
    let runtime = OciRuntime::open(env.clone(), OciConfig::new(&runtime_dir)).await?;
    demo::ensure_images(&runtime.image_store())?;
    let network = VethNetwork::new(VethConfig {
        dir: dir.join("network"),
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_cidr,
        table: format!("orch-pods-{}", node.name),
        nftables,
    });
    let network = Arc::new(network);
    match node.pod_cidr {
        Some(range) => network.set_range(range).await?,
        None => follow_range(
            env,
            identity.client.clone(),
            node.name.clone(),
            network.clone(),
            shutdown,
        ),
    }
    let network: Arc<dyn NetworkBackend> = network;
    let runtime: Arc<dyn Runtime> = Arc::new(runtime);
    let agent = NodeAgent::new(
        node_config(config, node),
        env.clone(),
        identity.client.clone(),
        runtime,
        network,
    );
    Ok(agent.with_server(node_server(node, identity).await?))
}

/// Gives the network the range that the cluster gives the node, as soon as it is known.
fn follow_range(
    env: &Env,
    client: Arc<dyn ApiClient>,
    name: String,
    network: Arc<VethNetwork>,
    shutdown: &Shutdown,
) {
    let scope = InformerScope {
        fields: format!("metadata.name={name}"),
        ..InformerScope::default()
    };
    let informer = Informer::<Node>::start(env, client, scope, shutdown);
    let (env_, stop) = (env.clone(), shutdown.clone());
    let task = async move {
        let mut changes = informer.subscribe();
        while let Some(change) = tokio::select! { c = changes.recv() => c, () = stop.wait() => None } {
            let range = change
                .object()
                .spec
                .as_ref()
                .and_then(|s| s.pod_cidr.as_deref()?.parse().ok());
            let Some(range) = range else { continue };
            while let Err(e) = network.set_range(range).await {
                tracing::warn!("pod range {range} of {name} not set up: {e}");
                env_.clock.sleep(Duration::from_secs(1)).await;
            }
            return;
        }
    };
    env.spawner.spawn("pod-range", Box::pin(task));
}

/// The socket and TLS of a node's own API. Only the API server may use it.
async fn node_server(node: &NodeParts, identity: &NodeIdentity) -> Result<ServerConfig, MachineError> {
    let wrong = |message: String| MachineError::Credentials {
        node: node.name.clone(),
        message,
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(identity.client_ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    let chain = identity.serving.chain().map_err(wrong)?;
    let key = identity.serving.private_key().map_err(wrong)?;
    let tls = tls_config(chain, key, roots).map_err(|e| wrong(e.to_string()))?;
    let address = SocketAddr::new(IpAddr::V4(node.ip), node.port);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| MachineError::Io {
            what: format!("node API on {address}"),
            source,
        })?;
    Ok(ServerConfig {
        listener,
        tls,
        authorizer: Arc::new(ByCertificate::api_server()),
    })
}

/// All nodes of a machine share one image store.
fn share_images(data_dir: &Path, runtime_dir: &Path) -> std::io::Result<()> {
    let store = images_dir(data_dir);
    std::fs::create_dir_all(&store)?;
    let link = runtime_dir.join("images");
    match std::os::unix::fs::symlink(store.canonicalize()?, &link) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Where the images of a data directory live.
#[must_use]
pub fn images_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("images")
}

async fn sim_agent(
    env: &Env,
    config: &MachineConfig,
    node: &NodeParts,
    identity: &NodeIdentity,
) -> Result<NodeAgent, MachineError> {
    let options = SimOptions {
        all_images_present: true,
        ..SimOptions::default()
    };
    let runtime = SimRuntime::new(env.clone(), options);
    let probes = Arc::new(SimProbes(runtime.clone()));
    let network = Arc::new(SimNetwork::new(node.pod_cidr.unwrap_or(config.cluster_cidr)));
    // No address of this machine leads to a simulated node: it serves its API on a free port of loopback.
    let local = NodeParts {
        ip: Ipv4Addr::LOCALHOST,
        port: 0,
        ..node.clone()
    };
    let server = node_server(&local, identity).await?;
    Ok(NodeAgent::new(
        node_config(config, &local),
        env.clone(),
        identity.client.clone(),
        runtime,
        network,
    )
    .with_files(Arc::new(NoFiles))
    .with_probes(probes)
    .with_machine(Arc::new(FixedMachine::new(8, 32 << 30)))
    .with_server(server))
}

/// Ends every pod of a data directory and removes its network. Nothing may run on the directory meanwhile.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn teardown(data_dir: &Path) -> Result<(), MachineError> {
    let nodes = data_dir.join("nodes");
    let entries = match std::fs::read_dir(&nodes) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(MachineError::Io {
                what: format!("reading {}", nodes.display()),
                source,
            });
        }
    };
    let mut first = Ok(());
    for entry in entries.flatten() {
        first = first.and(orch_oci::teardown(&entry.path().join("runtime")).map_err(MachineError::from));
        let ips = entry.path().join("network/ips");
        for ip in std::fs::read_dir(&ips).into_iter().flatten().flatten() {
            if let Ok(uid) = std::fs::read_to_string(ip.path()) {
                first = first.and(VethNetwork::forget(&uid).await.map_err(MachineError::from));
            }
            drop(std::fs::remove_file(ip.path()));
        }
    }
    first
}
