//! Seams between the node agent and its siblings.

pub mod network;

pub use network::{HostPort, NetworkBackend, NetworkError, PodNetwork, PodNetworkRequest};
