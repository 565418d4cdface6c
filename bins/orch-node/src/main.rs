//! The node as an executable of its own: agent, container runtime, pod network, service proxy, cluster DNS.

use clap::{Parser, ValueEnum};
use orch::{
    Machine, MachineConfig, NodeParts, bundle,
    machine::{RuntimeKind, teardown},
};
use orch_core::{Env, spawn::Shutdown};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuntimeFlag {
    /// Real containers, no daemon.
    Embedded,
    /// No process: pods are simulated.
    Sim,
}

/// Node of an Orch cluster. Containers run on when it ends, and the next start adopts them.
#[derive(Debug, Parser)]
#[command(name = "orch-node", version, about)]
struct Cli {
    /// Directory that `orch-control-plane node-bundle` wrote for this node.
    #[arg(long)]
    bundle: PathBuf,
    /// Where pods, images and addresses are kept.
    #[arg(long, default_value = "/var/lib/orch-node")]
    data_dir: PathBuf,
    /// What makes containers.
    #[arg(long, value_enum, default_value = "embedded")]
    runtime: RuntimeFlag,
    /// Port of the node's own API.
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// How long the node counts as alive after a heartbeat, in seconds; heartbeats come four times as often.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    lease_seconds: u64,
    /// End every pod of the data directory, and return.
    #[arg(long)]
    teardown: bool,
}

fn main() -> ExitCode {
    // A container's supervisor is this program run again; it must be recognised before any thread exists.
    orch_oci::shim_main_if_requested();
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ORCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let run = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(cli.run())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("orch-node: {e:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    async fn run(self) -> anyhow::Result<()> {
        if self.teardown {
            teardown(&self.data_dir).await?;
            println!("pods of {} are ended", self.data_dir.display());
            return Ok(());
        }
        let env = Env::system();
        let (facts, identity) = bundle::read(&self.bundle, &env)?;
        let config = MachineConfig {
            data_dir: self.data_dir,
            runtime: match self.runtime {
                RuntimeFlag::Embedded => RuntimeKind::Embedded,
                RuntimeFlag::Sim => RuntimeKind::Sim,
            },
            nodes: vec![NodeParts {
                name: facts.node.clone(),
                pod_cidr: None,
                ip: facts.node_ip,
                port: self.port,
            }],
            cluster_cidr: facts.pod_cidr,
            service_cidr: facts.service_cidr,
            dns_ip: facts.dns_ip,
            domain: facts.domain,
            lease_duration: Duration::from_secs(self.lease_seconds),
        };
        let shutdown = Shutdown::new();
        let machine = Machine::start(&env, &config, &[identity], &shutdown).await?;
        println!("node {} runs, Services through {:?}", facts.node, machine.proxy);
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.trigger();
        Ok(())
    }
}
