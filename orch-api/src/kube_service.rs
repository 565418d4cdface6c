//! The `kube` client without a socket: a `tower` service over an [`ApiServer`] and a user.
//!
//! ```no_run
//! # fn example(api: orch_api::ApiServer) -> kube::Client {
//! let user = orch_core::UserInfo::new("me", &["system:masters"]);
//! kube::Client::new(orch_api::kube_service::KubeService::new(api, user), "default")
//! # }
//! ```
//!
//! Requests take the same way as over HTTPS, from decoding on; nothing is authenticated, since the caller says who it
//! is. Upgrades (exec, attach, port-forward) run over an HTTP/1.1 connection in memory, because clients take the
//! upgraded stream from the HTTP library.

use crate::{
    ApiServer,
    http::{
        Backend, Body, Dispatch, Metrics, UpgradedClient, body_limit, decode, error_response, is_upgrade,
        read_body,
    },
    server::RequestInfo,
};
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use orch_core::{Env, Status, UserInfo, spawn::Shutdown};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

/// Bytes that wait on each side of an in-memory connection.
const PIPE_BYTES: usize = 64 * 1024;

/// A `tower::Service` that answers HTTP requests of one user in process.
#[derive(Clone)]
pub struct KubeService {
    dispatch: Arc<Dispatch>,
    user: Arc<UserInfo>,
    env: Env,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Body of the answers.
pub type KubeBody = UnsyncBoxBody<Bytes, BoxError>;

impl KubeService {
    /// A service in front of `api` that acts as `user`.
    #[must_use]
    pub fn new(api: ApiServer, user: UserInfo) -> Self {
        let env = api.env().clone();
        Self::over(Arc::new(api), env, user)
    }

    /// A service in front of any [`Backend`].
    #[must_use]
    pub fn over(backend: Arc<dyn Backend>, env: Env, user: UserInfo) -> Self {
        let dispatch = Dispatch::new(backend, env.clone(), Metrics::new(), Shutdown::new());
        Self {
            dispatch: Arc::new(dispatch),
            user: Arc::new(user),
            env,
        }
    }

    async fn answer<B>(self, request: Request<B>, client: Option<UpgradedClient>) -> Response<Body>
    where
        B: http_body::Body + Unpin,
        B::Data: Buf,
        B::Error: std::fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let plain = client.is_none();
        let read = async move {
            let mut api = decode(parts)?;
            let info = RequestInfo::of(&api);
            if plain {
                api.body = read_body(body, body_limit(&info)).await?;
            }
            Ok::<_, Status>((api, info))
        };
        match read.await {
            Ok((api, info)) => self.dispatch.answer(&self.user, &info, api, client).await,
            Err(status) => error_response(&status),
        }
    }

    /// Serves one request over a pipe, and asks it there.
    async fn upgrade<B>(self, request: Request<B>) -> Result<Response<Incoming>, BoxError> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let spawner = self.env.spawner.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let this = self.clone();
            async move {
                let upgrade = hyper::upgrade::on(&mut request);
                let client = async move {
                    let io = upgrade.await.map_err(|e| e.to_string())?;
                    Ok(Box::new(TokioIo::new(io)) as Box<dyn orch_core::client::Duplex>)
                };
                Ok::<_, Infallible>(this.answer(request, Some(Box::pin(client))).await)
            }
        });
        let server = http1::Builder::new()
            .serve_connection(TokioIo::new(far), service)
            .with_upgrades();
        spawner.spawn("in-process-server", Box::pin(async move { drop(server.await) }));
        let (parts, _) = request.into_parts();
        let mut request = Request::from_parts(parts, Empty::<Bytes>::new());
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .parse()?;
        *request.uri_mut() = path;
        *request.version_mut() = Version::HTTP_11;
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert(HeaderValue::from_static("in-process"));
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        spawner.spawn(
            "in-process-client",
            Box::pin(async move { drop(driver.with_upgrades().await) }),
        );
        Ok(sender.send_request(request).await?)
    }
}

impl std::fmt::Debug for KubeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KubeService({})", self.user.username)
    }
}

impl<B> tower::Service<Request<B>> for KubeService
where
    B: http_body::Body + Unpin + Send + 'static,
    B::Data: Buf + Send,
    B::Error: std::fmt::Display + Send,
{
    type Response = Response<KubeBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if is_upgrade(request.headers()) {
                return Ok(this
                    .upgrade(request)
                    .await?
                    .map(|b| b.map_err(BoxError::from).boxed_unsync()));
            }
            Ok(this
                .answer(request, None)
                .await
                .map(|b| b.map_err(BoxError::from).boxed_unsync()))
        })
    }
}
