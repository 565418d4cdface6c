//! The `orch` program: a cluster in one process, and what an operator needs beside `kubectl`.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A container's supervisor is this program run again; it must be recognised before any thread exists.
    orch_oci::shim_main_if_requested();
    let command = cli::Cli::parse();
    cli::init_tracing();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            cli::fail(&anyhow::Error::new(e).context("starting the executor"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            cli::fail(&e);
            ExitCode::FAILURE
        }
    }
}
