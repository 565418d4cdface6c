//! Streaming and proxying subresources: logs, exec, attach, port-forward, and the proxies to pods, nodes and services.
//!
//! The server finds out where to go, opens a connection to the kubelet (with its client certificate, verifying the
//! kubelet's serving certificate with the cluster CA) or to the pod, and passes bytes on. An upgrade is passed through
//! as it is: WebSocket or SPDY is a matter between the client and the kubelet.

mod dial;
mod location;
mod proxy;

use crate::{
    pki::KeyAndCert,
    server::{ConnectContext, ConnectHandler},
    setup_error::SetupError,
    tokens::ObjectLookup,
};
use async_trait::async_trait;
use dial::{Dialer, Target};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, Method, header};
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::Incoming;
use orch_core::{
    Env, GroupResource, Object, Status, StatusReason,
    client::{ApiRequest, ApiResponse, ResponseBody, Upgraded},
    status::StatusDetails,
};
use serde_json::Value;
use std::sync::Arc;

/// How much of an error's text is passed on.
const MAX_ERROR_BYTES: usize = 2048;

/// Handler of all streaming and proxying subresources.
pub struct Kubelet {
    dialer: Dialer,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kubelet")
    }
}

impl Kubelet {
    /// `client` is the certificate shown to kubelets, `ca_pem` what theirs must chain to.
    ///
    /// # Errors
    /// [`SetupError::Crypto`] if either cannot be used.
    pub fn new(env: Env, ca_pem: &str, client: &KeyAndCert) -> Result<Arc<Self>, SetupError> {
        Ok(Arc::new(Self {
            dialer: Dialer::new(env, ca_pem, client)?,
        }))
    }

    /// The group, resource and subresource of each endpoint that this serves.
    #[must_use]
    pub fn endpoints() -> [(&'static str, &'static str, &'static str); 7] {
        [
            ("", "pods", "log"),
            ("", "pods", "exec"),
            ("", "pods", "attach"),
            ("", "pods", "portforward"),
            ("", "pods", "proxy"),
            ("", "nodes", "proxy"),
            ("", "services", "proxy"),
        ]
    }

    async fn kubelet_of(&self, objects: &dyn ObjectLookup, node: &str) -> Result<Target, Status> {
        let node = objects.lookup("nodes", "", node).await?;
        let (host, port) = location::kubelet_address(&node)?;
        Ok(Target::kubelet(host, port))
    }

    async fn pod(&self, context: ConnectContext<'_>) -> Result<Arc<Object>, Status> {
        context
            .server
            .lookup("pods", &context.info.namespace, &context.info.name)
            .await
    }

    async fn log(&self, context: ConnectContext<'_>, request: &ApiRequest) -> Result<ApiResponse, Status> {
        let name = &context.info.name;
        let parameters = location::log_parameters(request, name)?;
        let pod = self.pod(context).await?;
        let container = location::container(&pod, request.query_value("container").unwrap_or_default())?;
        let content_type = String::from("text/plain");
        let node = node_name(&pod);
        if node.is_empty() {
            let body = ResponseBody::Raw {
                content_type,
                bytes: bytes::Bytes::new(),
            };
            return Ok(ApiResponse {
                code: 200,
                body,
                warnings: Vec::new(),
            });
        }
        let target = self.kubelet_of(context.server, node).await?;
        let path = format!("/containerLogs/{}/{}/{container}", pod.namespace(), pod.name());
        let sent = ApiRequest {
            query: parameters,
            ..ApiRequest::get(path)
        };
        let response = self.dialer.send(&target, sent).await?;
        if !response.status().is_success() {
            return Err(refused(response, "pods/log", name).await);
        }
        let body = ResponseBody::Stream {
            content_type,
            chunks: chunks(response.into_body()),
        };
        Ok(ApiResponse {
            code: 200,
            body,
            warnings: Vec::new(),
        })
    }

    /// What to ask the kubelet for exec, attach and port-forward.
    async fn stream(
        &self,
        context: ConnectContext<'_>,
        request: &ApiRequest,
    ) -> Result<(Target, ApiRequest), Status> {
        let pod = self.pod(context).await?;
        let sub = context.info.subresource.as_str();
        let container = match sub {
            "portforward" => "",
            _ => location::container(&pod, request.query_value("container").unwrap_or_default())?,
        };
        let node = node_name(&pod);
        if node.is_empty() {
            return Err(Status::bad_request(format!(
                "pod {} does not have a host assigned",
                pod.name()
            )));
        }
        let target = self.kubelet_of(context.server, node).await?;
        let (namespace, name) = (pod.namespace(), pod.name());
        let (path, query) = match sub {
            "portforward" => (
                format!("/portForward/{namespace}/{name}"),
                location::port_parameters(request),
            ),
            _ => (
                format!("/{sub}/{namespace}/{name}/{container}"),
                location::stream_parameters(request),
            ),
        };
        let headers = passed_on(&request.headers);
        // WebSocket upgrades are GETs, SPDY ones may be either; the kubelet takes both.
        let sent = ApiRequest {
            query,
            headers,
            ..ApiRequest::new(request.method.clone(), path)
        };
        Ok((target, sent))
    }
}

fn node_name(pod: &Object) -> &str {
    pod.value()
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[async_trait]
impl ConnectHandler for Kubelet {
    async fn call(&self, context: ConnectContext<'_>, request: ApiRequest) -> Result<ApiResponse, Status> {
        match context.info.subresource.as_str() {
            "log" if request.method == Method::GET => self.log(context, &request).await,
            "log" => Err(Status::new(
                StatusReason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            )),
            "proxy" => {
                let (target, sent) = self.proxied(context, request).await?;
                let response = self.dialer.send(&target, sent).await?;
                let (parts, body) = response.into_parts();
                let content_type = parts
                    .headers
                    .get(header::CONTENT_TYPE)
                    .and_then(|v| v.to_str().ok());
                let body = ResponseBody::Stream {
                    content_type: content_type.unwrap_or_default().to_owned(),
                    chunks: chunks(body),
                };
                Ok(ApiResponse {
                    code: parts.status.as_u16(),
                    body,
                    warnings: Vec::new(),
                })
            }
            _ => Err(Status::bad_request("Upgrade request required")),
        }
    }

    async fn connect(&self, context: ConnectContext<'_>, request: ApiRequest) -> Result<Upgraded, Status> {
        let (target, sent) = match context.info.subresource.as_str() {
            "exec" | "attach" | "portforward" => self.stream(context, &request).await?,
            "proxy" => self.proxied(context, request).await?,
            _ => return Err(Status::bad_request("this resource cannot be upgraded")),
        };
        let response = self.dialer.send(&target, sent).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS && !response.status().is_success() {
            let resource = format!("{}/{}", context.info.resource, context.info.subresource);
            return Err(not_upgraded(response, &resource, &context.info.name).await);
        }
        crate::http_client::upgraded(response).await
    }
}

/// Headers of a request that mean something behind the server: not those of this connection, nor identities.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let upgrade = headers.contains_key(header::UPGRADE);
    let hop = |name: &HeaderName| {
        matches!(
            *name,
            header::HOST
                | header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
                | header::TE
                | header::TRAILER
                | header::AUTHORIZATION
                | header::PROXY_AUTHORIZATION
                | header::PROXY_AUTHENTICATE
        ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "audit-id")
            || name.as_str().starts_with("impersonate-")
            || (!upgrade && *name == header::CONNECTION)
    };
    headers
        .iter()
        .filter(|(name, _)| !hop(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn chunks(body: Incoming) -> futures::stream::BoxStream<'static, Result<bytes::Bytes, Status>> {
    BodyStream::new(body)
        .filter_map(|frame| async {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(e) => Some(Err(Status::unavailable(format!("the stream broke off: {e}")))),
            }
        })
        .boxed()
}

/// The text of a refusal.
async fn told(response: http::Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), 1 << 20).collect().await;
    let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_ERROR_BYTES)])
        .trim_end_matches('\n')
        .to_owned()
}

/// A kubelet's refusal as upstream tells it.
async fn refused(response: http::Response<Incoming>, resource: &str, name: &str) -> Status {
    let code = response.status().as_u16();
    let text = told(response).await;
    refusal(code, text, resource, name)
}

/// A refused upgrade. Upstream passes the kubelet's answer on as it is, so its words (such as
/// `container not found ("web")`) reach the client.
async fn not_upgraded(response: http::Response<Incoming>, resource: &str, name: &str) -> Status {
    let code = response.status().as_u16();
    let text = told(response).await;
    let mut status = refusal(code, text.clone(), resource, name);
    if !text.is_empty() {
        status.message = text;
    }
    status
}

fn refusal(code: u16, text: String, resource: &str, name: &str) -> Status {
    let (reason, says) = match code {
        400 => return Status::bad_request(text),
        500 => return Status::internal(text),
        401 => (
            StatusReason::Unauthorized,
            "the server has asked for the client to provide credentials",
        ),
        403 => (
            StatusReason::Forbidden,
            "the server does not allow access to the requested resource",
        ),
        404 => (
            StatusReason::NotFound,
            "the server could not find the requested resource",
        ),
        405 => (
            StatusReason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        ),
        429 => (
            StatusReason::TooManyRequests,
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => (
            StatusReason::ServiceUnavailable,
            "the server is currently unable to handle the request",
        ),
        504 => (
            StatusReason::Timeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        _ => (
            StatusReason::Unknown,
            "the server responded with an unexpected status code",
        ),
    };
    let about = GroupResource {
        group: String::new(),
        resource: resource.into(),
    };
    let mut status = Status::new(reason, format!("{says} ( {about} {name})")).with_details(StatusDetails {
        name: name.into(),
        kind: resource.into(),
        ..StatusDetails::default()
    });
    status.code = code;
    status
}
