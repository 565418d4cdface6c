//! Embedded container runtime: OCI images, overlay root file systems, no daemon.
//!
//! [`OciRuntime`] implements the runtime seam of the node agent over a data directory. Each container lives under a
//! small process of its own, the shim, which is this very program run again: call [`shim_main_if_requested`] first in
//! `main`. Containers therefore outlive the agent, and an agent that opens the directory again finds them.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! orch_oci::shim_main_if_requested(); // first in main, before any thread
//! let config = orch_oci::Config::new("/var/lib/orch/node/runtime");
//! let runtime = orch_oci::OciRuntime::open(orch_core::Env::system(), config).await?;
//! # drop(runtime); Ok(()) }
//! ```
//!
//! # What it stands on
//!
//! - Root with `CAP_SYS_ADMIN`; Linux 5.12 or newer with overlayfs; control groups of version 1 or 2. No daemon, no OCI
//!   runtime program, no library. [`OciBackend::Binary`] runs containers by runc, or a program with its command line,
//!   instead of the embedded libcontainer.
//! - A shim mounts in a mount namespace of its own: when it ends, for whatever reason, nothing stays mounted. Only a
//!   container with a `Bidirectional` volume mounts where the machine sees it.
//! - System call filters are compiled here (<https://docs.kernel.org/userspace-api/seccomp_filter.html>,
//!   without libseccomp). `RuntimeDefault` allows everything but what needs privilege or has a history of holes.
//!
//! # What it does not do
//!
//! - Pod networks: a sandbox's network namespace has a loopback and nothing more.
//! - Registries: images are imported or built. Layers compressed with zstd are refused.
//! - Restrict devices under control groups of version 2 with the embedded backend; containers there lack `CAP_MKNOD`
//!   unless they ask for it.
//! - User namespaces, SELinux labels, AppArmor profiles other than those that a pod names.
//! - Lower the badness for the out-of-memory killer without `CAP_SYS_RESOURCE`: it then stays where it is.

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
