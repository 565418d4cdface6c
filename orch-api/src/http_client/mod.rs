//! [`ApiClient`] over HTTPS: to this project's API server or to upstream's.
//!
//! One HTTP/2 connection carries all calls and watches and is made anew when it breaks; a protocol upgrade gets an
//! HTTP/1.1 connection of its own. Lists and watch events come out as the same shared objects that the in-process
//! transport gives.

mod decode;
mod transport;
mod watch;

pub(crate) use transport::{Transport, send_over, tls_config};

use crate::{
    http::path_and_query,
    kubeconfig::{Kubeconfig, TokenSource},
    pki::read_file,
    server::RequestInfo,
    setup_error::SetupError,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use orch_core::{
    ApiClient, Env, Status,
    client::{ApiRequest, ApiResponse, EventStream, RequestBody, Upgraded},
    clock::Monotonic,
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// A token file is read again this often.
const TOKEN_REFRESH: Duration = Duration::from_secs(10);
/// An answer longer than this is not taken into memory.
const MAX_ANSWER_BYTES: usize = 1 << 30;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client of one API server, as one user. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    transport: Transport,
    token: Option<TokenSource>,
    read_token: Mutex<Option<(Monotonic, HeaderValue)>>,
    user_agent: HeaderValue,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpClient({})", self.shared.transport.authority())
    }
}

impl HttpClient {
    /// A client as a kubeconfig says. Connects on first use.
    ///
    /// # Errors
    /// [`SetupError::Kubeconfig`] for a server that is no https URL or a missing CA, [`SetupError::Crypto`] for keys
    /// and certificates that cannot be used.
    pub fn from_kubeconfig(env: Env, config: &Kubeconfig) -> Result<Self, SetupError> {
        let transport = Transport::from_kubeconfig(&env, config)?;
        Ok(Self {
            shared: Arc::new(Shared {
                env,
                transport,
                token: config.token.clone(),
                read_token: Mutex::default(),
                user_agent: crate::local::user_agent(&config.user),
            }),
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Status> {
        let value = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| Status::unavailable("the bearer token cannot stand in a header"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        match &self.shared.token {
            None => Ok(None),
            Some(TokenSource::Inline(token)) => value(token).map(Some),
            Some(TokenSource::File(path)) => {
                let now = self.shared.env.clock.monotonic();
                if let Some((read, value)) = &*self.shared.read_token.lock()
                    && now.since(*read) < TOKEN_REFRESH
                {
                    return Ok(Some(value.clone()));
                }
                let token = read_file(path).map_err(|e| Status::unavailable(e.to_string()))?;
                let value = value(&token)?;
                *self.shared.read_token.lock() = Some((now, value.clone()));
                Ok(Some(value))
            }
        }
    }

    fn encode(&self, request: ApiRequest) -> Result<Request<Full<Bytes>>, Status> {
        let authority = self.shared.transport.authority();
        let uri = format!(
            "https://{authority}{}",
            path_and_query(&request.path, &request.query)
        );
        let body = match request.body {
            RequestBody::Empty => Bytes::new(),
            RequestBody::Bytes(bytes) => bytes,
            RequestBody::Value(value) => serde_json::to_vec(&value).map_err(Status::internal)?.into(),
        };
        let has_body = !body.is_empty();
        let mut out = Request::new(Full::new(body));
        *out.method_mut() = request.method;
        *out.uri_mut() = uri
            .parse()
            .map_err(|e| Status::bad_request(format!("invalid path: {e}")))?;
        *out.headers_mut() = request.headers;
        let headers = out.headers_mut();
        headers.entry(header::ACCEPT).or_insert(JSON);
        headers
            .entry(header::USER_AGENT)
            .or_insert_with(|| self.shared.user_agent.clone());
        if has_body {
            headers.entry(header::CONTENT_TYPE).or_insert(JSON);
        }
        if let Some(value) = self.authorization()? {
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(out)
    }

    async fn send(&self, request: ApiRequest) -> Result<Response<Incoming>, Status> {
        let response = self.shared.transport.send(self.encode(request)?).await?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        Err(failure(response).await)
    }
}

/// The error that an answer with a code of 400 or more carries.
pub(crate) async fn failure(response: Response<Incoming>) -> Status {
    let code = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let bytes = Limited::new(response.into_body(), 1 << 20)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    decode::status(code, retry_after, &bytes.unwrap_or_default())
}

#[async_trait]
impl ApiClient for HttpClient {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        let streamed = decode::is_streamed(&request.path);
        let resource = RequestInfo::of(&request).resource_request;
        let response = self.send(request).await?;
        let (parts, body) = response.into_parts();
        if streamed {
            return Ok(decode::streamed(parts, body));
        }
        let body = Limited::new(body, MAX_ANSWER_BYTES);
        let bytes = body
            .collect()
            .await
            .map_err(|e| Status::unavailable(format!("the answer broke off: {e}")))?;
        decode::answer(parts, bytes.to_bytes(), resource)
    }

    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status> {
        let response = self.send(request).await?;
        Ok(watch::events(response.into_body()))
    }

    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status> {
        let response = self.shared.transport.send_h1(self.encode(request)?).await?;
        upgraded(response).await
    }
}

/// The stream behind a 101, or the error of any other answer.
pub(crate) async fn upgraded(mut response: Response<Incoming>) -> Result<Upgraded, Status> {
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        if response.status().as_u16() < 400 {
            let code = response.status();
            return Err(Status::unavailable(format!(
                "the server did not upgrade the connection: it answered {code}"
            )));
        }
        return Err(failure(response).await);
    }
    let upgrade = hyper::upgrade::on(&mut response);
    let headers = std::mem::take(response.headers_mut());
    let io = upgrade
        .await
        .map_err(|e| Status::unavailable(format!("the upgraded connection broke off: {e}")))?;
    Ok(Upgraded {
        headers,
        io: Box::new(TokioIo::new(io)),
    })
}
