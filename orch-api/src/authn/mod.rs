//! Authentication: who makes an HTTP request.
//!
//! Asked in this order, the first answer wins: the front proxy's headers, the client certificate, the bearer token.
//! A request without any of them is anonymous, and let through only to the health and version paths; everything else
//! is `401 Unauthorized`, as upstream with anonymous access limited to those paths. A credential that is not accepted
//! is always a 401, even for those paths. In-process callers bring their identity and do not come here.

mod bearer;
mod bootstrap;
mod x509;

pub use bearer::BearerTokens;
pub use x509::{CertificateIdentity, RequestOnly};

use crate::tokens::ObjectLookup;
use http::{HeaderMap, header};
use orch_core::{Status, UserInfo, clock::Clock};
use rustls_pki_types::CertificateDer;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Paths that need no credentials.
const ANONYMOUS_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

static ANONYMOUS: LazyLock<Arc<UserInfo>> = LazyLock::new(|| Arc::new(UserInfo::anonymous()));

/// Authenticates requests of one server.
pub struct Authenticator {
    clock: Arc<dyn Clock>,
    client_ca: x509::Roots,
    front_proxy_ca: Option<x509::Roots>,
    tokens: Arc<BearerTokens>,
    objects: Arc<dyn ObjectLookup>,
}

/// What a TLS connection says about its other end. Made once per connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    user: Option<CertificateIdentity>,
    front_proxy: Option<CertificateIdentity>,
    /// It sent a certificate; if neither of the above is set, nobody vouches for it.
    sent_certificate: bool,
}

impl Authenticator {
    /// Client certificates must chain to `client_ca` (PEM), those of a front proxy to `front_proxy_ca`.
    ///
    /// # Errors
    /// Says which CA does not parse.
    pub fn new(
        clock: Arc<dyn Clock>,
        client_ca: &str,
        front_proxy_ca: Option<&str>,
        tokens: Arc<BearerTokens>,
        objects: Arc<dyn ObjectLookup>,
    ) -> Result<Self, String> {
        Ok(Self {
            clock,
            client_ca: x509::Roots::new(client_ca)?,
            front_proxy_ca: front_proxy_ca.map(x509::Roots::new).transpose()?,
            tokens,
            objects,
        })
    }

    /// Judges the certificates that the other end of a connection sent, leaf first.
    #[must_use]
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let now = self.clock.now();
        Peer {
            user: self.client_ca.verify(chain, now),
            front_proxy: self
                .front_proxy_ca
                .as_ref()
                .and_then(|roots| roots.verify(chain, now)),
            sent_certificate: !chain.is_empty(),
        }
    }

    /// The TLS part: asks clients for a certificate that one of the CAs signed, and leaves judging to [`Self::peer`].
    #[must_use]
    pub fn client_certificate_verifier(&self) -> Arc<RequestOnly> {
        Arc::new(RequestOnly::new(
            [Some(&self.client_ca), self.front_proxy_ca.as_ref()]
                .into_iter()
                .flatten(),
        ))
    }

    /// Who makes the request. Credentials are taken out of `headers`, so that nothing behind can leak them.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub async fn authenticate(
        &self,
        peer: &Peer,
        path: &str,
        headers: &mut HeaderMap,
    ) -> Result<Arc<UserInfo>, Status> {
        let authorization = headers.remove(header::AUTHORIZATION);
        let now = self.clock.now();
        let forwarded = take_forwarded(headers);
        if let (Some(proxy), Some(user)) = (&peer.front_proxy, forwarded)
            && proxy.valid_at(now)
        {
            return Ok(Arc::new(user));
        }
        if let Some(identity) = &peer.user
            && identity.valid_at(now)
        {
            return Ok(identity.user.clone());
        }
        let token = match authorization.as_ref().map(|v| v.to_str()) {
            Some(Ok(value)) => bearer_value(value),
            Some(Err(_)) => return Err(Status::unauthorized()),
            None => None,
        };
        let protocol_token = bearer::from_websocket_protocols(headers);
        if let Some(token) = token.map(ToOwned::to_owned).or(protocol_token) {
            return match self.tokens.authenticate(&*self.objects, &token, &[]).await {
                Ok(verified) => Ok(verified.user),
                Err(why) => {
                    tracing::debug!(%why, "bearer token not accepted");
                    Err(Status::unauthorized())
                }
            };
        }
        if !peer.sent_certificate && ANONYMOUS_PATHS.contains(&path) {
            return Ok(ANONYMOUS.clone());
        }
        Err(Status::unauthorized())
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

fn bearer_value(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The user that a front proxy names. The headers are removed whoever sent them.
fn take_forwarded(headers: &mut HeaderMap) -> Option<UserInfo> {
    const EXTRA: &str = "x-remote-extra-";
    let names: Vec<_> = headers
        .keys()
        .filter(|k| k.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    if names.is_empty() {
        return None;
    }
    let mut user = UserInfo::default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        let values: Vec<String> = headers
            .get_all(&name)
            .iter()
            .filter_map(|v| v.to_str().ok().map(ToOwned::to_owned))
            .collect();
        headers.remove(&name);
        match name.as_str() {
            "x-remote-user" => user.username = values.into_iter().next().unwrap_or_default(),
            "x-remote-uid" => user.uid = values.into_iter().next().unwrap_or_default(),
            "x-remote-group" => user.groups = values,
            key => {
                if let Some(key) = key.strip_prefix(EXTRA) {
                    extra.insert(key.to_owned(), values);
                }
            }
        }
    }
    if user.username.is_empty() {
        return None;
    }
    user.extra = extra;
    if !user.in_group("system:authenticated") {
        user.groups.push("system:authenticated".into());
    }
    Some(user)
}
