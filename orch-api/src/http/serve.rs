//! Accepting, TLS, HTTP connections and their end.

use super::{
    body::Body,
    decode::{decode, read_body},
    dispatch::{Dispatch, body_limit, is_upgrade, isolate},
    encode,
    listen::Listener,
};
use crate::{
    authn::{Authenticator, Peer},
    pki::KeyAndCert,
    server::RequestInfo,
    setup_error::SetupError,
};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use orch_core::{
    Status,
    client::RequestBody,
    spawn::{Shutdown, Spawner},
};
use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// After the signal to stop, open requests get this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADER_BYTES: u32 = 256 * 1024;
const MAX_STREAMS: u32 = 250;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What a [`Server`] is made of.
#[derive(Debug)]
pub struct ServerParts {
    /// Answers requests.
    pub dispatch: Arc<Dispatch>,
    /// Says who makes them.
    pub authenticator: Arc<Authenticator>,
    /// The certificate that clients see.
    pub serving: KeyAndCert,
}

/// An HTTPS server over any number of listeners.
#[derive(Clone)]
pub struct Server {
    dispatch: Arc<Dispatch>,
    authenticator: Arc<Authenticator>,
    tls: TlsAcceptor,
    http: Arc<auto::Builder<SpawnOn>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

/// Runs HTTP/2 streams on the injected spawner.
#[derive(Clone)]
pub(crate) struct SpawnOn(pub(crate) Arc<dyn Spawner>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for SpawnOn {
    fn execute(&self, task: F) {
        self.0.spawn("http2-stream", Box::pin(task));
    }
}

/// Whether a connection begins with an HTTP request rather than a TLS handshake. Takes nothing from it.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_uppercase()
}

/// Tells a client that forgot TLS so, in the words of upstream's HTTP library.
async fn refuse_plain(mut stream: TcpStream) {
    // Unread input would turn the end of the connection into a reset, and the answer might be lost.
    drop(stream.read(&mut [0; 4096]).await);
    let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    drop(stream.write_all(answer).await);
    drop(stream.shutdown().await);
}

impl Server {
    /// A server that serves nothing yet.
    ///
    /// # Errors
    /// [`SetupError`] if the certificate cannot be used.
    pub fn new(parts: ServerParts) -> Result<Self, SetupError> {
        let damaged = |what: String| SetupError::Crypto {
            action: "use the serving certificate",
            source: what.into(),
        };
        let chain = parts.serving.chain().map_err(damaged)?;
        let key = parts.serving.private_key().map_err(damaged)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::crypto("set up TLS"))?
            .with_client_cert_verifier(parts.authenticator.client_certificate_verifier())
            .with_single_cert(chain, key)
            .map_err(SetupError::crypto("use the serving certificate"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http = auto::Builder::new(SpawnOn(parts.dispatch.env.spawner.clone()));
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(256);
        http.http2()
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Ok(Self {
            dispatch: parts.dispatch,
            authenticator: parts.authenticator,
            tls: TlsAcceptor::from(Arc::new(config)),
            http: Arc::new(http),
        })
    }

    /// Serves `listeners` until `shutdown` is given to the dispatch, then lets open requests end for a while.
    pub async fn serve(self, listeners: Vec<Listener>) {
        let shutdown = self.dispatch.shutdown.clone();
        // Every connection holds a receiver; the last one gone closes the channel.
        let (alive, held) = watch::channel(());
        let accepting = listeners
            .into_iter()
            .map(|listener| self.accept(listener, held.clone(), &shutdown));
        futures::future::join_all(accepting).await;
        drop(held);
        tokio::select! {
            () = alive.closed() => {}
            () = self.dispatch.env.clock.sleep(DRAIN_TIMEOUT) => {
                tracing::info!("some connections did not end in time and are cut");
            }
        }
    }

    async fn accept(&self, listener: Listener, held: watch::Receiver<()>, shutdown: &Shutdown) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                () = shutdown.wait() => return,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (server, held) = (self.clone(), held.clone());
                    let connection = async move {
                        server.connection(stream, from).await;
                        drop(held);
                    };
                    self.dispatch
                        .env
                        .spawner
                        .spawn("http-connection", Box::pin(connection));
                }
                Err(error) => {
                    // Out of file descriptors, or a connection that went away: neither ends the server.
                    tracing::warn!(%error, "accept failed");
                    self.dispatch.env.clock.sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, from: SocketAddr) {
        // Without it, Nagle's algorithm and delayed acknowledgements cost 40 ms a request.
        drop(stream.set_nodelay(true));
        let tls = async {
            if speaks_http(&stream).await {
                refuse_plain(stream).await;
                return Err(io::Error::other("an HTTP request without TLS"));
            }
            self.tls.accept(stream).await
        };
        let stream = tokio::select! {
            result = tls => match result {
                Ok(stream) => stream,
                Err(error) => {
                    self.dispatch.metrics.handshake_failed();
                    tracing::debug!(%from, %error, "TLS handshake failed");
                    return;
                }
            },
            () = self.dispatch.env.clock.sleep(HANDSHAKE_TIMEOUT) => {
                self.dispatch.metrics.handshake_failed();
                tracing::debug!(%from, "TLS handshake took too long");
                return;
            }
        };
        let peer = Arc::new(
            self.authenticator
                .peer(stream.get_ref().1.peer_certificates().unwrap_or_default()),
        );
        let (server, http) = (self.clone(), self.http.clone());
        let service = hyper::service::service_fn(move |request| {
            let (server, peer) = (server.clone(), peer.clone());
            async move { Ok::<_, Infallible>(server.request(&peer, request).await) }
        });
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let shutdown = &self.dispatch.shutdown;
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = shutdown.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%from, %error, "connection ended");
        }
    }

    /// One request, from its head to the head of its answer.
    async fn request(&self, peer: &Peer, mut request: Request<Incoming>) -> Response<Body> {
        let (env, metrics) = (&self.dispatch.env, &self.dispatch.metrics);
        let started = env.clock.monotonic();
        let _going = metrics.request_begins();
        let client = is_upgrade(request.headers()).then(|| {
            let upgrade = hyper::upgrade::on(&mut request);
            let client = async move {
                let io = upgrade.await.map_err(|e| e.to_string())?;
                Ok(Box::new(TokioIo::new(io)) as Box<dyn orch_core::client::Duplex>)
            };
            Box::pin(client) as super::dispatch::UpgradedClient
        });
        let (parts, body) = request.into_parts();
        let audit_id =
            encode::sent_audit_id(&parts.headers).or_else(|| HeaderValue::from_str(&env.rng.uuid()).ok());
        let mut info = RequestInfo::default();
        let answer = isolate(async {
            let mut api = decode(parts)?;
            info = RequestInfo::of(&api);
            let user = self
                .authenticator
                .authenticate(peer, &api.path, &mut api.headers)
                .await
                .inspect_err(|_| {
                    metrics.unauthenticated();
                })?;
            if client.is_none() {
                let reading = read_body(body, body_limit(&info));
                // A client that sends half a body and waits must not hold the request for ever.
                api.body = tokio::select! {
                    biased;
                    body = reading => body?,
                    () = env.clock.sleep(Duration::from_secs(60)) => {
                        return Err(Status::bad_request("the request body did not arrive in time"));
                    }
                };
            } else {
                api.body = RequestBody::Empty;
            }
            Ok(self.dispatch.answer(&user, &info, api, client).await)
        })
        .await;
        let mut response = answer.unwrap_or_else(|status| encode::error(&status));
        encode::common_headers(response.headers_mut(), audit_id);
        metrics.answered(
            &info,
            response.status().as_u16(),
            env.clock.monotonic().since(started),
        );
        response
    }
}
