//! The sockets: UDP and TCP, with names of others forwarded.

use super::{answer::answer, zone::Zone};
use hickory_proto::op::{Message, ResponseCode};
use orch_core::{Env, spawn::TaskHandle};
use parking_lot::RwLock;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Longest answer in a datagram to a client that did not say more (RFC 1035).
const PLAIN_UDP_BYTES: usize = 512;
/// Longest wait for one upstream resolver.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest silence on a TCP connection.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Where to listen and whom to ask.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Addresses to listen on, UDP and TCP each; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Resolvers for names outside the cluster; empty refuses those names.
    pub forward: Vec<SocketAddr>,
}

/// The resolvers of a `resolv.conf` text.
#[must_use]
pub fn host_resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|ip| ip.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

struct Shared {
    env: Env,
    zone: RwLock<Arc<Zone>>,
    forward: Vec<SocketAddr>,
}

/// A running DNS server. Dropping it stops it.
pub struct DnsServer {
    shared: Arc<Shared>,
    listening: Vec<SocketAddr>,
    tasks: Vec<TaskHandle>,
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(TaskHandle::abort);
    }
}

impl DnsServer {
    /// Binds the sockets and starts to answer, with an empty zone until [`DnsServer::set_zone`].
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub async fn start(env: &Env, config: DnsConfig, domain: &str) -> io::Result<Self> {
        let zone = RwLock::new(Arc::new(Zone::build(domain, &[], &[], [])));
        let shared = Arc::new(Shared {
            env: env.clone(),
            zone,
            forward: config.forward,
        });
        let (mut listening, mut tasks) = (Vec::new(), Vec::new());
        for address in config.listen {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("cluster DNS on {address}: {e}"));
            let tcp = TcpListener::bind(address).await.map_err(named)?;
            let local = tcp.local_addr()?;
            let udp = UdpSocket::bind(local).await.map_err(named)?;
            listening.push(local);
            tasks.push(
                env.spawner
                    .spawn("dns-udp", Box::pin(serve_udp(shared.clone(), Arc::new(udp)))),
            );
            tasks.push(
                env.spawner
                    .spawn("dns-tcp", Box::pin(serve_tcp(shared.clone(), tcp))),
            );
        }
        Ok(Self {
            shared,
            listening,
            tasks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Replaces the records.
    pub fn set_zone(&self, zone: Zone) {
        *self.shared.zone.write() = Arc::new(zone);
    }
}

async fn serve_udp(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut packet = [0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut packet).await else {
            shared.env.clock.sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(query) = Message::from_vec(&packet[..length]) else {
            continue;
        };
        let zone = shared.zone.read().clone();
        if let Some(response) = answer(&zone, &query) {
            reply_udp(&socket, client, &query, response).await;
            continue;
        }
        let (shared, socket) = (shared.clone(), socket.clone());
        let raw = packet[..length].to_vec();
        let spawner = shared.env.spawner.clone();
        spawner.spawn(
            "dns-forward",
            Box::pin(async move {
                match forward_udp(&shared, &raw).await {
                    Some(bytes) => drop(socket.send_to(&bytes, client).await),
                    None => reply_udp(&socket, client, &query, failure(&shared, &query)).await,
                }
            }),
        );
    }
}

async fn reply_udp(socket: &UdpSocket, client: SocketAddr, query: &Message, response: Message) {
    let limit = query.edns.as_ref().map_or(PLAIN_UDP_BYTES, |e| {
        usize::from(e.max_payload()).max(PLAIN_UDP_BYTES)
    });
    let Ok(mut bytes) = response.to_vec() else { return };
    if bytes.len() > limit {
        let Ok(short) = response.truncate().to_vec() else {
            return;
        };
        bytes = short;
    }
    drop(socket.send_to(&bytes, client).await);
}

fn failure(shared: &Shared, query: &Message) -> Message {
    let code = if shared.forward.is_empty() {
        ResponseCode::Refused
    } else {
        ResponseCode::ServFail
    };
    let mut response = Message::error_msg(query.metadata.id, query.metadata.op_code, code);
    response.queries.clone_from(&query.queries);
    response
}

async fn forward_udp(shared: &Shared, raw: &[u8]) -> Option<Vec<u8>> {
    for upstream in &shared.forward {
        let ask = async {
            let any: SocketAddr = if upstream.is_ipv4() {
                ([0, 0, 0, 0], 0).into()
            } else {
                ([0u16; 8], 0).into()
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(upstream).await?;
            socket.send(raw).await?;
            let mut packet = vec![0; 65_535];
            loop {
                let length = socket.recv(&mut packet).await?;
                // The same query id, or somebody is guessing.
                if packet[..length].get(..2) == raw.get(..2) {
                    packet.truncate(length);
                    return io::Result::Ok(packet);
                }
            }
        };
        let answered = tokio::select! {
            r = ask => r.ok(),
            () = shared.env.clock.sleep(FORWARD_TIMEOUT) => None,
        };
        if answered.is_some() {
            return answered;
        }
    }
    None
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            shared.env.clock.sleep(Duration::from_millis(10)).await;
            continue;
        };
        let connection = tcp_connection(shared.clone(), stream);
        shared.env.spawner.spawn(
            "dns-tcp-connection",
            Box::pin(async move {
                // A client that breaks off or talks nonsense is just let go.
                drop(connection.await);
            }),
        );
    }
}

async fn tcp_connection(shared: Arc<Shared>, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let raw = tokio::select! {
            r = read_message(&mut stream) => r?,
            () = shared.env.clock.sleep(TCP_IDLE) => return Ok(()),
        };
        let query = Message::from_vec(&raw).map_err(io::Error::other)?;
        let zone = shared.zone.read().clone();
        let bytes = match answer(&zone, &query) {
            Some(response) => response.to_vec().map_err(io::Error::other)?,
            None => match forward_tcp(&shared, &raw).await {
                Some(bytes) => bytes,
                None => failure(&shared, &query).to_vec().map_err(io::Error::other)?,
            },
        };
        write_message(&mut stream, &bytes).await?;
    }
}

async fn forward_tcp(shared: &Shared, raw: &[u8]) -> Option<Vec<u8>> {
    for upstream in &shared.forward {
        let ask = async {
            let mut stream = TcpStream::connect(upstream).await?;
            write_message(&mut stream, raw).await?;
            read_message(&mut stream).await
        };
        let answered = tokio::select! {
            r = ask => r.ok(),
            () = shared.env.clock.sleep(FORWARD_TIMEOUT) => None,
        };
        if answered.is_some() {
            return answered;
        }
    }
    None
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await
}
