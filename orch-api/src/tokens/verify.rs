//! Verifying a service-account token: signature, times, issuer, audience, and that what it is bound to still exists.

use super::{Claims, ObjectLookup, Reference, TokenAuthority, jwt};
use jiff::Timestamp;
use orch_core::{Object, UserInfo, clock::Monotonic};
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a verified token is believed without looking again, as upstream.
const CACHE_FOR: Duration = Duration::from_secs(10);
const CACHE_ENTRIES: usize = 4096;
/// An object that is being deleted keeps its tokens for this long.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// Recently verified tokens, by digest. A full cache is emptied: simple, and rare.
#[derive(Default)]
pub(super) struct Cache(Mutex<BTreeMap<[u8; 32], Verified>>);

/// Until when it is believed, and what was found.
type Verified = (Monotonic, Arc<Claims>, Arc<UserInfo>);

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

fn digest(token: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Who a token stands for, and for which of the asked audiences.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedToken {
    pub(crate) user: Arc<UserInfo>,
    pub(crate) audiences: Vec<String>,
}

impl TokenAuthority {
    /// Whether the token claims to be from this issuer; other authenticators need not be asked then.
    pub(crate) fn claims_to_issue(&self, token: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Issuer {
            #[serde(default)]
            iss: String,
        }
        jwt::peek::<Issuer>(token).is_some_and(|c| c.iss == self.issuer)
    }

    /// Who `token` stands for, if it is valid now for one of `audiences` (empty: the API server's).
    ///
    /// # Errors
    /// Why it is not accepted, in upstream's words; the client of an ordinary request is told only `Unauthorized`.
    pub(crate) async fn authenticate(
        &self,
        objects: &dyn ObjectLookup,
        token: &str,
        audiences: &[String],
    ) -> Result<VerifiedToken, String> {
        let audiences = if audiences.is_empty() {
            &self.audiences
        } else {
            audiences
        };
        let (now, wall) = (self.env.clock.monotonic(), self.env.clock.now());
        let key = digest(token);
        let cached = self
            .verified
            .0
            .lock()
            .get(&key)
            .filter(|(until, ..)| *until > now)
            .cloned();
        let (claims, user) = match cached {
            Some((_, claims, user)) => {
                claims.check_times(wall)?;
                (claims, user)
            }
            None => {
                let claims: Claims = self
                    .key
                    .verify(token)
                    .map_err(|_| "invalid bearer token".to_owned())?;
                if claims.iss != self.issuer {
                    return Err("invalid bearer token".into());
                }
                claims.check_times(wall)?;
                let user = Arc::new(check_objects(&claims, objects, wall).await?);
                let claims = Arc::new(claims);
                let mut cache = self.verified.0.lock();
                if cache.len() >= CACHE_ENTRIES {
                    cache.clear();
                }
                cache.insert(key, (now + CACHE_FOR, claims.clone(), user.clone()));
                (claims, user)
            }
        };
        let matching: Vec<String> = claims
            .aud
            .iter()
            .filter(|a| audiences.contains(a))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.aud
            ));
        }
        Ok(VerifiedToken {
            user,
            audiences: matching,
        })
    }
}

/// Checks that what the token names still exists under the same UID, and says who it is.
async fn check_objects(
    claims: &Claims,
    objects: &dyn ObjectLookup,
    now: Timestamp,
) -> Result<UserInfo, String> {
    let k = &claims.kubernetes;
    let (namespace, name) = (k.namespace.as_str(), k.serviceaccount.name.as_str());
    if claims.sub != format!("system:serviceaccount:{namespace}:{name}")
        || namespace.is_empty()
        || name.is_empty()
    {
        return Err("service account token claims could not be validated".into());
    }
    let account = objects
        .lookup("serviceaccounts", namespace, name)
        .await
        .map_err(|e| e.message)?;
    if account.uid() != k.serviceaccount.uid {
        return Err(format!(
            "service account UID ({}) does not match claim ({})",
            account.uid(),
            k.serviceaccount.uid
        ));
    }
    if gone(&account, now) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    if let Some(secret) = &k.secret {
        check_bound(objects, "secrets", "secret", namespace, secret, now).await?;
    }
    if let Some(pod) = &k.pod {
        check_bound(objects, "pods", "pod", namespace, pod, now).await?;
    } else if let Some(node) = &k.node {
        check_bound(objects, "nodes", "node", "", node, now).await?;
    }
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    for (what, reference) in [("node", &k.node), ("pod", &k.pod)] {
        if let Some(reference) = reference {
            add(&format!("{what}-name"), &reference.name);
            add(&format!("{what}-uid"), &reference.uid);
        }
    }
    Ok(UserInfo {
        username: claims.sub.clone(),
        uid: k.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ],
        extra,
    })
}

async fn check_bound(
    objects: &dyn ObjectLookup,
    resource: &str,
    what: &str,
    namespace: &str,
    reference: &Reference,
    now: Timestamp,
) -> Result<(), String> {
    const INVALIDATED: &str = "service account token has been invalidated";
    let object = objects
        .lookup(resource, namespace, &reference.name)
        .await
        .map_err(|_| INVALIDATED)?;
    if object.uid() != reference.uid {
        return Err(format!(
            "{what} UID ({}) does not match service account {what} ref claim ({})",
            object.uid(),
            reference.uid
        ));
    }
    if gone(&object, now) {
        Err(INVALIDATED.into())
    } else {
        Ok(())
    }
}

fn gone(object: &Object, now: Timestamp) -> bool {
    object
        .value()
        .pointer("/metadata/deletionTimestamp")
        .and_then(Value::as_str)
        .and_then(|t| t.parse::<Timestamp>().ok())
        .is_some_and(|t| t.as_second() < now.as_second() - DELETION_LEEWAY_SECONDS)
}
