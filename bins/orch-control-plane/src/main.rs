//! The control plane as an executable of its own: API server, store, controllers, scheduler. Nodes join over HTTPS.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;
use orch::{
    ControlPlane,
    bundle::{self, ClusterFacts},
};
use orch_api::pki::{Pki, ServingNames};
use orch_controllers::ControllerConfig;
use orch_core::Env;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// Control plane of an Orch cluster.
#[derive(Debug, Parser)]
#[command(name = "orch-control-plane", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground.
    Serve(Serve),
    /// Write what a node needs to join into a directory, to be carried to the node.
    NodeBundle(NodeBundle),
}

#[derive(Debug, Args)]
struct Ranges {
    /// Range of pod addresses; each node is given a /24 of it.
    #[arg(long, default_value = "10.244.0.0/16")]
    pod_cidr: Ipv4Net,
    /// Range of cluster IPs.
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,
    /// Cluster domain.
    #[arg(long, default_value = "cluster.local")]
    domain: String,
}

#[derive(Debug, Args)]
struct Serve {
    /// Where state and keys are kept.
    #[arg(long, default_value = "/var/lib/orch")]
    data_dir: PathBuf,
    /// Address of the API server.
    #[arg(long, default_value = "0.0.0.0:6443")]
    listen: SocketAddr,
    /// Address at which nodes and pods reach the API server.
    #[arg(long)]
    advertise: IpAddr,
    #[command(flatten)]
    ranges: Ranges,
    /// How long a node may be silent before its pods are marked not ready, in seconds.
    #[arg(long, default_value_t = 50)]
    node_monitor_grace_seconds: u64,
    /// Tolerate not-ready and unreachable nodes this long in pods that say nothing of it, in seconds.
    #[arg(long, default_value_t = 300)]
    default_toleration_seconds: u32,
}

#[derive(Debug, Args)]
struct NodeBundle {
    /// Name of the node.
    name: String,
    /// Address of the node.
    #[arg(long)]
    node_ip: Ipv4Addr,
    /// URL of the API server as the node reaches it, such as `https://10.0.0.1:6443`.
    #[arg(long)]
    server: String,
    /// Directory to write.
    #[arg(long)]
    out: PathBuf,
    /// Where the control plane keeps its keys.
    #[arg(long, default_value = "/var/lib/orch")]
    data_dir: PathBuf,
    #[command(flatten)]
    ranges: Ranges,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = tracing_subscriber::EnvFilter::try_from_env("ORCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let run = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match command {
                Command::Serve(serve) => serve.run().await,
                Command::NodeBundle(node) => node.run(),
            }
        })
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("orch-control-plane: {e:#}");
            ExitCode::FAILURE
        }
    }
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        let env = Env::system();
        let grace = Duration::from_secs(self.node_monitor_grace_seconds);
        let controllers = ControllerConfig {
            node_monitor_grace: grace,
            node_monitor_period: (grace / 10).min(Duration::from_secs(5)),
            ..ControllerConfig::default()
        };
        std::fs::create_dir_all(&self.data_dir)
            .with_context(|| format!("--data-dir {}", self.data_dir.display()))?;
        let plane = ControlPlane::builder()
            .env(env)
            .data_dir(&self.data_dir)
            .listen(self.listen)
            .advertise(vec![self.advertise])
            .pod_cidr(self.ranges.pod_cidr)
            .service_cidr(self.ranges.service_cidr)
            .domain(self.ranges.domain.clone())
            .default_toleration_seconds(self.default_toleration_seconds)
            .controllers(Some(controllers))
            .start()
            .await
            .with_context(|| format!("--data-dir {}", self.data_dir.display()))?;
        let port = plane
            .listening()
            .first()
            .map_or(self.listen.port(), SocketAddr::port);
        let server = format!("https://{}", SocketAddr::new(self.advertise, port));
        let kubeconfig = self.data_dir.join("kubeconfig");
        plane.admin_kubeconfig(&server)?.write(&kubeconfig)?;
        println!("serving {server}, kubeconfig {}", kubeconfig.display());
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        plane.stop().await;
        Ok(())
    }
}

impl NodeBundle {
    fn run(self) -> anyhow::Result<()> {
        let env = Env::system();
        let dir = self.data_dir.join("pki");
        anyhow::ensure!(
            dir.join("ca.key").is_file(),
            "{}: no keys; has the control plane ever served?",
            dir.display()
        );
        // No names asked for: the existing serving certificate suffices and is left alone.
        let names = ServingNames::default();
        let pki = Pki::open(&dir, &names, env.clock.now())?;
        let dns_ip = orch::dns_ip(self.ranges.service_cidr);
        let facts = ClusterFacts {
            node: self.name,
            node_ip: self.node_ip,
            pod_cidr: self.ranges.pod_cidr,
            service_cidr: self.ranges.service_cidr,
            dns_ip,
            domain: self.ranges.domain,
        };
        bundle::write(&self.out, &env, &pki, &self.server, &facts)?;
        println!(
            "wrote {}; on the node: orch-node --bundle {}",
            self.out.display(),
            self.out.display()
        );
        Ok(())
    }
}
