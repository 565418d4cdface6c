//! `serviceaccounts/token`: makes a bound token (`authentication.k8s.io/v1` `TokenRequest`).

use super::{Claims, ObjectLookup, Private, Reference, TokenAuthority};
use crate::{
    admission::Operation,
    authz::node_restriction::{self, NodeWrite},
    server::{ConnectContext, CreateHandler},
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use orch_core::{
    GroupResource, Object, Status, StatusReason,
    status::{StatusCause, StatusDetails},
};
use serde_json::{Value, json};
use std::sync::Arc;

const MIN_EXPIRATION_SECONDS: i64 = 600;
const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;
const MAX_EXPIRATION_SECONDS: i64 = 1 << 32;
/// Tokens of projected volumes that old clients never refresh are asked for with exactly this lifetime; they get a
/// year, and a note in the claims when they should have been refreshed (upstream's safe transition).
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// Handler of `serviceaccounts/token`.
#[derive(Debug)]
pub struct TokenRequests(pub Arc<TokenAuthority>);

#[async_trait]
impl CreateHandler for TokenRequests {
    async fn create(&self, context: ConnectContext<'_>, object: Value) -> Result<Value, Status> {
        // A node may ask only for tokens of its own pods, whether or not admission sees this request.
        let write = NodeWrite {
            user: context.user,
            operation: Operation::Create,
            group: "",
            resource: "serviceaccounts",
            subresource: "token",
            namespace: &context.info.namespace,
            name: &context.info.name,
            object: Some(&object),
            old: None,
        };
        node_restriction::check(&write, context.server, &**context.server.authorizer()).await?;
        self.0
            .issue(
                context.server,
                &context.info.namespace,
                &context.info.name,
                object,
            )
            .await
    }
}

struct Bound {
    pod: Option<Arc<Object>>,
    node: Option<Reference>,
    secret: Option<Reference>,
}

impl TokenAuthority {
    /// Answers a `TokenRequest` for the service account `namespace/name`: the request with its defaults and status.
    ///
    /// # Errors
    /// `NotFound` for the account or the bound object, `Invalid`, `BadRequest` and `Conflict` with upstream's texts.
    pub async fn issue(
        &self,
        objects: &dyn ObjectLookup,
        namespace: &str,
        name: &str,
        mut request: Value,
    ) -> Result<Value, Status> {
        let text = |v: &Value, pointer: &str| -> String {
            v.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        for (field, expected, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
            let found = text(&request, &format!("/metadata/{field}"));
            if !found.is_empty() && found != expected {
                let message = format!("must match the service account {what} if specified");
                return Err(invalid(
                    name,
                    &format!("metadata.{field}"),
                    &format!("{found:?}"),
                    &message,
                ));
            }
        }
        let account = objects.lookup("serviceaccounts", namespace, name).await?;
        let asked_uid = text(&request, "/metadata/uid");
        if !asked_uid.is_empty() && asked_uid != account.uid() {
            let resource = GroupResource {
                group: "authentication.k8s.io".into(),
                resource: "TokenRequest".into(),
            };
            let why = format!(
                "the UID in the token request ({asked_uid}) does not match the UID of the service account ({})",
                account.uid()
            );
            return Err(Status::conflict(&resource, name, why));
        }
        let seconds = match request.pointer("/spec/expirationSeconds") {
            None | Some(Value::Null) => DEFAULT_EXPIRATION_SECONDS,
            Some(v) => v
                .as_i64()
                .ok_or_else(|| Status::bad_request("spec.expirationSeconds must be an integer"))?,
        };
        let too = |what| Err(invalid("", "spec.expirationSeconds", &seconds.to_string(), what));
        if seconds < MIN_EXPIRATION_SECONDS {
            return too("may not specify a duration less than 10 minutes");
        }
        if seconds > MAX_EXPIRATION_SECONDS {
            return too("may not specify a duration larger than 2^32 seconds");
        }
        let mut audiences: Vec<String> = request
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .map(|a| a.iter().filter_map(|v| v.as_str().map(Into::into)).collect())
            .unwrap_or_default();
        if audiences.is_empty() {
            audiences.clone_from(&self.audiences);
        }
        let reference = request.pointer("/spec/boundObjectRef").filter(|r| !r.is_null());
        let bound = match reference {
            Some(reference) => bound_object(objects, namespace, name, reference).await?,
            None => Bound {
                pod: None,
                node: None,
                secret: None,
            },
        };
        let now = self.env.clock.now();
        let extended = bound.pod.is_some()
            && seconds == WARN_ONLY_SECONDS
            && audiences.iter().all(|a| self.audiences.contains(a));
        let issued = now.as_second();
        let claims = Claims {
            aud: audiences.clone(),
            exp: issued + if extended { EXTENDED_SECONDS } else { seconds },
            iat: issued,
            iss: self.issuer.clone(),
            jti: self.env.rng.uuid(),
            kubernetes: Private {
                namespace: namespace.into(),
                node: bound.node,
                pod: bound.pod.as_deref().map(Reference::of),
                secret: bound.secret,
                serviceaccount: Reference::of(&account),
                warnafter: extended.then_some(issued + seconds),
            },
            nbf: issued,
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let token = self
            .key
            .sign(&claims)
            .map_err(|e| Status::internal(format!("failed to generate token: {e}")))?;
        let spec = json!({
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": reference.cloned().unwrap_or(Value::Null),
        });
        let end = now
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX);
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["kind"] = "TokenRequest".into();
        if !request["metadata"].is_object() {
            request["metadata"] = json!({});
        }
        request["metadata"]["name"] = name.into();
        request["metadata"]["namespace"] = namespace.into();
        request["metadata"]["uid"] = account.uid().into();
        request["metadata"]["creationTimestamp"] = rfc3339_seconds(now).into();
        request["spec"] = spec;
        request["status"] = json!({"token": token, "expirationTimestamp": rfc3339_seconds(end)});
        Ok(request)
    }
}

/// A time as API objects carry it: UTC, whole seconds.
pub(super) fn rfc3339_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

async fn bound_object(
    objects: &dyn ObjectLookup,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Bound, Status> {
    let field = |f: &str| reference.get(f).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind, name) = (field("apiVersion"), field("kind"), field("name"));
    let group = api_version.split_once('/').map_or("", |(g, _)| g);
    let mut bound = Bound {
        pod: None,
        node: None,
        secret: None,
    };
    let uid = match (group, kind) {
        ("", "Pod") => {
            let pod = objects.lookup("pods", namespace, name).await?;
            let spec = |f: &str| {
                pod.value()
                    .pointer(&format!("/spec/{f}"))
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            if spec("serviceAccountName") != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            let node = spec("nodeName");
            if !node.is_empty() {
                bound.node = Some(match objects.lookup("nodes", "", &node).await {
                    Ok(node) => Reference::of(&node),
                    // The name alone still tells where the pod is meant to be.
                    Err(e) if e.is_not_found() => Reference {
                        name: node,
                        uid: String::new(),
                    },
                    Err(e) => return Err(Status::internal(e)),
                });
            }
            let uid = pod.uid().to_owned();
            bound.pod = Some(pod);
            uid
        }
        ("", "Node") => {
            let node = objects.lookup("nodes", "", name).await?;
            bound.node = Some(Reference::of(&node));
            node.uid().to_owned()
        }
        ("", "Secret") => {
            let secret = objects.lookup("secrets", namespace, name).await?;
            bound.secret = Some(Reference::of(&secret));
            secret.uid().to_owned()
        }
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {api_version}, Kind={kind}"
            )));
        }
    };
    let asked = field("uid");
    if !asked.is_empty() && asked != uid {
        let kind = GroupResource {
            group: String::new(),
            resource: kind.to_owned(),
        };
        let why = format!(
            "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict(&kind, name, why));
    }
    Ok(bound)
}

fn invalid(name: &str, field: &str, value: &str, detail: &str) -> Status {
    let message = format!("Invalid value: {value}: {detail}");
    Status::new(
        StatusReason::Invalid,
        format!("TokenRequest.authentication.k8s.io {name:?} is invalid: {field}: {message}"),
    )
    .with_details(StatusDetails {
        name: name.into(),
        group: "authentication.k8s.io".into(),
        kind: "TokenRequest".into(),
        causes: vec![StatusCause {
            reason: "FieldValueInvalid".into(),
            message,
            field: field.into(),
        }],
        ..StatusDetails::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{DEFAULT_ISSUER, testing::Objects};
    use orch_core::Env;

    fn authority() -> TokenAuthority {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut env = Env::system();
        env.clock = Arc::new(orch_core::clock::SimClock::starting_at(
            "2026-06-01T00:00:00Z".parse().unwrap(),
        ));
        TokenAuthority::new(env, &key.serialize_pem(), DEFAULT_ISSUER, Vec::new()).unwrap()
    }
    fn objects() -> Objects {
        let objects = Objects::default();
        objects.put("serviceaccounts", "ns", "sa", "sa-uid", json!({}));
        objects.put(
            "pods",
            "ns",
            "pod",
            "pod-uid",
            json!({"spec": {"serviceAccountName": "sa", "nodeName": "n"}}),
        );
        objects.put("nodes", "", "n", "n-uid", json!({}));
        objects
    }
    async fn token(authority: &TokenAuthority, objects: &Objects, spec: Value) -> String {
        let answer = authority
            .issue(objects, "ns", "sa", json!({"spec": spec}))
            .await
            .unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_bound_token_names_its_pod_and_node_and_dies_with_the_pod() {
        let (authority, objects) = (authority(), objects());
        let spec =
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "pod", "uid": "pod-uid"}});
        let token = token(&authority, &objects, spec).await;
        let verified = authority.authenticate(&objects, &token, &[]).await.unwrap();
        assert_eq!(verified.user.username, "system:serviceaccount:ns:sa");
        assert_eq!(
            verified.user.extra["authentication.kubernetes.io/pod-name"],
            ["pod"]
        );
        assert_eq!(
            verified.user.extra["authentication.kubernetes.io/node-uid"],
            ["n-uid"]
        );
        objects.remove("pods", "ns", "pod");
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        let error = authority.authenticate(&objects, &token, &[]).await.unwrap_err();
        assert_eq!(error, "service account token has been invalidated");
    }

    #[tokio::test(start_paused = true)]
    async fn expiry_audience_and_recreation_are_refused() {
        let (authority, objects) = (authority(), objects());
        let ours = token(&authority, &objects, json!({"expirationSeconds": 600})).await;
        let other = token(&authority, &objects, json!({"audiences": ["vault"]})).await;
        assert!(authority.authenticate(&objects, &ours, &[]).await.is_ok());
        let error = authority.authenticate(&objects, &other, &[]).await.unwrap_err();
        assert!(
            error.starts_with(r#"token audiences ["vault"] is invalid"#),
            "{error}"
        );
        assert!(
            authority
                .authenticate(&objects, &other, &["vault".into()])
                .await
                .is_ok()
        );

        objects.put("serviceaccounts", "ns", "sa", "another-uid", json!({}));
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        let error = authority.authenticate(&objects, &ours, &[]).await.unwrap_err();
        assert_eq!(
            error,
            "service account UID (another-uid) does not match claim (sa-uid)"
        );

        objects.put("serviceaccounts", "ns", "sa", "sa-uid", json!({}));
        assert!(authority.authenticate(&objects, &ours, &[]).await.is_ok());
        tokio::time::advance(std::time::Duration::from_secs(661)).await;
        let error = authority.authenticate(&objects, &ours, &[]).await.unwrap_err();
        assert_eq!(error, "service account token has expired");
    }

    #[tokio::test]
    async fn wrong_requests_get_upstreams_texts() {
        let (authority, objects) = (authority(), objects());
        objects.put(
            "pods",
            "ns",
            "other",
            "u",
            json!({"spec": {"serviceAccountName": "else"}}),
        );
        for (request, code, says) in [
            (
                json!({"spec": {"expirationSeconds": 10}}),
                422,
                "may not specify a duration less than 10 minutes",
            ),
            (
                json!({"metadata": {"name": "x"}}),
                422,
                "must match the service account name if specified",
            ),
            (
                json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}}}),
                404,
                "not found",
            ),
            (
                json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "other"}}}),
                400,
                "different serviceaccount name",
            ),
            (
                json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "pod", "uid": "z"}}}),
                409,
                "does not match the UID in record",
            ),
            (
                json!({"spec": {"boundObjectRef": {"kind": "Job", "apiVersion": "batch/v1", "name": "j"}}}),
                400,
                "cannot bind token to object of type batch/v1, Kind=Job",
            ),
        ] {
            let error = authority.issue(&objects, "ns", "sa", request).await.unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(says), "{error}");
        }
        assert_eq!(
            authority
                .issue(&objects, "ns", "no", json!({}))
                .await
                .unwrap_err()
                .code,
            404
        );
    }
}
