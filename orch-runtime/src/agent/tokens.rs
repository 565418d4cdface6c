//! Service account tokens of pods, by `TokenRequest`, renewed before they run out (KEP-1205).

use super::{
    backoff::{elapsed, plus},
    spec,
};
use crate::volume::{TokenNeed, tokens};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use orch_core::{Api, Env, Status, client::ApiClient};
use parking_lot::Mutex;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[derive(Clone)]
struct Held {
    token: String,
    renew_at: Timestamp,
}

/// The tokens that pods of this node hold.
pub(crate) struct Tokens {
    env: Env,
    client: Arc<dyn ApiClient>,
    held: Mutex<BTreeMap<(String, TokenNeed), Held>>,
}

impl Tokens {
    pub(crate) fn new(env: Env, client: Arc<dyn ApiClient>) -> Self {
        Self {
            env,
            client,
            held: Mutex::default(),
        }
    }

    /// All tokens that the pod's volumes hold, and when the first is to be renewed.
    ///
    /// # Errors
    /// What the API server says. A token that is still good is used even if its renewal fails.
    pub(crate) async fn of(
        &self,
        pod: &Pod,
    ) -> Result<(BTreeMap<TokenNeed, String>, Option<Timestamp>), Status> {
        let (mut out, mut first) = (BTreeMap::new(), None::<Timestamp>);
        for need in tokens(pod) {
            let held = self.get(pod, &need).await?;
            first = Some(first.map_or(held.renew_at, |f| f.min(held.renew_at)));
            out.insert(need, held.token);
        }
        Ok((out, first))
    }

    async fn get(&self, pod: &Pod, need: &TokenNeed) -> Result<Held, Status> {
        let key = (spec::uid(pod).to_owned(), need.clone());
        let held = self.held.lock().get(&key).cloned();
        let now = self.env.clock.now();
        if let Some(held) = held.as_ref().filter(|h| now < h.renew_at) {
            return Ok(held.clone());
        }
        match self.request(pod, need, now).await {
            Ok(fresh) => {
                self.held.lock().insert(key, fresh.clone());
                Ok(fresh)
            }
            // A fifth of its life is left: try again soon.
            Err(error) => match held {
                Some(old) => {
                    tracing::warn!(pod = %spec::describe(pod), %error, "cannot renew a service account token");
                    let held = Held {
                        renew_at: plus(now, Duration::from_secs(30)),
                        ..old
                    };
                    self.held.lock().insert(key, held.clone());
                    Ok(held)
                }
                None => Err(error),
            },
        }
    }

    async fn request(&self, pod: &Pod, need: &TokenNeed, now: Timestamp) -> Result<Held, Status> {
        let account = spec::spec(pod)
            .service_account_name
            .as_deref()
            .filter(|n| !n.is_empty())
            .unwrap_or("default");
        let audiences: Vec<&str> = Some(need.audience.as_str())
            .filter(|a| !a.is_empty())
            .into_iter()
            .collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": need.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": spec::name(pod), "uid": spec::uid(pod)},
            },
        });
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), spec::namespace(pod));
        let answer = accounts.create_subresource(account, "token", body).await?;
        let status = &answer.value()["status"];
        let token = status["token"]
            .as_str()
            .ok_or_else(|| Status::internal("TokenRequest without a token"))?;
        let expires = status["expirationTimestamp"]
            .as_str()
            .and_then(|t| t.parse::<Timestamp>().ok());
        let asked = Duration::from_secs(u64::try_from(need.expiration_seconds).unwrap_or(3600));
        let life = expires.map_or(asked, |e| elapsed(now, e));
        // At four fifths of its life, after a day at the latest, and not for all pods at once.
        let jitter = Duration::from_secs_f64(self.env.rng.unit() * 10.0);
        let age = (life * 4 / 5)
            .min(Duration::from_secs(24 * 3600))
            .saturating_sub(jitter);
        Ok(Held {
            token: token.to_owned(),
            renew_at: plus(now, age.max(Duration::from_secs(1))),
        })
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.held.lock().retain(|(owner, _), _| owner != uid);
    }
}
