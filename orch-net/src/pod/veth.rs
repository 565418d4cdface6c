//! [`NetworkBackend`] with one veth pair per pod.

use super::{
    ipam::{Ipam, IpamError},
    link,
};
use crate::proxy::nftables::run_nft;
use async_trait::async_trait;
use ipnet::Ipv4Net;
use orch_core::node::{NetworkBackend, NetworkError, PodNetwork, PodNetworkRequest};
use std::{
    fmt::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};
use tokio::sync::Mutex;

/// How a node's pod network is laid out.
#[derive(Debug, Clone)]
pub struct VethConfig {
    /// Where the address records live.
    pub dir: PathBuf,
    /// All pods of the cluster: traffic to elsewhere is masqueraded behind the node.
    pub cluster_cidr: Ipv4Net,
    /// Cluster IPs: routed into this host.
    pub service_cidr: Ipv4Net,
    /// Name of the nftables table for masquerading and host ports; one per node.
    pub table: String,
    /// Whether `nft` may be used. Without it pods reach each other, Services and the host, but no host ports are
    /// opened and traffic to other networks keeps the pod's address.
    pub nftables: bool,
}

/// One veth pair and one host route per pod; see the module documentation.
pub struct VethNetwork {
    config: VethConfig,
    state: Mutex<Option<Ipam>>,
}

fn error(action: &'static str, uid: &str, e: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError::Failed {
        action,
        pod_uid: uid.into(),
        source: Box::new(e),
    }
}

/// Interface names are at most 15 bytes; the hash keeps them unique per pod and stable over restarts.
fn link_name(uid: &str) -> String {
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("orch{:011x}", hash & 0xfff_ffff_ffff)
}

fn host_ports_chain(uid: &str) -> String {
    format!("pod-{}", link_name(uid))
}

impl VethNetwork {
    /// A network without a range: not ready until [`VethNetwork::set_range`].
    #[must_use]
    pub fn new(config: VethConfig) -> Self {
        Self {
            config,
            state: Mutex::new(None),
        }
    }

    /// Takes the node's pod range and prepares the host: gateway address, forwarding, routes, masquerading.
    /// May repeat with the same range.
    ///
    /// # Errors
    /// [`NetworkError::Failed`].
    pub async fn set_range(&self, range: Ipv4Net) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        let ipam = Ipam::open(&self.config.dir.join("ips"), range).map_err(|e| error("attach", "", e))?;
        let gateway = ipam.gateway();
        link::add_loopback_address(IpAddr::V4(gateway))
            .await
            .map_err(|e| error("attach", "", e))?;
        link::route_range_to_loopback(self.config.service_cidr, gateway)
            .await
            .map_err(|e| error("attach", "", e))?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|e| error("attach", "", e))?;
        if self.config.nftables {
            run_nft(&["-f", "-"], &self.base_rules(range))
                .await
                .map_err(|e| error("attach", "", e))?;
        }
        *state = Some(ipam);
        Ok(())
    }

    /// Removes the link of a pod, without a network of its own: for taking down what an ended process left.
    ///
    /// # Errors
    /// [`NetworkError::Failed`].
    pub async fn forget(pod_uid: &str) -> Result<(), NetworkError> {
        link::remove_link(&link_name(pod_uid))
            .await
            .map_err(|e| error("detach", pod_uid, e))
    }

    fn base_rules(&self, range: Ipv4Net) -> String {
        let (table, pods, services) = (
            &self.config.table,
            self.config.cluster_cidr,
            self.config.service_cidr,
        );
        // Host port rules of running pods stay: the table is completed, not replaced.
        format!(
            "add table ip {table}
add map ip {table} host-ports {{ type inet_proto . inet_service : verdict; }}
add chain ip {table} prerouting {{ type nat hook prerouting priority -101; policy accept; }}
add chain ip {table} output {{ type nat hook output priority -101; policy accept; }}
add chain ip {table} postrouting {{ type nat hook postrouting priority 101; policy accept; }}
flush chain ip {table} prerouting
flush chain ip {table} output
flush chain ip {table} postrouting
add rule ip {table} prerouting fib daddr type local meta l4proto . th dport vmap @host-ports
add rule ip {table} output fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @host-ports
add rule ip {table} postrouting ip saddr {range} ip daddr != {pods} ip daddr != {services} fib daddr type != local oifname != \"orch*\" masquerade
"
        )
    }

    async fn open_host_ports(
        &self,
        pod: &PodNetworkRequest,
        ip: std::net::Ipv4Addr,
    ) -> Result<(), NetworkError> {
        if pod.host_ports.is_empty() {
            return Ok(());
        }
        if !self.config.nftables {
            return Err(NetworkError::NotReady {
                reason: "host ports need nft, which is not available".into(),
            });
        }
        let (table, chain) = (&self.config.table, host_ports_chain(&pod.uid));
        let mut script = format!("add chain ip {table} {chain}\nflush chain ip {table} {chain}\n");
        for port in &pod.host_ports {
            let protocol = port.protocol.to_lowercase();
            let address = match port.host_ip {
                Some(IpAddr::V4(a)) if !a.is_unspecified() => format!("ip daddr {a} "),
                _ => String::new(),
            };
            let (from, to) = (port.host_port, port.container_port);
            let _ = writeln!(
                script,
                "add rule ip {table} {chain} {address}{protocol} dport {from} dnat to {ip}:{to}"
            );
            // Re-adding an element of the same verdict is no error, so that a repeated attach succeeds.
            let _ = writeln!(
                script,
                "add element ip {table} host-ports {{ {protocol} . {from} : goto {chain} }}"
            );
        }
        run_nft(&["-f", "-"], &script)
            .await
            .map_err(|e| match (&e, pod.host_ports.first()) {
                (crate::proxy::ProxyError::Refused { message, .. }, Some(port))
                    if message.contains("File exists") =>
                {
                    NetworkError::PortInUse {
                        port: port.host_port,
                        protocol: port.protocol.clone(),
                    }
                }
                _ => error("attach", &pod.uid, e),
            })
    }

    async fn close_host_ports(&self, uid: &str) -> Result<(), NetworkError> {
        if !self.config.nftables {
            return Ok(());
        }
        let (table, chain) = (&self.config.table, host_ports_chain(uid));
        let keys = host_port_keys(table, &chain).await;
        if keys.is_empty() {
            return Ok(());
        }
        let mut script = String::new();
        for key in keys {
            let _ = writeln!(script, "delete element ip {table} host-ports {{ {key} }}");
        }
        let _ = writeln!(
            script,
            "flush chain ip {table} {chain}\ndelete chain ip {table} {chain}"
        );
        run_nft(&["-f", "-"], &script)
            .await
            .map_err(|e| error("detach", uid, e))
    }
}

/// The map keys that lead to `chain`, as the kernel has them: nothing else survives a restart of the agent.
async fn host_port_keys(table: &str, chain: &str) -> Vec<String> {
    let listing = tokio::process::Command::new("nft")
        .args(["-n", "list", "map", "ip", table, "host-ports"])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .await;
    let Ok(listing) = listing else { return Vec::new() };
    let text = String::from_utf8_lossy(&listing.stdout).into_owned();
    let wanted = format!("goto {chain}");
    text.split(['{', '}', ',', '\n'])
        .filter_map(|element| element.split_once(" : "))
        .filter(|(_, verdict)| verdict.trim() == wanted)
        .map(|(key, _)| key.replace("elements =", "").trim().to_owned())
        .collect()
}

#[async_trait]
impl NetworkBackend for VethNetwork {
    async fn attach(&self, pod: &PodNetworkRequest) -> Result<PodNetwork, NetworkError> {
        let (ip, gateway) = {
            let mut state = self.state.lock().await;
            let Some(ipam) = state.as_mut() else {
                return Err(NetworkError::NotReady {
                    reason: "the node has no pod range yet".into(),
                });
            };
            let ip = ipam.allocate(&pod.uid).map_err(|e| match e {
                IpamError::Exhausted(range) => NetworkError::Exhausted {
                    range: range.to_string(),
                },
                e @ IpamError::Io { .. } => error("attach", &pod.uid, e),
            })?;
            (ip, ipam.gateway())
        };
        link::attach_veth(&link_name(&pod.uid), &pod.netns_path, ip, gateway)
            .await
            .map_err(|e| error("attach", &pod.uid, e))?;
        self.open_host_ports(pod, ip).await?;
        Ok(PodNetwork {
            pod_uid: pod.uid.clone(),
            ips: vec![IpAddr::V4(ip)],
            interface: "eth0".into(),
        })
    }

    async fn detach(&self, pod_uid: &str, _netns_path: &Path) -> Result<(), NetworkError> {
        link::remove_link(&link_name(pod_uid))
            .await
            .map_err(|e| error("detach", pod_uid, e))?;
        self.close_host_ports(pod_uid).await?;
        let mut state = self.state.lock().await;
        match state.as_mut() {
            Some(ipam) => ipam.release(pod_uid).map_err(|e| error("detach", pod_uid, e)),
            None => Err(NetworkError::NotReady {
                reason: "the node has no pod range yet".into(),
            }),
        }
    }

    async fn list(&self) -> Result<Vec<PodNetwork>, NetworkError> {
        let state = self.state.lock().await;
        let Some(ipam) = state.as_ref() else {
            return Err(NetworkError::NotReady {
                reason: "the node has no pod range yet".into(),
            });
        };
        let mut all: Vec<PodNetwork> = ipam
            .list()
            .into_iter()
            .map(|(ip, uid)| PodNetwork {
                pod_uid: uid,
                ips: vec![IpAddr::V4(ip)],
                interface: "eth0".into(),
            })
            .collect();
        all.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
        Ok(all)
    }
}
