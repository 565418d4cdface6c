//! The test kit of [`ServiceProxy`]: whoever implements the seam runs [`service_proxy_conformance`] on it.

use crate::proxy::{Protocol, RuleTable, ServiceName, ServiceProxy, ServiceRule};
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

/// Where the kit finds its endpoints and how a client reaches a service address.
#[async_trait::async_trait]
pub trait ProxyBench: Send + Sync {
    /// The proxy under test, in its initial state.
    fn proxy(&self) -> &dyn ServiceProxy;
    /// An address on which the kit may start an endpoint; `n` is 0 to 2, each address another.
    fn endpoint_ip(&self, n: u8) -> IpAddr;
    /// A cluster IP that nothing uses; `n` is 0 to 3.
    fn cluster_ip(&self, n: u8) -> IpAddr;
    /// What a client dials to reach `service`.
    async fn dial(&self, service: SocketAddr, protocol: Protocol) -> SocketAddr;
}

/// One broken promise.
#[derive(Debug, thiserror::Error)]
#[error("{case}: {why}")]
pub struct Broken {
    /// Name of the case.
    pub case: &'static str,
    /// What was seen.
    pub why: String,
}

/// An endpoint that answers every line (TCP) or datagram (UDP) with its own address.
struct Echo {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kit's own endpoints run on the test's runtime"
)]
async fn echo(ip: IpAddr) -> io::Result<Echo> {
    let tcp = TcpListener::bind((ip, 0)).await?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).await?;
    let name = address.to_string();
    let tcp_name = name.clone();
    let serve_tcp = tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let name = tcp_name.clone();
            tokio::spawn(async move {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    if stream.write_all(format!("{name}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let serve_udp = tokio::spawn(async move {
        let mut byte = [0; 16];
        while let Ok((_, from)) = udp.recv_from(&mut byte).await {
            drop(udp.send_to(name.as_bytes(), from).await);
        }
    });
    Ok(Echo {
        address,
        tasks: vec![serve_tcp, serve_udp],
    })
}

async fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"?").await?;
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
}

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(Duration::from_secs(5), what)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask_tcp(to: SocketAddr) -> io::Result<String> {
    within(async {
        let mut stream = TcpStream::connect(to).await?;
        ask(&mut stream).await
    })
    .await
}

async fn ask_udp(to: SocketAddr) -> io::Result<String> {
    within(async {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
        socket.connect(to).await?;
        socket.send(b"?").await?;
        let mut packet = [0; 128];
        let length = socket.recv(&mut packet).await?;
        Ok(String::from_utf8_lossy(&packet[..length]).into_owned())
    })
    .await
}

fn rule(cluster_ip: IpAddr, endpoints: &[SocketAddr]) -> ServiceRule {
    ServiceRule {
        port: 8080,
        cluster_ips: vec![cluster_ip],
        external_ips: vec![],
        node_port: None,
        endpoints: endpoints.to_vec(),
        local_endpoints: vec![],
        internal_local: false,
        external_local: false,
        affinity: None,
    }
}

fn table(rules: Vec<(&str, Protocol, ServiceRule)>) -> RuleTable {
    let name = |name: &str, protocol| ServiceName {
        namespace: "default".into(),
        name: name.into(),
        port: String::new(),
        protocol,
    };
    RuleTable {
        services: rules.into_iter().map(|(n, p, rule)| (name(n, p), rule)).collect(),
    }
}

/// Runs every case; the first broken promise is the error.
///
/// # Errors
/// [`Broken`], naming the case.
pub async fn service_proxy_conformance(bench: &dyn ProxyBench) -> Result<(), Broken> {
    let broken = |case, why: String| Broken { case, why };
    let proxy = bench.proxy();
    let mut servers = Vec::new();
    for n in 0..3 {
        servers.push(
            echo(bench.endpoint_ip(n))
                .await
                .map_err(|e| broken("setup", e.to_string()))?,
        );
    }
    let all: Vec<SocketAddr> = servers.iter().map(|s| s.address).collect();
    let service = SocketAddr::new(bench.cluster_ip(0), 8080);
    let sync =
        |case, t: RuleTable| async move { proxy.sync(&t).await.map_err(|e| broken(case, e.to_string())) };
    let seen = |to: SocketAddr| async move {
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            seen.insert(ask_tcp(to).await?);
        }
        io::Result::Ok(seen)
    };

    let case = "spreads connections over all endpoints";
    let spread = table(vec![
        ("a", Protocol::Tcp, rule(service.ip(), &all)),
        ("a", Protocol::Udp, rule(service.ip(), &all)),
    ]);
    sync(case, spread.clone()).await?;
    let to = bench.dial(service, Protocol::Tcp).await;
    let names = seen(to).await.map_err(|e| broken(case, e.to_string()))?;
    if names.len() != 3 {
        return Err(broken(case, format!("60 connections reached {names:?}")));
    }
    let case = "carries datagrams";
    let dial = bench.dial(service, Protocol::Udp).await;
    ask_udp(dial).await.map_err(|e| broken(case, e.to_string()))?;

    let case = "a repeated sync changes nothing";
    let applied = sync(case, spread).await?;
    if applied != crate::proxy::Applied::default() {
        return Err(broken(case, format!("{applied:?}")));
    }

    let case = "established connections outlive their endpoint's removal";
    let mut open = TcpStream::connect(to)
        .await
        .map_err(|e| broken(case, e.to_string()))?;
    let first = within(ask(&mut open))
        .await
        .map_err(|e| broken(case, e.to_string()))?;
    let others: Vec<SocketAddr> = all.iter().filter(|a| a.to_string() != first).copied().collect();
    sync(
        case,
        table(vec![("a", Protocol::Tcp, rule(service.ip(), &others))]),
    )
    .await?;
    let again = within(ask(&mut open))
        .await
        .map_err(|e| broken(case, e.to_string()))?;
    if again != first {
        return Err(broken(case, format!("moved from {first} to {again}")));
    }
    let case = "new connections avoid a removed endpoint";
    let names = seen(to).await.map_err(|e| broken(case, e.to_string()))?;
    if names.contains(&first) || names.len() != 2 {
        return Err(broken(case, format!("{first} was removed, seen {names:?}")));
    }

    let case = "client affinity is kept";
    let mut sticky = rule(bench.cluster_ip(1), &all);
    sticky.affinity = Some(Duration::from_secs(60));
    sync(case, table(vec![("b", Protocol::Tcp, sticky)])).await?;
    let to = bench
        .dial(SocketAddr::new(bench.cluster_ip(1), 8080), Protocol::Tcp)
        .await;
    let names = seen(to).await.map_err(|e| broken(case, e.to_string()))?;
    if names.len() != 1 {
        return Err(broken(case, format!("one client reached {names:?}")));
    }

    let case = "a service without endpoints refuses at once";
    sync(
        case,
        table(vec![("c", Protocol::Tcp, rule(bench.cluster_ip(2), &[]))]),
    )
    .await?;
    let to = bench
        .dial(SocketAddr::new(bench.cluster_ip(2), 8080), Protocol::Tcp)
        .await;
    match ask_tcp(to).await {
        Err(e) if e.kind() != io::ErrorKind::TimedOut => {}
        other => return Err(broken(case, format!("{other:?}"))),
    }

    let case = "clear leaves nothing";
    sync(case, table(vec![("d", Protocol::Tcp, rule(service.ip(), &all))])).await?;
    let to = bench.dial(service, Protocol::Tcp).await;
    ask_tcp(to).await.map_err(|e| broken(case, e.to_string()))?;
    proxy.clear().await.map_err(|e| broken(case, e.to_string()))?;
    if tokio::time::timeout(Duration::from_millis(300), ask_tcp(to))
        .await
        .is_ok_and(|answer| answer.is_ok())
    {
        return Err(broken(case, "the service still answers".into()));
    }
    Ok(())
}
