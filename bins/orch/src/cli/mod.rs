//! The command line.

mod down;
mod image;
mod progress;
mod up;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// A Kubernetes-compatible cluster in one process.
#[derive(Debug, Parser)]
#[command(name = "orch", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up a whole cluster in the foreground.
    Up(up::Up),
    /// End every pod of a data directory that no cluster runs on.
    Down(down::Down),
    /// Import and list container images.
    #[command(subcommand)]
    Image(image::Image),
}

/// Where a cluster keeps everything, unless told otherwise.
fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/orch");
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    home.unwrap_or_else(|| PathBuf::from("."))
        .join(".local/share/orch")
}

pub(crate) fn init_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ORCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

pub(crate) fn fail(error: &anyhow::Error) {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut text = String::new();
    for (at, part) in chain.iter().enumerate() {
        // A cause that its effect already quotes is not said twice.
        if at == 0 || !chain[at - 1].contains(part.as_str()) {
            text.push_str(if at == 0 { "" } else { ": " });
            text.push_str(part);
        }
    }
    eprintln!("orch: {text}");
}

pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(up) => up.run().await,
        Command::Down(down) => down.run().await,
        Command::Image(image) => image.run(),
    }
}
