//! Embedded container runtime: OCI images, overlay root file systems, no daemon.
//!
//! [`OciRuntime`] implements the runtime seam of the node agent over a data directory. Each container lives under a
//! small process of its own, the shim, which is this very program run again: call [`shim_main_if_requested`] first in
//! `main`. Containers therefore outlive the agent, and an agent that opens the directory again finds them.
//!
//! Needs root, and nothing else on the machine: no daemon, no OCI runtime program, no library. Not in here: pod
//! networks (the sandbox's network namespace has a loopback and nothing more) and access to registries.

mod cgroup;
mod error;
pub mod image;
mod runtime;
mod sandbox;
mod seccomp;
mod shim;
mod spec;
mod sys;

pub use error::{Error, Result};
pub use runtime::{Config, OciRuntime, teardown};
pub use shim::protocol::OciBackend;
pub use shim::shim_main_if_requested;
