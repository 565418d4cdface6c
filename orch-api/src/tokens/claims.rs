//! What a service-account token says: the registered claims and Kubernetes' own.

use jiff::Timestamp;
use orch_core::Object;
use serde::{Deserialize, Serialize};

/// A named object and the identity that it had.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Reference {
    pub(super) fn of(object: &Object) -> Self {
        Self {
            name: object.name().into(),
            uid: object.uid().into(),
        }
    }
}

/// The `kubernetes.io` claim.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Private {
    /// Namespace of the service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Node that the token is bound to, or that its pod is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// Pod that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// Secret that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The service account.
    pub serviceaccount: Reference,
    /// When the client should have refreshed the token (seconds since the epoch).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// One audience or several; both forms are legal in a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMany::deserialize(d)? {
        OneOrMany::One(a) => vec![a],
        OneOrMany::Many(a) => a,
    })
}

/// All claims of a service-account token. Times are seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claims {
    /// For whom.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Until when.
    pub exp: i64,
    /// Made when.
    pub iat: i64,
    /// By whom.
    pub iss: String,
    /// Identifier of the token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Kubernetes' part.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    /// From when.
    pub nbf: i64,
    /// User name.
    pub sub: String,
}

/// Clocks of issuer and verifier may differ by this much.
const LEEWAY_SECONDS: i64 = 60;

impl Claims {
    /// Whether the token is valid at `now`, with a minute's leeway.
    ///
    /// # Errors
    /// Upstream's text of why not.
    pub fn check_times(&self, now: Timestamp) -> Result<(), &'static str> {
        let now = now.as_second();
        if now > self.exp.saturating_add(LEEWAY_SECONDS) {
            Err("service account token has expired")
        } else if now < self.nbf.saturating_sub(LEEWAY_SECONDS) {
            Err("service account token is not valid yet")
        } else if now < self.iat.saturating_sub(LEEWAY_SECONDS) {
            Err("service account token is issued in the future")
        } else {
            Ok(())
        }
    }
}
