//! Who calls, and whether he may.

use super::route::Access;
use async_trait::async_trait;
use jiff::Timestamp;
use orch_core::{
    Env,
    client::{ApiClient, ApiRequest},
};
use parking_lot::Mutex;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// A client, as its certificate names it: common name and organizations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Peer {
    /// User name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl Peer {
    /// The subject of a verified certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
        Some(Self {
            name: subject.iter_common_name().next().and_then(text)?,
            groups: subject.iter_organization().filter_map(text).collect(),
        })
    }
}

/// Decides on requests to the agent's API.
#[async_trait]
pub trait NodeAuthorizer: Send + Sync + 'static {
    /// Whether `peer` may do this on the node of that name.
    async fn allows(&self, peer: &Peer, access: &Access, node: &str) -> bool;
}

/// Allows a few clients everything, by the names and groups of their certificates.
#[derive(Debug, Clone, Default)]
pub struct ByCertificate {
    /// User names.
    pub names: BTreeSet<String>,
    /// Groups.
    pub groups: BTreeSet<String>,
}

impl ByCertificate {
    /// Allows the API server's client `kube-apiserver-kubelet-client` and nobody else.
    #[must_use]
    pub fn api_server() -> Self {
        Self {
            names: ["kube-apiserver-kubelet-client".to_owned()].into(),
            groups: BTreeSet::new(),
        }
    }
}

#[async_trait]
impl NodeAuthorizer for ByCertificate {
    async fn allows(&self, peer: &Peer, _: &Access, _: &str) -> bool {
        self.names.contains(&peer.name) || peer.groups.iter().any(|g| self.groups.contains(g))
    }
}

type Asked = (Peer, &'static str, &'static str);

/// Asks the API server (`SubjectAccessReview`), and remembers the answer for a while.
pub struct ByReview {
    env: Env,
    client: Arc<dyn ApiClient>,
    answers: Mutex<BTreeMap<Asked, (Timestamp, bool)>>,
}

impl std::fmt::Debug for ByReview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByReview")
    }
}

/// How long an answer is good for: yes, no.
const ANSWER_LIFE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(30));

impl ByReview {
    /// Asks through `client`.
    #[must_use]
    pub fn new(env: Env, client: Arc<dyn ApiClient>) -> Self {
        Self {
            env,
            client,
            answers: Mutex::default(),
        }
    }

    async fn review(&self, peer: &Peer, verb: &str, subresource: &str, node: &str) -> Option<bool> {
        let mut groups = peer.groups.clone();
        groups.push("system:authenticated".into());
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": peer.name,
                "groups": groups,
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node,
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = self
            .client
            .call(ApiRequest::new(http::Method::POST, path).value(body))
            .await;
        match answer.and_then(orch_core::client::ApiResponse::into_object) {
            Ok(review) => Some(review.value()["status"]["allowed"] == true),
            Err(error) => {
                tracing::warn!(%error, "cannot ask whether a request to the node is allowed");
                None
            }
        }
    }
}

#[async_trait]
impl NodeAuthorizer for ByReview {
    async fn allows(&self, peer: &Peer, access: &Access, node: &str) -> bool {
        let key = (peer.clone(), access.verb, access.subresource);
        let now = self.env.clock.now();
        let known = self
            .answers
            .lock()
            .get(&key)
            .copied()
            .filter(|(until, _)| now < *until);
        if let Some((_, answer)) = known {
            return answer;
        }
        let mut allowed = self.review(peer, access.verb, access.subresource, node).await;
        if allowed == Some(false) && access.subresource == "pods" {
            // Older roles know only the whole.
            allowed = self.review(peer, access.verb, "proxy", node).await;
        }
        // What can't be asked is not allowed, and not remembered.
        let Some(allowed) = allowed else { return false };
        let life = if allowed { ANSWER_LIFE.0 } else { ANSWER_LIFE.1 };
        let mut answers = self.answers.lock();
        answers.retain(|_, (until, _)| now < *until);
        answers.insert(key, (crate::agent::backoff::plus(now, life), allowed));
        allowed
    }
}

/// TLS for the agent's API: `chain` and `key` serve, clients show a certificate signed by one of `client_roots`.
///
/// # Errors
/// If key, chain and roots do not make a server.
pub fn tls_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: RootCertStore,
) -> Result<Arc<rustls::ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(client_roots), provider.clone()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
