//! The node agent: what a kubelet does, on the seams of this project.

pub mod backoff;
pub mod resources;
pub mod spec;
pub mod status;
pub mod step;
#[cfg(test)]
pub(crate) mod testkit;
pub mod view;
