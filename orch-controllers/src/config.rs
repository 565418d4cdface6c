//! Settings of the controllers, with upstream's defaults.

use std::{net::IpAddr, time::Duration};

/// Settings of all controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Keys in work at a time per controller.
    pub workers: usize,
    /// Pods that one pass of a ReplicaSet or Job creates or deletes at most.
    pub burst_replicas: usize,
    /// How long a node may be silent before its pods are marked not ready. Upstream: 50 s.
    pub node_monitor_grace: Duration,
    /// The same for a node that never reported. Upstream: 60 s.
    pub node_startup_grace: Duration,
    /// How often silence is looked at. Upstream: 5 s.
    pub node_monitor_period: Duration,
    /// The range pods' addresses come from, `None` to leave nodes' ranges alone; and the length of a node's prefix.
    pub pod_cidr: Option<PodCidr>,
    /// PEM bundle published as `kube-root-ca.crt` in each namespace; `None` publishes nothing.
    pub root_ca_pem: Option<String>,
    /// Ended pods kept before the oldest are collected; 0 keeps all. Upstream: 12500.
    pub terminated_pod_threshold: usize,
    /// How long a pod may name a node that does not exist. Upstream: 40 s.
    pub missing_node_quarantine: Duration,
    /// How often pods are collected. Upstream: 20 s.
    pub pod_gc_period: Duration,
    /// How often the garbage collector looks for new resources. Upstream: 30 s.
    pub discovery_period: Duration,
    /// How long pods may stay Pending after their node was cut off, …: taint evictions per second. Upstream: 0.1.
    pub eviction_rate_milli: u32,
    /// Endpoints in one EndpointSlice at most. Upstream: 100.
    pub max_endpoints_per_slice: usize,
}

/// A range of addresses, cut into nodes' ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodCidr {
    /// First address.
    pub network: IpAddr,
    /// Length of the whole range's prefix, such as 16.
    pub prefix: u8,
    /// Length of a node's prefix, such as 24.
    pub node_prefix: u8,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            workers: 5,
            burst_replicas: 500,
            node_monitor_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_secs(60),
            node_monitor_period: Duration::from_secs(5),
            pod_cidr: Some(PodCidr {
                network: IpAddr::from([10, 244, 0, 0]),
                prefix: 16,
                node_prefix: 24,
            }),
            root_ca_pem: None,
            terminated_pod_threshold: 12_500,
            missing_node_quarantine: Duration::from_secs(40),
            pod_gc_period: Duration::from_secs(20),
            discovery_period: Duration::from_secs(30),
            eviction_rate_milli: 100,
            max_endpoints_per_slice: 100,
        }
    }
}
