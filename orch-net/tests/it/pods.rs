//! The pod network in the kernel.
use crate::namespaces::Namespace;
use orch_core::node::{HostPort, NetworkBackend, NetworkError, PodNetworkRequest};
use orch_net::pod::{VethConfig, VethNetwork};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longest wait for what should take a millisecond.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

fn network(dir: &Path) -> VethNetwork {
    VethNetwork::new(VethConfig {
        dir: dir.into(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        table: "orch-pods-test".into(),
        nftables: true,
    })
}

fn request(uid: &str, netns: &Namespace, host_ports: Vec<HostPort>) -> PodNetworkRequest {
    PodNetworkRequest {
        namespace: "default".into(),
        name: uid.into(),
        uid: uid.into(),
        netns_path: netns.path(),
        host_ports,
    }
}

/// Serves one connection on port 80 of `at` with the client's address, on a thread in its namespace.
fn serve_in(at: &Namespace, ip: IpAddr, connections: usize, ready: tokio::sync::oneshot::Sender<()>) {
    at.run(async || {
        let listener = TcpListener::bind((ip, 80)).await.unwrap();
        ready.send(()).unwrap();
        for _ in 0..connections {
            let Ok(accepted) = tokio::time::timeout(PATIENCE, listener.accept()).await else {
                return;
            };
            let (mut stream, from) = accepted.unwrap();
            stream.write_all(from.ip().to_string().as_bytes()).await.unwrap();
        }
    });
}

async fn read_from(address: SocketAddr) -> String {
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let mut stream = connected
        .unwrap_or_else(|_| panic!("no answer from {address}"))
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[test]
fn pods_reach_each_other_and_the_host_reaches_them() {
    let dir = tempfile::tempdir().unwrap();
    let (host, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    let host_port = HostPort {
        protocol: "TCP".into(),
        host_ip: None,
        host_port: 8081,
        container_port: 80,
    };
    let (ip_a, ip_b) = host.run(async || {
        let network = network(dir.path());
        let early = network.attach(&request("uid-a", &a, vec![])).await;
        assert!(matches!(early, Err(NetworkError::NotReady { .. })), "{early:?}");
        network.set_range("10.244.3.0/24".parse().unwrap()).await.unwrap();
        let first = network
            .attach(&request("uid-a", &a, vec![host_port.clone()]))
            .await
            .unwrap();
        let again = network
            .attach(&request("uid-a", &a, vec![host_port.clone()]))
            .await
            .unwrap();
        assert_eq!(first, again);
        let second = network.attach(&request("uid-b", &b, vec![])).await.unwrap();
        (first.ips[0], second.ips[0])
    });
    assert_ne!(ip_a, ip_b);
    let (ready, wait) = tokio::sync::oneshot::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| serve_in(&a, ip_a, 3, ready));
        let from_b = b.run(async || {
            wait.await.unwrap();
            read_from(SocketAddr::new(ip_a, 80)).await
        });
        assert_eq!(
            from_b,
            ip_b.to_string(),
            "the source address is kept between pods"
        );
        let from_host = host.run(async || read_from(SocketAddr::new(ip_a, 80)).await);
        assert_eq!(from_host, "10.244.3.1");
        host.run(async || read_from("10.244.3.1:8081".parse().unwrap()).await);
    });
    host.run(async || {
        // A new backend on the same records: what a restarted agent sees.
        let network = network(dir.path());
        network.set_range("10.244.3.0/24".parse().unwrap()).await.unwrap();
        let ips: Vec<IpAddr> = network.list().await.unwrap().iter().map(|p| p.ips[0]).collect();
        assert_eq!(ips, [ip_a, ip_b]);
        for _ in 0..2 {
            network.detach("uid-a", &a.path()).await.unwrap();
            network.detach("uid-b", Path::new("/nonexistent")).await.unwrap();
        }
        assert!(network.list().await.unwrap().is_empty());
        assert!(TcpStream::connect("10.244.3.1:8081").await.is_err());
    });
}
