//! Bearer tokens of every sort that the server accepts.

use super::bootstrap;
use crate::{
    server::ApiServer,
    tokens::{ObjectLookup, TokenAuthority, VerifiedToken},
};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use orch_core::{Env, GroupResource, Object, Status, UserInfo, client::ApiRequest};
use std::sync::{Arc, LazyLock};

/// Service-account tokens and bootstrap tokens.
#[derive(Debug)]
pub struct BearerTokens {
    env: Env,
    service_accounts: Arc<TokenAuthority>,
}

impl BearerTokens {
    /// Accepts the service-account tokens of `authority` and the bootstrap tokens kept in `kube-system`.
    #[must_use]
    pub fn new(env: Env, authority: Arc<TokenAuthority>) -> Arc<Self> {
        Arc::new(Self {
            env,
            service_accounts: authority,
        })
    }

    /// Who `token` stands for, if it is good for one of `audiences` (empty: the API server's own).
    pub(crate) async fn authenticate(
        &self,
        objects: &dyn ObjectLookup,
        token: &str,
        audiences: &[String],
    ) -> Result<VerifiedToken, String> {
        if self.service_accounts.claims_to_issue(token) {
            return self
                .service_accounts
                .authenticate(objects, token, audiences)
                .await;
        }
        let ours = self.service_accounts.audiences();
        if let Some(user) = bootstrap::authenticate(objects, token, self.env.clock.now()).await {
            let wanted = if audiences.is_empty() { ours } else { audiences };
            // A bootstrap token is for the API server alone.
            let audiences: Vec<String> = ours.iter().filter(|a| wanted.contains(a)).cloned().collect();
            if !audiences.is_empty() {
                return Ok(VerifiedToken {
                    user: Arc::new(user),
                    audiences,
                });
            }
        }
        Err("invalid bearer token".into())
    }
}

/// A token sent as a WebSocket subprotocol, because browsers cannot set headers; taken out of the list.
pub(super) fn from_websocket_protocols(headers: &mut HeaderMap) -> Option<String> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let listed: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|p| p.trim().to_owned())
        .collect();
    let encoded = listed.iter().find_map(|p| p.strip_prefix(PREFIX))?;
    let token = BASE64_URL_SAFE_NO_PAD
        .decode(encoded)
        .ok()
        .and_then(|b| String::from_utf8(b).ok())?;
    let rest: Vec<&str> = listed
        .iter()
        .map(String::as_str)
        .filter(|p| !p.starts_with(PREFIX))
        .collect();
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    // The token must not be the only protocol offered: the server may not choose it.
    if rest.is_empty() {
        return None;
    }
    if let Ok(value) = HeaderValue::from_str(&rest.join(", ")) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    Some(token)
}

static INTERNAL: LazyLock<UserInfo> =
    LazyLock::new(|| UserInfo::new("system:apiserver", &["system:masters"]));

#[async_trait]
impl ObjectLookup for ApiServer {
    async fn lookup(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
        // A name of strange form cannot exist, and must not become another path.
        let plain = |s: &str| !s.contains(['/', '%', '?', '#']) && !matches!(s, "." | "..");
        if name.is_empty() || !plain(name) || !plain(namespace) {
            let resource = GroupResource {
                group: String::new(),
                resource: resource.into(),
            };
            return Err(Status::not_found(&resource, name));
        }
        let path = if namespace.is_empty() {
            format!("/api/v1/{resource}/{name}")
        } else {
            format!("/api/v1/namespaces/{namespace}/{resource}/{name}")
        };
        self.call(&INTERNAL, ApiRequest::get(path)).await?.into_object()
    }
}
