//! Network probes over real connections.

use super::{HttpTarget, Outcome, ProbeTransport, Subject, grpc, http, target::join};
use async_trait::async_trait;
use orch_core::Env;
use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpStream, lookup_host};

/// Opens connections from the node.
#[derive(Debug, Clone)]
pub struct NetProbes {
    pub(super) env: Env,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

impl NetProbes {
    /// Probes from this process. HTTPS certificates are not checked: a probe asks for life, not for identity.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self {
            env,
            tls: Arc::new(http::unchecked_tls()),
        }
    }

    /// Runs `work`, or fails with `late` when it takes longer than `timeout`.
    pub(super) async fn within<T>(
        &self,
        timeout: Duration,
        late: impl FnOnce() -> T + Send,
        work: impl Future<Output = T> + Send,
    ) -> T {
        tokio::select! {
            done = work => done,
            () = self.env.clock.sleep(timeout) => late(),
        }
    }
}

/// Connects; an error is worded as Go's dialer words it, since people match on it.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let authority = join(host, port);
    let failed = |to: String, error: &io::Error| {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {to}: {why}")
    };
    let address: SocketAddr = match host.parse() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => lookup_host((host, port))
            .await
            .map_err(|e| format!("dial tcp: lookup {host}: {e}"))?
            .next()
            .ok_or_else(|| format!("dial tcp: lookup {host}: no such host"))?,
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| failed(authority, &e))?;
    // Closing sends a reset at once, so that probes leave no sockets in TIME_WAIT.
    drop(stream.set_nodelay(true));
    Ok(stream)
}

#[async_trait]
impl ProbeTransport for NetProbes {
    async fn http(&self, _: &Subject, target: &HttpTarget, timeout: Duration) -> Outcome {
        let url = target.url();
        let late = || {
            Outcome::Failure(format!(
                "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            ))
        };
        self.within(timeout, late, http::get(self, target)).await
    }

    async fn tcp(&self, _: &Subject, host: &str, port: u16, timeout: Duration) -> Outcome {
        let late = || Outcome::Failure(format!("dial tcp {}: i/o timeout", join(host, port)));
        let probe = async {
            dial(host, port)
                .await
                .map_or_else(Outcome::Failure, |_| Outcome::Success)
        };
        self.within(timeout, late, probe).await
    }

    async fn grpc(&self, _: &Subject, host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
        let address = join(host, port);
        let late = || {
            Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
                crate::agent::backoff::go_duration(timeout)
            ))
        };
        self.within(timeout, late, grpc::check(self, host, port, service))
            .await
    }
}
