//! One authenticated request: routed, bounded in time, isolated from panics, encoded.

use super::{
    backend::Backend,
    body::Body,
    decode::{BODY_LIMIT, PROXY_BODY_LIMIT},
    encode,
    metrics::Metrics,
    negotiate::{Encoding, negotiate},
};
use crate::{protobuf, server::RequestInfo};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use orch_core::{
    Env, Status, StatusReason, UserInfo,
    client::{ApiRequest, RequestBody, ResponseBody, Upgraded},
    spawn::Shutdown,
};
use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// Requests that are not long-running end after this long, as upstream.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything between authentication and the bytes of the answer. Used by the HTTPS server and by the in-process
/// `tower` service alike.
pub struct Dispatch {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) env: Env,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    tags: encode::EntityTags,
}

/// Gives the client's side of an upgraded connection, once the 101 was sent.
pub(crate) type UpgradedClient = BoxFuture<'static, Result<Box<dyn orch_core::client::Duplex>, String>>;

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dispatch")
    }
}

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Call,
    Watch,
    Connect,
}

/// Whether the client wants to speak another protocol. HTTP/2 over plain text, which some clients offer with every
/// request, is none that counts.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case("upgrade"))
}

fn proxied(info: &RequestInfo) -> bool {
    info.verb == "proxy" || info.subresource == "proxy"
}

/// Whether the answer may take any time.
fn long_running(info: &RequestInfo) -> bool {
    proxied(info)
        || matches!(info.verb.as_str(), "watch")
        || matches!(
            info.subresource.as_str(),
            "attach" | "exec" | "log" | "portforward"
        )
}

/// Longest body that is read for the request.
pub(crate) fn body_limit(info: &RequestInfo) -> usize {
    if proxied(info) {
        PROXY_BODY_LIMIT
    } else {
        BODY_LIMIT
    }
}

/// Turns a protobuf body into a parsed one, so that everybody behind sees only JSON's data model.
fn take_protobuf(info: &RequestInfo, request: &mut ApiRequest) -> Result<(), Status> {
    let RequestBody::Bytes(bytes) = &request.body else {
        return Ok(());
    };
    let media_type = request
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if proxied(info) || media_type.split(';').next().map(str::trim) != Some(protobuf::MEDIA_TYPE) {
        return Ok(());
    }
    request.body = RequestBody::Value(protobuf::decode(bytes)?);
    request
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(())
}

impl Dispatch {
    /// Requests go to `backend`; watches end when `shutdown` is given.
    pub fn new(backend: Arc<dyn Backend>, env: Env, metrics: Arc<Metrics>, shutdown: Shutdown) -> Self {
        Self {
            backend,
            env,
            metrics,
            shutdown,
            tags: encode::EntityTags::default(),
        }
    }

    /// Answers `request` of `user`; every failure is an answer too. `client` is there if the connection can be
    /// upgraded.
    pub(crate) async fn answer(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        mut request: ApiRequest,
        client: Option<UpgradedClient>,
    ) -> Response<Body> {
        if let Err(status) = take_protobuf(info, &mut request) {
            return encode::error(&status);
        }
        let route = match () {
            () if is_upgrade(&request.headers) => Route::Connect,
            () if info.verb == "watch" && info.resource_request => Route::Watch,
            () => Route::Call,
        };
        let work = async {
            match route {
                Route::Connect => self.connect(user, request, client).await,
                Route::Watch => self.watch(user, request).await,
                Route::Call => self.call(user, info, request).await,
            }
        };
        let isolated = isolate(work);
        let result = if long_running(info) || route == Route::Connect {
            isolated.await
        } else {
            tokio::select! {
                biased;
                result = isolated => result,
                () = self.env.clock.sleep(REQUEST_TIMEOUT) => Err(Status::new(
                    StatusReason::Timeout,
                    "Timeout: request did not complete within the allotted timeout",
                )),
            }
        };
        result.unwrap_or_else(|status| encode::error(&status))
    }

    async fn call(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        request: ApiRequest,
    ) -> Result<Response<Body>, Status> {
        // What pods and nodes answer is passed on as it is, whatever it is.
        let foreign = proxied(info) || info.subresource == "log" || !info.resource_request;
        let encoding = if foreign {
            Encoding::Json
        } else {
            negotiate(&request.headers)?
        };
        let is_get = request.method == Method::GET;
        let tagged = is_get
            && ["/api", "/apis", "/openapi/"]
                .iter()
                .any(|p| request.path.starts_with(p));
        let known_tag = request.headers.get(header::IF_NONE_MATCH).cloned();
        let gzip_from = is_get
            .then(|| request.headers.get(header::ACCEPT_ENCODING).cloned())
            .flatten();
        let answer = self.backend.call(user, request).await?;
        let tag = match &answer.body {
            ResponseBody::Raw { bytes, .. } if tagged && !info.resource_request => Some(self.tags.of(bytes)),
            _ => None,
        };
        if tag.is_some() && tag == known_tag {
            return Ok(encode::not_modified(tag));
        }
        let mut headers = HeaderMap::new();
        if let Some(value) = gzip_from {
            headers.insert(header::ACCEPT_ENCODING, value);
        }
        let mut response = encode::response(answer, encoding, &headers, is_get && !proxied(info));
        if let Some(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
            response
                .headers_mut()
                .insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        }
        Ok(response)
    }

    async fn watch(&self, user: &UserInfo, request: ApiRequest) -> Result<Response<Body>, Status> {
        negotiate(&request.headers)?;
        let events = self.backend.watch(user, request).await?;
        let (shutdown, metrics) = (self.shutdown.clone(), self.metrics.clone());
        metrics.watch_begins();
        let open = OpenWatch(metrics);
        let events = events
            .take_until(async move { shutdown.wait().await })
            .map(move |event| {
                let _ = &open;
                event
            });
        Ok(encode::events(events.boxed()))
    }

    async fn connect(
        &self,
        user: &UserInfo,
        request: ApiRequest,
        client: Option<UpgradedClient>,
    ) -> Result<Response<Body>, Status> {
        let Some(client) = client else {
            return Err(Status::bad_request(
                "the connection cannot be upgraded; use HTTP/1.1",
            ));
        };
        let Upgraded { headers, mut io } = self.backend.connect(user, request).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in &headers {
            if !matches!(
                *name,
                header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::DATE
            ) {
                response.headers_mut().append(name, value.clone());
            }
        }
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let shutdown = self.shutdown.clone();
        self.env.spawner.spawn(
            "upgraded-connection",
            Box::pin(async move {
                let mut client = match client.await {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::debug!(%error, "client left before the upgrade");
                        return;
                    }
                };
                tokio::select! {
                    result = tokio::io::copy_bidirectional(&mut client, &mut io) => {
                        if let Err(error) = result {
                            tracing::debug!(%error, "upgraded connection ended");
                        }
                    }
                    () = shutdown.wait() => {}
                }
            }),
        );
        Ok(response)
    }
}

struct OpenWatch(Arc<Metrics>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watch_ends();
    }
}

/// Turns a panic into a 500: one request's bug is not another's.
pub(super) async fn isolate<T>(work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let what = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(%what, "a request handler panicked");
            Err(Status::new(
                StatusReason::InternalError,
                "This request caused apiserver to panic. Look in the logs for details.",
            ))
        }
    }
}
