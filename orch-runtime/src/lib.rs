//! The node side of Orch: the agent that makes pods run, and the seam to the container runtimes that it drives.

pub mod agent;
pub mod env;
pub mod image;
pub mod logs;
pub mod probe;
pub mod runtime;
pub mod server;
pub mod testing;
pub mod volume;
