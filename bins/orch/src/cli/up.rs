//! `orch up`.

use super::progress;
use anyhow::Context;
use clap::{Args, ValueEnum};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use orch::{
    ControlPlane, Machine, MachineConfig,
    apply::{self, Applied},
    machine::{NodeParts, ProxyMode, RuntimeKind, gateway},
};
use orch_controllers::ControllerConfig;
use orch_core::{ApiClient, Env, informer::SharedInformers, spawn::Shutdown};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuntimeFlag {
    /// Real containers, no daemon.
    Embedded,
    /// No process: pods are simulated.
    Sim,
}

/// Bring up a whole cluster in the foreground: API server, store, controllers, scheduler, nodes, service proxy, DNS.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Manifests to apply once the cluster is ready.
    #[arg(short = 'f', long = "file", value_name = "MANIFEST")]
    files: Vec<PathBuf>,
    /// Where the cluster keeps everything. Running on the same directory again resumes the same cluster.
    #[arg(long, default_value_os_t = super::default_data_dir())]
    data_dir: PathBuf,
    /// Address of the API server.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// How many nodes to run in this process.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// What makes containers.
    #[arg(long, value_enum, default_value = "embedded")]
    runtime: RuntimeFlag,
    /// File that appears when the API answers and every node is ready.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Range of pod addresses; each node takes a /24 of it.
    #[arg(long, default_value = "10.244.0.0/16")]
    pod_cidr: Ipv4Net,
    /// Range of cluster IPs.
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,
    /// Address of this machine for nodes elsewhere; by default nodes have addresses that only this machine knows.
    #[arg(long)]
    node_ip: Option<Ipv4Addr>,
    /// How long a node counts as alive after a heartbeat, in seconds; heartbeats come four times as often.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    node_lease_seconds: u64,
    /// How long a node may be silent before its pods are marked not ready, in seconds.
    #[arg(long, default_value_t = 50)]
    node_monitor_grace_seconds: u64,
    /// Tolerate not-ready and unreachable nodes this long in pods that say nothing of it, in seconds.
    #[arg(long, default_value_t = 300)]
    default_toleration_seconds: u32,
}

impl Up {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let env = Env::system();
        let began = env.clock.monotonic();
        let shutdown = Shutdown::new();
        if let Some(path) = &self.ready_file {
            remove_if_there(path)?;
        }
        let nodes = self.node_parts()?;
        std::fs::create_dir_all(&self.data_dir)
            .with_context(|| format!("--data-dir {}", self.data_dir.display()))?;
        let plane = self.control_plane(&env, &nodes).await?;
        let machine = self.machine(&env, &plane, nodes.clone(), &shutdown).await?;
        let client = plane.client();
        let server = format!("https://{}", plane.listening().first().unwrap_or(&self.listen));
        let kubeconfig = self.data_dir.join("kubeconfig");
        plane.admin_kubeconfig(&server)?.write(&kubeconfig)?;
        let stopping = stop_signal(shutdown.clone())?;
        let waited = tokio::select! {
            () = nodes_ready(&env, client.clone(), nodes.len()) => true,
            () = shutdown.wait() => false,
        };
        if waited {
            let took = env.clock.monotonic().since(began);
            self.tell_ready(&server, &kubeconfig, &machine, nodes.len(), took);
            if let Some(path) = &self.ready_file {
                std::fs::write(path, b"ready\n")
                    .with_context(|| format!("--ready-file {}", path.display()))?;
            }
            self.roll_out(&env, &client, &shutdown).await?;
        }
        shutdown.wait().await;
        stopping.abort();
        println!("stopping; containers run on: `orch up` again adopts them, `orch down` ends them");
        plane.stop().await;
        if let Some(path) = &self.ready_file {
            remove_if_there(path)?;
        }
        Ok(())
    }

    fn node_parts(&self) -> anyhow::Result<Vec<NodeParts>> {
        let mut ranges = self
            .pod_cidr
            .subnets(24)
            .context("--pod-cidr must be larger than a /24")?;
        (0..self.nodes)
            .map(|at| {
                let pod_cidr = ranges
                    .next()
                    .context("--pod-cidr has no room for so many --nodes")?;
                // Nodes that share an address need ports of their own.
                let port = if self.node_ip.is_some() {
                    10250 + u16::from(at)
                } else {
                    10250
                };
                Ok(NodeParts {
                    name: format!("node-{}", at + 1),
                    pod_cidr: Some(pod_cidr),
                    ip: self.node_ip.unwrap_or_else(|| gateway(pod_cidr)),
                    port,
                })
            })
            .collect()
    }

    async fn control_plane(&self, env: &Env, nodes: &[NodeParts]) -> anyhow::Result<ControlPlane> {
        let grace = Duration::from_secs(self.node_monitor_grace_seconds);
        let controllers = ControllerConfig {
            node_monitor_grace: grace,
            node_monitor_period: (grace / 10).min(Duration::from_secs(5)),
            ..ControllerConfig::default()
        };
        let mut builder = ControlPlane::builder()
            .env(env.clone())
            .data_dir(&self.data_dir)
            .listen(self.listen)
            .pod_cidr(self.pod_cidr)
            .service_cidr(self.service_cidr)
            .default_toleration_seconds(self.default_toleration_seconds)
            .controllers(Some(controllers));
        if self.runtime != RuntimeFlag::Sim
            && let Some(first) = nodes.first()
        {
            let missing = orch::privileges::missing_for_containers();
            if !missing.is_empty() {
                return Err(orch::machine::MachineError::Privileges(missing).into());
            }
            // Pods reach the API server on the first node's address.
            let inside = IpAddr::V4(first.ip);
            if self.node_ip.is_none() {
                orch_net::pod::link::add_loopback_address(inside).await?;
            }
            builder = builder.advertise(vec![inside]);
            if self.listen.ip() != inside && !self.listen.ip().is_unspecified() {
                builder = builder.listen(SocketAddr::new(inside, self.listen.port()));
            }
        }
        builder
            .start()
            .await
            .map_err(|e| anyhow::Error::new(e).context(format!("--data-dir {}", self.data_dir.display())))
    }

    async fn machine(
        &self,
        env: &Env,
        plane: &ControlPlane,
        nodes: Vec<NodeParts>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Machine> {
        let config = MachineConfig {
            data_dir: self.data_dir.clone(),
            runtime: match self.runtime {
                RuntimeFlag::Embedded => RuntimeKind::Embedded,
                RuntimeFlag::Sim => RuntimeKind::Sim,
            },
            nodes,
            cluster_cidr: plane.pod_cidr(),
            service_cidr: plane.service_cidr(),
            dns_ip: plane.dns_ip(),
            domain: plane.domain().to_owned(),
            lease_duration: Duration::from_secs(self.node_lease_seconds),
        };
        let identities = config
            .nodes
            .iter()
            .map(|node| plane.node_identity(node))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Machine::start(env, &config, &identities, shutdown).await?)
    }

    fn tell_ready(&self, server: &str, kubeconfig: &Path, machine: &Machine, nodes: usize, took: Duration) {
        let proxy = match machine.proxy {
            ProxyMode::Nftables => "nftables rules",
            ProxyMode::Userspace => "a userspace proxy (install nftables for kernel rules)",
            ProxyMode::None => "nothing: pods are simulated",
        };
        println!("ready in {} ms", took.as_millis());
        println!("  API server   {server}");
        println!("  nodes        {nodes} ready, Services through {proxy}");
        if let Some(dns) = machine.dns().first() {
            println!("  cluster DNS  {dns}");
        }
        println!("  kubeconfig   {}", kubeconfig.display());
        println!();
        println!("  export KUBECONFIG={}", kubeconfig.display());
        println!("  kubectl get nodes");
    }

    async fn roll_out(&self, env: &Env, client: &Arc<dyn ApiClient>, stop: &Shutdown) -> anyhow::Result<()> {
        let mut applied: Vec<Applied> = Vec::new();
        for file in &self.files {
            applied.extend(apply::apply_file(client, file).await?);
        }
        if applied.is_empty() {
            return Ok(());
        }
        println!();
        for object in &applied {
            println!("  applied {}/{}", object.kind.to_lowercase(), object.name);
        }
        progress::follow(env, client.clone(), &applied, stop).await;
        for line in progress::addresses(client, &applied).await {
            println!("  {line}");
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("--ready-file {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn stop_signal(shutdown: Shutdown) -> anyhow::Result<tokio::task::AbortHandle> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    #[expect(clippy::disallowed_methods, reason = "the program's own executor")]
    let task = tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.trigger();
    });
    Ok(task.abort_handle())
}

async fn nodes_ready(env: &Env, client: Arc<dyn ApiClient>, count: usize) {
    let shutdown = Shutdown::new();
    let informers = SharedInformers::new(env, client, &shutdown);
    let wake = Arc::new(Notify::new());
    let notify = wake.clone();
    informers
        .informer::<Node>()
        .on_change(move |_| notify.notify_one());
    let nodes = informers.lister::<Node>();
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    };
    while nodes.list().iter().filter(|n| ready(n)).count() < count {
        wake.notified().await;
    }
    shutdown.trigger();
}
