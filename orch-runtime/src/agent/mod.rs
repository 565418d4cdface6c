//! The node agent: what a kubelet does, on the seams of this project.
//!
//! ```text
//! pods of this node (watch) ──► NodeAgent ──► a PodWorker each:  look → report → step → act
//! runtime events ──────────────────┘              │        │        │      └► runtime, network, volumes, events
//! Node status, Lease ◄─────────────┘              │        └► status (pure), patched by a Publisher
//!                                                 └► PodState;  step (pure)
//! ```
//!
//! [`step`] and [`status`] decide and compute and do no I/O; everything else here is the shell around them.

pub mod admit;
pub mod backoff;
mod config;
pub mod container_spec;
mod context;
mod hooks;
pub mod kill;
pub mod machine;
mod node;
pub mod node_status;
mod node_view;
mod objects;
mod pod;
mod publish;
pub mod resize;
pub mod resources;
mod rotate;
mod run;
pub mod spec;
pub mod status;
pub mod step;
#[cfg(test)]
pub(crate) mod testkit;
mod tokens;
pub mod view;

pub use config::NodeConfig;
pub(crate) use node_view::NodeView;
pub use run::NodeAgent;
