//! The agent's own HTTPS API, as the API server and metrics collectors use it: logs, exec, attach, port-forward, pods,
//! statistics.
//!
//! Every connection shows a client certificate; every request but `/healthz` is authorized. HTTP/1.1, since streams
//! upgrade the connection.

mod auth;
mod logs;
mod metrics;
mod route;
mod stats;
mod stream;

pub use auth::{ByCertificate, ByReview, NodeAuthorizer, Peer, tls_config};
pub use route::{Access, Route, StreamParams};

use crate::agent::NodeView;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use orch_core::spawn::Shutdown;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// How the agent's API is reached and by whom.
pub struct ServerConfig {
    /// A bound listener. Its port belongs into [`crate::agent::NodeConfig::port`].
    pub listener: TcpListener,
    /// TLS with required client certificates; [`tls_config`] makes it.
    pub tls: Arc<rustls::ServerConfig>,
    /// Decides on requests.
    pub authorizer: Arc<dyn NodeAuthorizer>,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerConfig({:?})", self.listener.local_addr())
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// An answer in plain text, with a line feed, as upstream's are.
fn text(status: StatusCode, message: impl std::fmt::Display) -> Response<Body> {
    let mut response = Response::new(full(format!("{message}\n")));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

/// A TLS handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves until `shutdown`. Open streams are cut then; containers are not touched.
pub(crate) async fn serve(config: ServerConfig, view: NodeView, shutdown: Shutdown) {
    let server = Arc::new(Server {
        authorizer: config.authorizer,
        stats: stats::Rates::default(),
        view,
    });
    let acceptor = tokio_rustls::TlsAcceptor::from(config.tls);
    let env = server.view.env().clone();
    loop {
        let stream = tokio::select! {
            () = shutdown.wait() => return,
            accepted = config.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: let some go.
                    tracing::warn!(%error, "cannot accept a connection");
                    env.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (server, acceptor, stop) = (server.clone(), acceptor.clone(), shutdown.clone());
        let task = async move {
            tokio::select! {
                () = stop.wait() => {}
                () = server.connection(acceptor, stream) => {}
            }
        };
        env.spawner.spawn("node api", Box::pin(task));
    }
}

struct Server {
    view: NodeView,
    authorizer: Arc<dyn NodeAuthorizer>,
    stats: stats::Rates,
}

impl Server {
    async fn connection(self: Arc<Self>, acceptor: tokio_rustls::TlsAcceptor, stream: TcpStream) {
        drop(stream.set_nodelay(true));
        let clock = self.view.env().clock.clone();
        let stream = tokio::select! {
            () = clock.sleep(HANDSHAKE) => return,
            accepted = acceptor.accept(stream) => match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "TLS handshake failed");
                    return;
                }
            },
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let peer = Arc::new(
            certificates
                .and_then(|c| Peer::of(c.first()?))
                .unwrap_or_default(),
        );
        let service = service_fn(move |request| {
            let (server, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(server.answer(request, &peer).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let uri = request.uri();
        let route = match Route::parse(request.method(), uri.path(), uri.query().unwrap_or("")) {
            Ok(route) => route,
            Err(response) => return text(response.0, response.1),
        };
        if let Some(access) = route.access(request.method())
            && !self.authorizer.allows(peer, &access, self.view.name()).await
        {
            let message = format!(
                "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])",
                peer.name, access.verb, access.subresource
            );
            return text(StatusCode::FORBIDDEN, message);
        }
        match route {
            Route::Health => text(StatusCode::OK, "ok"),
            Route::Pods => typed("application/json", self.view.pod_list()),
            Route::Metrics => typed("text/plain; version=0.0.4; charset=utf-8", self.metrics().await),
            Route::ResourceMetrics => typed(
                "text/plain; version=0.0.4; charset=utf-8",
                self.resource_metrics().await,
            ),
            Route::Summary => match self.summary().await {
                Ok(summary) => typed("application/json", summary.to_string()),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
            },
            Route::Logs {
                namespace,
                pod,
                container,
                options,
                previous,
            } => self.logs(&namespace, &pod, &container, options, previous).await,
            Route::Run { target, command } => self.run_command(&target, &command).await,
            Route::Exec {
                target,
                command,
                params,
            } => self.exec(request, &target, Some(command), params).await,
            Route::Attach { target, params } => self.exec(request, &target, None, params).await,
            Route::Forward {
                namespace,
                pod,
                uid,
                ports,
            } => {
                self.forward(request, &namespace, &pod, uid.as_deref(), ports)
                    .await
            }
        }
    }
}

/// Whether `method` may change or run something.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
