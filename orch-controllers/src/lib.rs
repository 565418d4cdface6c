//! Reconcile loops: what kube-controller-manager does, as a library.
//!
//! A folder per controller. Each observes through shared informers, plans in pure functions (`plan.rs`, `status.rs`),
//! and applies the plan with optimistic concurrency; on a conflict it starts again from what it observes then.
//! [`ControllerSet`] runs them all.

pub mod config;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod gc;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod replicaset;
pub mod root_ca;
pub mod serviceaccount;
mod set;
pub mod shared;

pub use config::{ControllerConfig, PodCidr};
pub use set::ControllerSet;
pub use shared::discovery::{ClientDiscovery, Discovered, Discovery, ResourceInfo};
