//! A node with the pods on it.

use super::{PodInfo, Resources};
use k8s_openapi::api::core::v1::{Node, PodSpec, Taint};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A port of a node that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address, `0.0.0.0` for all.
    pub ip: String,
    /// Port number.
    pub port: i32,
}

impl HostPort {
    /// The host ports of a pod, sidecars included.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Vec<Self> {
        let sidecars = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|c| c.restart_policy.as_deref() == Some("Always"));
        spec.containers
            .iter()
            .chain(sidecars)
            .flat_map(|c| c.ports.iter().flatten())
            .filter(|p| p.host_port.is_some_and(|n| n > 0))
            .map(|p| Self {
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                ip: p
                    .host_ip
                    .clone()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".into()),
                port: p.host_port.unwrap_or(0),
            })
            .collect()
    }

    /// Whether two pods with these ports could not share a node.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let all = "0.0.0.0";
        self.protocol == other.protocol
            && self.port == other.port
            && (self.ip == other.ip || self.ip == all || other.ip == all)
    }
}

/// A node, what it offers and what is taken.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    node: Arc<Node>,
    name: String,
    pods: BTreeMap<String, Arc<PodInfo>>,
    allocatable: Resources,
    requested: Resources,
    assumed: Resources,
    used_ports: Vec<HostPort>,
    with_affinity: BTreeSet<String>,
    images: BTreeMap<String, i64>,
}

impl NodeInfo {
    /// A node without pods.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = Self::default();
        info.set_node(node);
        info
    }

    /// Replaces the node object; the pods stay.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        self.name = node.metadata.name.clone().unwrap_or_default();
        self.allocatable = Resources::from_list(status.and_then(|s| s.allocatable.as_ref()));
        self.images = status
            .into_iter()
            .flat_map(|s| s.images.iter().flatten())
            .flat_map(|i| {
                i.names
                    .iter()
                    .flatten()
                    .map(|name| (name.clone(), i.size_bytes.unwrap_or(0)))
            })
            .collect();
        self.node = node;
    }

    /// The node object.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// A label of the node.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }
    /// The node's taints.
    pub fn taints(&self) -> impl Iterator<Item = &Taint> {
        self.node.spec.iter().flat_map(|s| s.taints.iter().flatten())
    }
    /// Whether it is cordoned.
    #[must_use]
    pub fn is_unschedulable(&self) -> bool {
        self.node
            .spec
            .as_ref()
            .and_then(|s| s.unschedulable)
            .unwrap_or(false)
    }
    /// The pods on it, in order of UID.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.values()
    }
    /// The pods on it that have pod affinity of any sort.
    pub fn pods_with_affinity(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.with_affinity.iter().filter_map(|uid| self.pods.get(uid))
    }
    /// What pods can have of it.
    #[must_use]
    pub fn allocatable(&self) -> &Resources {
        &self.allocatable
    }
    /// What the pods on it ask for.
    #[must_use]
    pub fn requested(&self) -> &Resources {
        &self.requested
    }
    /// What the pods on it are assumed to need when nodes are scored.
    #[must_use]
    pub fn assumed(&self) -> &Resources {
        &self.assumed
    }
    /// The host ports that are taken.
    #[must_use]
    pub fn used_ports(&self) -> &[HostPort] {
        &self.used_ports
    }
    /// Size in bytes of an image that the node has.
    #[must_use]
    pub fn image_size(&self, name: &str) -> Option<i64> {
        self.images.get(name).copied()
    }

    /// Puts a pod on the node, replacing one with the same UID.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        self.requested.add(&pod.requests);
        self.assumed.add(&pod.assumed);
        self.used_ports.extend(pod.host_ports.iter().cloned());
        if pod.has_affinity() {
            self.with_affinity.insert(pod.uid.clone());
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Takes a pod off the node; whether it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.remove(uid) else {
            return false;
        };
        self.requested.sub(&pod.requests);
        self.assumed.sub(&pod.assumed);
        for port in &pod.host_ports {
            if let Some(at) = self.used_ports.iter().position(|p| p == port) {
                self.used_ports.swap_remove(at);
            }
        }
        self.with_affinity.remove(uid);
        true
    }
}
