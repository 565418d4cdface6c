//! The scheduler as a library.
//!
//! [`decide::decide`] is a pure function from a [`cache::Snapshot`], a pod and a [`framework::Profile`] to a [`decide::Decision`]; plugins are
//! traits named after upstream's extension points. [`Scheduler`] is the shell that feeds it from informers and writes bindings;
//! [`sim`] runs the same decisions over simulated nodes in virtual time.

pub mod cache;
pub mod decide;
pub mod framework;
pub mod plugins;
pub mod queue;
mod run;
pub mod sim;

pub use run::{Scheduler, SchedulerConfig};
