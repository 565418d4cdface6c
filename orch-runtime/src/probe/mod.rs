//! Probes of containers.

mod results;

pub use results::{ContainerProbes, ProbeKind, ProbeResults};
