//! Connections: one shared over HTTP/2, others for upgrades.

use crate::{http::SpawnOn, kubeconfig::Kubeconfig, pki::KeyAndCert, setup_error::SetupError};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use orch_core::{Env, Status};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

type H2 = http2::SendRequest<Full<Bytes>>;

/// How to reach one server.
pub(crate) struct Transport {
    env: Env,
    host: String,
    port: u16,
    name: ServerName<'static>,
    /// Offers h2 and http/1.1, and http/1.1 alone.
    tls: [TlsConnector; 2],
    shared: Mutex<Option<H2>>,
}

/// What TLS to a server needs.
pub(crate) fn tls_config(ca_pem: &str, client: Option<&KeyAndCert>) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let cert = cert.map_err(SetupError::crypto("read the CA certificate"))?;
        roots
            .add(cert)
            .map_err(SetupError::crypto("use the CA certificate"))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::crypto("set up TLS"))?
        .with_root_certificates(roots);
    let Some(client) = client else {
        return Ok(config.with_no_client_auth());
    };
    let chain = client
        .chain()
        .map_err(SetupError::crypto("use the client certificate"))?;
    let key = client
        .private_key()
        .map_err(SetupError::crypto("use the client key"))?;
    config
        .with_client_auth_cert(chain, key)
        .map_err(SetupError::crypto("use the client certificate"))
}

impl Transport {
    pub(crate) fn from_kubeconfig(env: &Env, config: &Kubeconfig) -> Result<Self, SetupError> {
        let wrong = |what: String| SetupError::Kubeconfig { path: None, what };
        let uri: http::Uri = config
            .server
            .parse()
            .map_err(|e| wrong(format!("server {:?} is no URL: {e}", config.server)))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong(format!("server {:?} is not an https URL", config.server)));
        }
        if !uri.path().trim_end_matches('/').is_empty() {
            return Err(wrong(format!(
                "server {:?} has a path, which is not supported",
                config.server
            )));
        }
        if config.ca_pem.is_empty() {
            return Err(wrong("no certificate-authority given".into()));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let tls = tls_config(&config.ca_pem, config.client.as_ref())?;
        Self::new(
            env,
            host,
            uri.port_u16().unwrap_or(443),
            config.tls_server_name.as_deref(),
            tls,
        )
    }

    /// To `host:port`, whose certificate must be for `name` (or for `host`).
    pub(crate) fn new(
        env: &Env,
        host: &str,
        port: u16,
        name: Option<&str>,
        mut tls: ClientConfig,
    ) -> Result<Self, SetupError> {
        let name = ServerName::try_from(name.unwrap_or(host).to_owned())
            .map_err(SetupError::crypto("use the server's name for TLS"))?;
        let mut h1 = tls.clone();
        h1.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = [tls, h1].map(|config| TlsConnector::from(Arc::new(config)));
        Ok(Self {
            env: env.clone(),
            host: host.to_owned(),
            port,
            name,
            tls,
            shared: Mutex::default(),
        })
    }

    /// Host and port, as in a URL.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn unreachable(&self, error: impl std::fmt::Display) -> Status {
        Status::unavailable(format!("cannot reach https://{}: {error}", self.authority()))
    }

    async fn open(&self, tls: &TlsConnector) -> Result<TlsStream<TcpStream>, Status> {
        let open = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            tls.connect(self.name.clone(), stream).await
        };
        tokio::select! {
            result = open => result.map_err(|e| self.unreachable(e)),
            () = self.env.clock.sleep(CONNECT_TIMEOUT) => Err(self.unreachable("no connection in time")),
        }
    }

    /// Sends over the shared connection, or over one of its own if the server does not speak HTTP/2.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Status> {
        // A connection may be found broken when it is used; what was not sent is sent again over a new one.
        for _ in 0..3 {
            let mut shared = self.shared.lock().await;
            let held = shared.as_ref().filter(|c| !c.is_closed()).cloned();
            let mut connection = match held {
                Some(connection) => connection,
                None => {
                    let stream = self.open(&self.tls[0]).await?;
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        drop(shared);
                        return self.send_on(stream, request).await;
                    }
                    let (connection, driver) = http2::Builder::new(SpawnOn(self.env.spawner.clone()))
                        .timer(TokioTimer::new())
                        .initial_stream_window_size(STREAM_WINDOW)
                        .initial_connection_window_size(CONNECTION_WINDOW)
                        .keep_alive_interval(Duration::from_secs(15))
                        .keep_alive_timeout(Duration::from_secs(15))
                        .keep_alive_while_idle(true)
                        .handshake(TokioIo::new(stream))
                        .await
                        .map_err(|e| self.unreachable(e))?;
                    self.env.spawner.spawn(
                        "http2-client",
                        Box::pin(async move {
                            if let Err(error) = driver.await {
                                tracing::debug!(%error, "connection to the server ended");
                            }
                        }),
                    );
                    *shared = Some(connection.clone());
                    connection
                }
            };
            drop(shared);
            if let Err(error) = connection.ready().await {
                tracing::debug!(%error, "connection is gone");
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.unreachable(error.error())),
                },
            }
        }
        Err(self.unreachable("the connection keeps breaking"))
    }

    /// Sends over an HTTP/1.1 connection of its own, which can be upgraded.
    pub(crate) async fn send_h1(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Status> {
        let stream = self.open(&self.tls[1]).await?;
        self.send_on(stream, request).await
    }

    async fn send_on(
        &self,
        stream: TlsStream<TcpStream>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Status> {
        send_over(&self.env, stream, &self.authority(), request)
            .await
            .map_err(|e| self.unreachable(e))
    }
}

/// Sends one request as HTTP/1.1 over a fresh stream, which ends with the answer or goes over to the upgrade.
pub(crate) async fn send_over<S>(
    env: &Env,
    stream: S,
    authority: &str,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = driver.with_upgrades();
    env.spawner.spawn(
        "http1-client",
        Box::pin(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection to the server ended");
            }
        }),
    );
    let host = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    *request.version_mut() = Version::HTTP_11;
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    *request.uri_mut() = target.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
    connection.send_request(request).await.map_err(|e| e.to_string())
}
