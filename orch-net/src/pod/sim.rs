//! [`NetworkBackend`] without a network: addresses only, for simulated nodes.

use async_trait::async_trait;
use ipnet::Ipv4Net;
use orch_core::node::{NetworkBackend, NetworkError, PodNetwork, PodNetworkRequest};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Hands out the addresses of a range; nothing is configured anywhere.
#[derive(Debug)]
pub struct SimNetwork {
    range: Ipv4Net,
    held: Mutex<BTreeMap<String, Ipv4Addr>>,
}

impl SimNetwork {
    /// A network over `range`.
    #[must_use]
    pub fn new(range: Ipv4Net) -> Self {
        Self {
            range,
            held: Mutex::default(),
        }
    }
}

#[async_trait]
impl NetworkBackend for SimNetwork {
    async fn attach(&self, pod: &PodNetworkRequest) -> Result<PodNetwork, NetworkError> {
        let mut held = self.held.lock();
        let ip = match held.get(&pod.uid) {
            Some(ip) => *ip,
            None => {
                let free = self
                    .range
                    .hosts()
                    .skip(1)
                    .find(|ip| !held.values().any(|used| used == ip));
                free.ok_or_else(|| NetworkError::Exhausted {
                    range: self.range.to_string(),
                })?
            }
        };
        held.insert(pod.uid.clone(), ip);
        Ok(PodNetwork {
            pod_uid: pod.uid.clone(),
            ips: vec![IpAddr::V4(ip)],
            interface: "eth0".into(),
        })
    }

    async fn detach(&self, pod_uid: &str, _: &Path) -> Result<(), NetworkError> {
        self.held.lock().remove(pod_uid);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PodNetwork>, NetworkError> {
        let held = self.held.lock();
        let network = |(uid, ip): (&String, &Ipv4Addr)| PodNetwork {
            pod_uid: uid.clone(),
            ips: vec![IpAddr::V4(*ip)],
            interface: "eth0".into(),
        };
        Ok(held.iter().map(network).collect())
    }
}
