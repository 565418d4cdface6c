//! Both proxies, and broken ones, under the conformance kit.
use crate::namespaces::Namespace;
use async_trait::async_trait;
use orch_core::Env;
use orch_net::{
    pod::link,
    proxy::{
        Applied, Protocol, ProxyError, RuleTable, ServiceProxy,
        nftables::{NftablesConfig, NftablesProxy},
        userspace::{LoopbackAddresses, UserspaceProxy},
    },
    testing::{ProxyBench, service_proxy_conformance},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

struct Bench<P>(P);

#[async_trait]
impl<P: ServiceProxy> ProxyBench for Bench<P> {
    fn proxy(&self) -> &dyn ServiceProxy {
        &self.0
    }
    fn endpoint_ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 1, n + 1))
    }
    fn cluster_ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, 7, n + 1))
    }
    async fn dial(&self, service: SocketAddr, _protocol: Protocol) -> SocketAddr {
        service
    }
}

fn nftables() -> NftablesProxy {
    NftablesProxy::new(NftablesConfig {
        table: "orch-test".into(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        pod_cidr: "127.0.1.0/24".parse().unwrap(),
    })
}

fn in_host<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> T {
    Namespace::new().run(async || {
        link::route_range_to_loopback("10.96.0.0/16".parse().unwrap(), Ipv4Addr::LOCALHOST)
            .await
            .unwrap();
        test().await
    })
}

#[test]
fn nftables_conforms() {
    in_host(async || service_proxy_conformance(&Bench(nftables())).await).unwrap();
}

#[test]
fn userspace_on_cluster_ips_conforms() {
    in_host(async || {
        let proxy = UserspaceProxy::on_cluster_ips(Env::system(), Arc::new(LoopbackAddresses));
        service_proxy_conformance(&Bench(proxy)).await
    })
    .unwrap();
}

/// The userspace proxy of a user without privileges: clients dial the loopback port it tells.
struct LoopbackBench(UserspaceProxy);

#[async_trait]
impl ProxyBench for LoopbackBench {
    fn proxy(&self) -> &dyn ServiceProxy {
        &self.0
    }
    fn endpoint_ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 1, n + 1))
    }
    fn cluster_ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, 7, n + 1))
    }
    async fn dial(&self, service: SocketAddr, protocol: Protocol) -> SocketAddr {
        // Port 1 of loopback answers nobody: what is not listed is not there.
        self.0
            .listening()
            .await
            .get(&(service, protocol))
            .copied()
            .unwrap_or(([127, 0, 0, 1], 1).into())
    }
}

#[tokio::test]
async fn userspace_on_loopback_conforms() {
    service_proxy_conformance(&LoopbackBench(UserspaceProxy::on_loopback(Env::system())))
        .await
        .unwrap();
}

/// What a broken proxy does wrong.
#[derive(Clone, Copy)]
enum Fault {
    FirstEndpointOnly,
    KeepsRemovedEndpoints,
    ForgetsAffinity,
    DropsUdp,
    ClearDoesNothing,
}

struct BrokenProxy {
    sound: UserspaceProxy,
    fault: Fault,
    syncs: AtomicU32,
}

#[async_trait]
impl ServiceProxy for BrokenProxy {
    async fn sync(&self, table: &RuleTable) -> Result<Applied, ProxyError> {
        let mut table = table.clone();
        let nth = self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::FirstEndpointOnly => table.services.values_mut().for_each(|r| r.endpoints.truncate(1)),
            Fault::KeepsRemovedEndpoints if nth == 2 => return Ok(Applied::default()),
            Fault::ForgetsAffinity => table.services.values_mut().for_each(|r| r.affinity = None),
            Fault::DropsUdp => table.services.retain(|n, _| n.protocol != Protocol::Udp),
            Fault::KeepsRemovedEndpoints | Fault::ClearDoesNothing => {}
        }
        self.sound.sync(&table).await
    }
    async fn clear(&self) -> Result<(), ProxyError> {
        if matches!(self.fault, Fault::ClearDoesNothing) {
            return Ok(());
        }
        self.sound.clear().await
    }
}

#[async_trait]
impl ProxyBench for BrokenProxy {
    fn proxy(&self) -> &dyn ServiceProxy {
        self
    }
    fn endpoint_ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 1, n + 1))
    }
    fn cluster_ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, 7, n + 1))
    }
    async fn dial(&self, service: SocketAddr, protocol: Protocol) -> SocketAddr {
        self.sound
            .listening()
            .await
            .get(&(service, protocol))
            .copied()
            .unwrap_or(([127, 0, 0, 1], 1).into())
    }
}

#[tokio::test]
async fn the_kit_names_what_a_broken_proxy_breaks() {
    for (fault, case) in [
        (Fault::FirstEndpointOnly, "spreads connections over all endpoints"),
        (
            Fault::KeepsRemovedEndpoints,
            "new connections avoid a removed endpoint",
        ),
        (Fault::ForgetsAffinity, "client affinity is kept"),
        (Fault::DropsUdp, "carries datagrams"),
        (Fault::ClearDoesNothing, "clear leaves nothing"),
    ] {
        let sound = UserspaceProxy::on_loopback(Env::system());
        let broken = BrokenProxy {
            sound,
            fault,
            syncs: AtomicU32::new(0),
        };
        let error = service_proxy_conformance(&broken).await.expect_err(case);
        assert_eq!(error.case, case, "{error}");
    }
}
