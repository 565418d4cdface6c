//! Settings of a node.

use super::backoff::BackoffLimits;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::api::resource::Quantity};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

/// Settings of a node. [`NodeConfig::new`] has upstream's defaults.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of the Node object.
    pub name: String,
    /// Addresses of the node, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Port of the agent's own API; 0 if it serves none.
    pub port: u16,
    /// Directory for the files of pods.
    pub root_dir: PathBuf,
    /// Directory for the logs of pods: `<log_dir>/<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub log_dir: PathBuf,
    /// Labels of the Node object, beside those that it always has.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
    /// Pod ranges to register with, where no controller hands them out.
    pub pod_cidrs: Vec<String>,
    /// Provider ID to register with; empty for none.
    pub provider_id: String,
    /// Addresses of the cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster.
    pub cluster_domain: String,
    /// The machine's name resolution, for pods that use it; empty for none.
    pub resolv_conf: PathBuf,
    /// Most pods.
    pub max_pods: u32,
    /// Most processes of a pod; `None` is no limit.
    pub pod_pids_limit: Option<u64>,
    /// Size at which a container's log is rotated, in bytes; 0 never.
    pub log_max_bytes: u64,
    /// Log files kept of a container, the present one included.
    pub log_max_files: usize,
    /// Control group of all pods of this node, relative to the hierarchy's root.
    pub cgroup_root: String,
    /// What is kept back from pods, by resource.
    pub reserved: BTreeMap<String, Quantity>,
    /// How long the node counts as alive after a heartbeat.
    pub lease_duration: Duration,
    /// Time between heartbeats.
    pub lease_interval: Duration,
    /// Time between looks at the node's own state.
    pub status_check: Duration,
    /// Longest time between two reports of an unchanged state.
    pub status_report: Duration,
    /// Restart delays of containers.
    pub restart_backoff: BackoffLimits,
    /// Retry delays of image pulls.
    pub image_backoff: BackoffLimits,
}

impl NodeConfig {
    /// A node of this name and address that keeps everything under `data_dir`.
    pub fn new(name: impl Into<String>, address: IpAddr, data_dir: impl Into<PathBuf>) -> Self {
        let (name, data_dir) = (name.into(), data_dir.into());
        Self {
            addresses: vec![address],
            port: 10250,
            root_dir: data_dir.join("agent"),
            log_dir: data_dir.join("logs/pods"),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            pod_cidrs: Vec::new(),
            provider_id: String::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            max_pods: 110,
            pod_pids_limit: None,
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            cgroup_root: "kubepods".into(),
            reserved: BTreeMap::new(),
            lease_duration: Duration::from_secs(40),
            lease_interval: Duration::from_secs(10),
            status_check: Duration::from_secs(10),
            status_report: Duration::from_secs(300),
            restart_backoff: BackoffLimits::default(),
            image_backoff: BackoffLimits::default(),
            name,
        }
    }

    /// Directory of a pod's logs.
    #[must_use]
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
