//! UDP: one socket per client towards its endpoint, forgotten when idle.

use super::Backends;
use orch_core::{Env, clock::Monotonic, spawn::TaskHandle};
use parking_lot::Mutex;
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::UdpSocket;

/// How long a client's socket outlives its last packet, as conntrack's default for a two-way stream.
const IDLE: Duration = Duration::from_secs(120);
/// Most clients with a socket at one time; the one that was idle longest goes first.
const CLIENTS_MAX: usize = 4096;

struct Session {
    socket: Arc<UdpSocket>,
    endpoint: SocketAddr,
    used: Monotonic,
    task: TaskHandle,
}

type Sessions = Arc<Mutex<BTreeMap<SocketAddr, Session>>>;

pub(super) async fn listen(
    env: &Env,
    bind: SocketAddr,
    backends: Arc<Backends>,
) -> io::Result<(SocketAddr, TaskHandle)> {
    let listener = Arc::new(UdpSocket::bind(bind).await?);
    let local = listener.local_addr()?;
    let sessions = Sessions::default();
    let env_ = env.clone();
    let receive = async move {
        let _cleanup = EndSessions(sessions.clone());
        let mut packet = vec![0; 65_536];
        loop {
            let Ok((length, client)) = listener.recv_from(&mut packet).await else {
                env_.clock.sleep(Duration::from_millis(10)).await;
                continue;
            };
            if let Some(socket) = session(&env_, &sessions, &listener, client, &backends).await {
                // A lost datagram is UDP's to lose.
                drop(socket.send(&packet[..length]).await);
            }
        }
    };
    Ok((local, env.spawner.spawn("proxy-udp", Box::pin(receive))))
}

struct EndSessions(Sessions);

impl Drop for EndSessions {
    fn drop(&mut self) {
        self.0.lock().values().for_each(|s| s.task.abort());
    }
}

async fn session(
    env: &Env,
    sessions: &Sessions,
    listener: &Arc<UdpSocket>,
    client: SocketAddr,
    backends: &Backends,
) -> Option<Arc<UdpSocket>> {
    let now = env.clock.monotonic();
    let candidates = backends.candidates(client.ip());
    {
        let mut held = sessions.lock();
        held.retain(|_, s| {
            let keep = now.since(s.used) < IDLE;
            if !keep {
                s.task.abort();
            }
            keep
        });
        if let Some(session) = held.get_mut(&client) {
            // A session sticks to its endpoint only while the endpoint is in the table.
            if candidates.contains(&session.endpoint) {
                session.used = now;
                return Some(session.socket.clone());
            }
            session.task.abort();
            held.remove(&client);
        }
        if held.len() >= CLIENTS_MAX {
            let oldest = held.iter().min_by_key(|(_, s)| s.used).map(|(c, _)| *c);
            if let Some(s) = oldest.and_then(|c| held.remove(&c)) {
                s.task.abort();
            }
        }
    }
    let endpoint = *candidates.first()?;
    let any: SocketAddr = if endpoint.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = Arc::new(UdpSocket::bind(any).await.ok()?);
    socket.connect(endpoint).await.ok()?;
    backends.chose(client.ip(), endpoint);
    let (back, from) = (listener.clone(), socket.clone());
    let task = env.spawner.spawn(
        "proxy-udp-session",
        Box::pin(async move {
            let mut packet = vec![0; 65_536];
            // A refused packet surfaces as an error here; the session goes on until it is idle.
            loop {
                if let Ok(length) = from.recv(&mut packet).await {
                    drop(back.send_to(&packet[..length], client).await);
                }
            }
        }),
    );
    sessions.lock().insert(
        client,
        Session {
            socket: socket.clone(),
            endpoint,
            used: now,
            task,
        },
    );
    Some(socket)
}
