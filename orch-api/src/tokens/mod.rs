//! Service-account tokens: made by `serviceaccounts/token`, verified as bearer tokens and by `TokenReview`, with the
//! keys published under `/openid/v1/jwks`.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>
//! and KEP-1205. A token is a JWT signed with ES256; it stops working when its time is over or the object that it is
//! bound to is gone.

mod claims;
mod jwt;
mod keys;
mod request;
mod review;
mod verify;

pub(crate) use verify::VerifiedToken;

pub use claims::{Claims, Private, Reference};
pub use jwt::{JwtError, SigningKey};
pub use keys::OpenIdKeys;
pub use request::TokenRequests;
pub use review::TokenReviews;

use async_trait::async_trait;
use orch_core::{Env, Object, Status};
use std::sync::Arc;

/// Reads the objects that tokens are bound to.
#[async_trait]
pub trait ObjectLookup: Send + Sync {
    /// The latest state of an object; `namespace` is empty for cluster-scoped ones.
    ///
    /// # Errors
    /// `NotFound`, and whatever keeps the server from answering.
    async fn lookup(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Object>, Status>;
}

/// Issues and verifies the tokens of one cluster.
#[derive(Debug)]
pub struct TokenAuthority {
    env: Env,
    key: SigningKey,
    issuer: String,
    audiences: Vec<String>,
    verified: verify::Cache,
}

/// Upstream's default issuer for a cluster whose domain is `cluster.local`.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

impl TokenAuthority {
    /// With the PEM of the signing key, the issuer URL, and the audiences that the API server itself answers to
    /// (empty: the issuer).
    ///
    /// # Errors
    /// Says what is wrong with the key.
    pub fn new(env: Env, key_pem: &str, issuer: &str, audiences: Vec<String>) -> Result<Self, String> {
        let audiences = if audiences.is_empty() {
            vec![issuer.to_owned()]
        } else {
            audiences
        };
        Ok(Self {
            env,
            key: SigningKey::from_pem(key_pem)?,
            issuer: issuer.to_owned(),
            audiences,
            verified: verify::Cache::default(),
        })
    }

    /// The issuer URL.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences of the API server.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }
}

#[cfg(test)]
mod testing {
    use super::*;
    use orch_core::GroupResource;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    /// Objects by resource, namespace and name.
    #[derive(Default)]
    pub(super) struct Objects(pub Mutex<BTreeMap<(String, String, String), Arc<Object>>>);

    impl Objects {
        pub(super) fn put(&self, resource: &str, namespace: &str, name: &str, uid: &str, rest: Value) {
            let mut value = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
            if let (Some(to), Some(from)) = (value.as_object_mut(), rest.as_object()) {
                to.extend(from.clone());
            }
            let key = (resource.into(), namespace.into(), name.into());
            self.0.lock().insert(key, Arc::new(Object::from_value(value)));
        }
        pub(super) fn remove(&self, resource: &str, namespace: &str, name: &str) {
            self.0
                .lock()
                .remove(&(resource.into(), namespace.into(), name.into()));
        }
    }

    #[async_trait]
    impl ObjectLookup for Objects {
        async fn lookup(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
            self.0
                .lock()
                .get(&(resource.into(), namespace.into(), name.into()))
                .cloned()
                .ok_or_else(|| {
                    Status::not_found(
                        &GroupResource {
                            group: String::new(),
                            resource: resource.into(),
                        },
                        name,
                    )
                })
        }
    }
}
