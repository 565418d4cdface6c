//! The pod network as the node agent sees it; implemented by the network crate (bridge, CNI, host only, simulated).

use async_trait::async_trait;
use std::{net::IpAddr, path::PathBuf};

/// A port of the node that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address of the node to listen on; `None` for all.
    pub host_ip: Option<IpAddr>,
    /// Port of the node.
    pub host_port: u16,
    /// Port inside the pod.
    pub container_port: u16,
}

/// The pod that wants a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetworkRequest {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod: the identity that attachments are kept under.
    pub uid: String,
    /// Path of the pod's network namespace (`/proc/…/ns/net` or a bind mount of one), already made.
    pub netns_path: PathBuf,
    /// Ports of the node that lead into the pod.
    pub host_ports: Vec<HostPort>,
}

/// A pod's network as attached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodNetwork {
    /// UID of the pod.
    pub pod_uid: String,
    /// The pod's addresses, the primary one first. Never empty after a successful attach.
    pub ips: Vec<IpAddr>,
    /// Name of the interface inside the pod, such as `eth0`.
    pub interface: String,
}

/// Why a pod's network could not be set up or torn down, cut by what the agent does next.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The node has no network to give yet (no pod range, backend starting): try again later, the node is not ready.
    #[error("pod network is not ready: {reason}")]
    NotReady {
        /// Why, for the node's `NetworkUnavailable`/`Ready` condition.
        reason: String,
    },
    /// Every address of the node's range is in use: try again when a pod is gone.
    #[error("no free address in {range}")]
    Exhausted {
        /// The range.
        range: String,
    },
    /// A host port is held by another pod or process: fail the pod's start, try again with back-off.
    #[error("host port {port}/{protocol} is in use")]
    PortInUse {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: String,
    },
    /// Anything else; worth another attempt with back-off.
    #[error("{action} of pod {pod_uid}'s network failed")]
    Failed {
        /// What was being done: `attach`, `detach`, `list`.
        action: &'static str,
        /// The pod, empty for `list`.
        pod_uid: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Gives pods their network. One per node.
///
/// # Cancel safety
/// Dropping a future may leave an attachment half made; calling the same method again completes or undoes it.
#[async_trait]
pub trait NetworkBackend: Send + Sync + 'static {
    /// At return the pod's namespace has an interface with addresses, routes and its host ports, and the pod can
    /// reach and be reached by every other pod. May repeat: for a pod UID already attached to the same namespace it
    /// answers with the same addresses, repairing what is missing.
    ///
    /// # Errors
    /// See [`NetworkError`]; nothing of the pod is left behind that [`NetworkBackend::detach`] does not remove.
    async fn attach(&self, pod: &PodNetworkRequest) -> Result<PodNetwork, NetworkError>;

    /// At return the pod's interface, host ports and addresses are released. `Ok` when there is nothing to release,
    /// also when `netns_path` is already gone.
    ///
    /// # Errors
    /// [`NetworkError::Failed`]; try again with back-off.
    async fn detach(&self, pod_uid: &str, netns_path: &std::path::Path) -> Result<(), NetworkError>;

    /// The attachments that exist now, in order of pod UID, those of earlier runs of the agent included.
    ///
    /// # Errors
    /// [`NetworkError::NotReady`] or [`NetworkError::Failed`].
    async fn list(&self) -> Result<Vec<PodNetwork>, NetworkError>;
}
