//! A Kubernetes-compatible cluster as a library: [`ControlPlane`] is an API server with its store, controllers and
//! scheduler inside your own tokio runtime, [`Machine`] is the node side of one host. The `orch` program is the two
//! wired together.
//!
//! ```no_run
//! # async fn example() -> Result<(), orch::StartError> {
//! let plane = orch::ControlPlane::builder().start().await?;
//! let client: kube::Client = plane.kube_client();
//! # Ok(()) }
//! ```

mod addons;
pub mod apply;
pub mod bundle;
mod control_plane;
pub mod demo;
pub mod machine;
pub mod privileges;

pub use addons::dns_ip;
pub use control_plane::{ControlPlane, ControlPlaneBuilder, StartError};
pub use machine::{Machine, MachineConfig, NodeIdentity, NodeParts};
