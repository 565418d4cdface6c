//! Services through ordinary sockets, where there is no privilege or no `nft`.
//!
//! Each service address is listened on and connections are spliced to an endpoint. With the privilege to do so the
//! cluster IPs are added to the loopback interface, so that clients use the same addresses as with kernel rules;
//! without it every service port gets a port of 127.0.0.1, which [`UserspaceProxy::listening`] tells.

mod address;
mod tcp;
mod udp;

pub use address::{AddressOwner, Addresses, LoopbackAddresses};

use super::{Applied, Protocol, ProxyError, RuleTable, ServiceName, ServiceProxy, ServiceRule};
use async_trait::async_trait;
use orch_core::{Env, spawn::TaskHandle};
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Mutex;

/// Where a client's connection may go, shared by a listener and the proxy that updates it.
pub(crate) struct Backends {
    env: Env,
    state: RwLock<(Vec<SocketAddr>, Option<Duration>)>,
    affinity: parking_lot::Mutex<BTreeMap<IpAddr, (SocketAddr, orch_core::clock::Monotonic)>>,
}

impl Backends {
    fn new(env: Env) -> Self {
        Self {
            env,
            state: RwLock::default(),
            affinity: parking_lot::Mutex::default(),
        }
    }

    fn set(&self, endpoints: &[SocketAddr], affinity: Option<Duration>) {
        *self.state.write() = (endpoints.to_vec(), affinity);
    }

    /// The endpoints to try for `client`, in order: its sticky one first, then the others from a random start.
    pub(crate) fn candidates(&self, client: IpAddr) -> Vec<SocketAddr> {
        let (mut endpoints, affinity) = self.state.read().clone();
        if endpoints.is_empty() {
            return endpoints;
        }
        let start = self.env.rng.below(endpoints.len() as u64) as usize;
        endpoints.rotate_left(start);
        if let Some(timeout) = affinity {
            let now = self.env.clock.monotonic();
            let mut held = self.affinity.lock();
            held.retain(|_, (_, seen)| now.since(*seen) < timeout);
            if let Some(position) = held
                .get(&client)
                .and_then(|(to, _)| endpoints.iter().position(|e| e == to))
            {
                endpoints.swap(0, position);
            }
        }
        endpoints
    }

    /// Remembers where `client` went.
    pub(crate) fn chose(&self, client: IpAddr, endpoint: SocketAddr) {
        if self.state.read().1.is_some() {
            self.affinity
                .lock()
                .insert(client, (endpoint, self.env.clock.monotonic()));
        }
    }
}

struct Listener {
    backends: Arc<Backends>,
    local: SocketAddr,
    task: TaskHandle,
}

type ListenKey = (SocketAddr, Protocol);

#[derive(Default)]
struct Held {
    listeners: BTreeMap<ListenKey, Listener>,
    owned: BTreeSet<IpAddr>,
    rules: BTreeMap<ServiceName, ServiceRule>,
}

/// [`ServiceProxy`] in user space, for TCP and UDP (SCTP is left out: there is no portable socket for it).
pub struct UserspaceProxy {
    env: Env,
    addresses: Option<Arc<dyn AddressOwner>>,
    held: Mutex<Held>,
}

impl UserspaceProxy {
    /// A proxy on the cluster IPs themselves, which `addresses` makes local to this machine.
    pub fn on_cluster_ips(env: Env, addresses: Arc<dyn AddressOwner>) -> Self {
        Self {
            env,
            addresses: Some(addresses),
            held: Mutex::default(),
        }
    }

    /// A proxy on free ports of 127.0.0.1, for use without any privilege.
    #[must_use]
    pub fn on_loopback(env: Env) -> Self {
        Self {
            env,
            addresses: None,
            held: Mutex::default(),
        }
    }

    /// Where each service address is listened on: (service address, protocol) to the real one.
    pub async fn listening(&self) -> BTreeMap<(SocketAddr, Protocol), SocketAddr> {
        self.held
            .lock()
            .await
            .listeners
            .iter()
            .map(|(k, l)| (*k, l.local))
            .collect()
    }

    async fn listen(
        &self,
        (address, protocol): ListenKey,
        backends: Arc<Backends>,
    ) -> Result<Listener, ProxyError> {
        let bind = if self.addresses.is_some() {
            address
        } else {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
        };
        let failed = |source| ProxyError::Listen {
            address: format!("{address}/{}", protocol.name()),
            source,
        };
        let (local, task) = match protocol {
            Protocol::Udp => udp::listen(&self.env, bind, backends.clone())
                .await
                .map_err(failed)?,
            Protocol::Tcp | Protocol::Sctp => tcp::listen(&self.env, bind, backends.clone())
                .await
                .map_err(failed)?,
        };
        Ok(Listener {
            backends,
            local,
            task,
        })
    }
}

/// Every address that a table wants listened on, with its endpoints.
fn wanted(table: &RuleTable) -> BTreeMap<ListenKey, (Vec<SocketAddr>, Option<Duration>)> {
    let mut wanted = BTreeMap::new();
    for (name, rule) in &table.services {
        if name.protocol == Protocol::Sctp {
            continue;
        }
        let mut add = |ip: IpAddr, port: u16, endpoints: &[SocketAddr]| {
            wanted.insert(
                (SocketAddr::new(ip, port), name.protocol),
                (endpoints.to_vec(), rule.affinity),
            );
        };
        for ip in &rule.cluster_ips {
            add(*ip, rule.port, rule.internal_endpoints());
        }
        if let Some(port) = rule.node_port {
            add(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port, rule.external_endpoints());
        }
    }
    wanted
}

#[async_trait]
impl ServiceProxy for UserspaceProxy {
    async fn sync(&self, table: &RuleTable) -> Result<Applied, ProxyError> {
        let wanted = wanted(table);
        let mut held = self.held.lock().await;
        // New listeners first: if one fails nothing that works has been touched.
        let mut opened: BTreeMap<ListenKey, Listener> = BTreeMap::new();
        let mut claimed = Vec::new();
        for (key, (endpoints, affinity)) in &wanted {
            if held.listeners.contains_key(key) {
                continue;
            }
            let ip = key.0.ip();
            if let Some(owner) = &self.addresses
                && !ip.is_unspecified()
                && !held.owned.contains(&ip)
                && !claimed.contains(&ip)
            {
                owner.claim(ip).await?;
                claimed.push(ip);
            }
            let backends = Arc::new(Backends::new(self.env.clone()));
            backends.set(endpoints, *affinity);
            match self.listen(*key, backends).await {
                Ok(listener) => drop(opened.insert(*key, listener)),
                Err(e) => {
                    opened.values().for_each(|l| l.task.abort());
                    if let Some(owner) = &self.addresses {
                        for ip in claimed {
                            owner.release(ip).await?;
                        }
                    }
                    return Err(e);
                }
            }
        }
        held.listeners.extend(opened);
        held.owned.extend(claimed);
        held.listeners.retain(|key, listener| match wanted.get(key) {
            Some((endpoints, affinity)) => {
                listener.backends.set(endpoints, *affinity);
                true
            }
            None => {
                listener.task.abort();
                false
            }
        });
        let used: BTreeSet<IpAddr> = wanted.keys().map(|(a, _)| a.ip()).collect();
        let unused: Vec<IpAddr> = held.owned.difference(&used).copied().collect();
        if let Some(owner) = &self.addresses {
            for ip in unused {
                owner.release(ip).await?;
                held.owned.remove(&ip);
            }
        }
        let applied = Applied {
            written: table
                .services
                .iter()
                .filter(|(n, r)| held.rules.get(*n) != Some(*r))
                .count(),
            removed: held
                .rules
                .keys()
                .filter(|n| !table.services.contains_key(*n))
                .count(),
        };
        held.rules = table.services.clone();
        Ok(applied)
    }

    async fn clear(&self) -> Result<(), ProxyError> {
        self.sync(&RuleTable::default()).await.map(drop)
    }
}
