//! Questions to the server that are asked by creating an object: who am I, may I, may they.

use super::{ApiServer, ConnectContext, CreateHandler, Endpoint};
use crate::{
    authz::{Attributes, Decision},
    registry::{Scope, meta},
};
use async_trait::async_trait;
use orch_core::{GroupVersionKind, Status, UserInfo, client::ApiRequest};
use orch_kinds::field::{FieldErrors, Path};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The endpoints of this module.
pub(super) fn endpoints() -> Vec<(Endpoint, Arc<dyn CreateHandler>)> {
    let endpoint = |group: &str, resource: &str, handler: Arc<dyn CreateHandler>| {
        ((group.to_owned(), resource.to_owned(), String::new()), handler)
    };
    let access = |whose| Arc::new(AccessReview(whose)) as Arc<dyn CreateHandler>;
    vec![
        endpoint(AUTHORIZATION, "subjectaccessreviews", access(Whose::Anyone)),
        endpoint(
            AUTHORIZATION,
            "localsubjectaccessreviews",
            access(Whose::AnyoneHere),
        ),
        endpoint(AUTHORIZATION, "selfsubjectaccessreviews", access(Whose::Own)),
        endpoint(AUTHORIZATION, "selfsubjectrulesreviews", Arc::new(RulesReview)),
        endpoint(AUTHENTICATION, "selfsubjectreviews", Arc::new(SelfReview)),
        endpoint("", "bindings", Arc::new(OldBinding)),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Anyone,
    AnyoneHere,
    Own,
}

struct AccessReview(Whose);

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn given<'a>(spec: &'a Value, field: &str) -> Option<&'a Value> {
    spec.get(field).filter(|v| !v.is_null())
}

impl AccessReview {
    fn check(&self, review: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = review.get("spec").unwrap_or(&Value::Null);
        let path = Path::new("spec");
        match (
            given(spec, "resourceAttributes"),
            given(spec, "nonResourceAttributes"),
        ) {
            (Some(_), Some(other)) => {
                let detail = "cannot be specified in combination with resourceAttributes";
                errors.invalid(&path.child("nonResourceAttributes"), other.clone(), detail);
            }
            (None, None) => {
                let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                errors.invalid(&path.child("resourceAttributes"), Value::Null, detail);
            }
            _ => {}
        }
        let groups = spec
            .get("groups")
            .and_then(Value::as_array)
            .is_some_and(|g| !g.is_empty());
        if self.0 != Whose::Own && text(spec, "user").is_empty() && !groups {
            errors.invalid(
                &path.child("user"),
                "",
                "at least one of user or group must be specified",
            );
        }
        let mut metadata = review.get("metadata").cloned().unwrap_or_else(|| json!({}));
        if let Some(map) = metadata.as_object_mut() {
            map.remove("managedFields");
            if self.0 == Whose::AnyoneHere {
                map.remove("namespace");
            }
            map.retain(|_, v| !v.is_null());
            if !map.is_empty() {
                let detail = if self.0 == Whose::AnyoneHere {
                    "must be empty except for namespace"
                } else {
                    "must be empty"
                };
                errors.invalid(&Path::new("metadata"), Value::Object(map.clone()), detail);
            }
        }
        if self.0 == Whose::AnyoneHere {
            let namespace = meta::text(review, "namespace");
            if let Some(asked) = given(spec, "resourceAttributes")
                .map(|r| text(r, "namespace"))
                .filter(|n| *n != namespace)
            {
                errors.invalid(
                    &Path::new("spec.resourceAttributes.namespace"),
                    asked,
                    "must match metadata.namespace",
                );
            }
            if let Some(other) = given(spec, "nonResourceAttributes") {
                errors.invalid(
                    &Path::new("spec.nonResourceAttributes"),
                    other.clone(),
                    "disallowed on this kind of request",
                );
            }
        }
        errors
    }
}

/// The user that a review asks about.
fn subject(spec: &Value) -> UserInfo {
    let list = |v: &Value| -> Vec<String> {
        v.as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(ToOwned::to_owned)
            .collect()
    };
    let extra: BTreeMap<String, Vec<String>> = spec
        .get("extra")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), list(v)))
        .collect();
    UserInfo {
        username: text(spec, "user").to_owned(),
        uid: text(spec, "uid").to_owned(),
        groups: spec.get("groups").map(list).unwrap_or_default(),
        extra,
    }
}

async fn decide(server: &ApiServer, user: &UserInfo, spec: &Value) -> Decision {
    let bare = Value::Null;
    let (resource, path) = (
        given(spec, "resourceAttributes"),
        given(spec, "nonResourceAttributes"),
    );
    let (r, p) = (resource.unwrap_or(&bare), path.unwrap_or(&bare));
    let raw = |field: &str| r.get(field).map(|s| text(s, "rawSelector")).unwrap_or_default();
    let version = text(r, "version");
    let attributes = Attributes {
        user,
        verb: if resource.is_some() {
            text(r, "verb")
        } else {
            text(p, "verb")
        },
        group: text(r, "group"),
        version: if version.is_empty() { "*" } else { version },
        resource: text(r, "resource"),
        subresource: text(r, "subresource"),
        namespace: text(r, "namespace"),
        name: text(r, "name"),
        path: text(p, "path"),
        resource_request: resource.is_some(),
        field_selector: raw("fieldSelector"),
        label_selector: raw("labelSelector"),
    };
    server.decide(&attributes).await
}

#[async_trait]
impl CreateHandler for AccessReview {
    async fn create(&self, context: ConnectContext<'_>, mut review: Value) -> Result<Value, Status> {
        if self.0 == Whose::AnyoneHere && meta::text(&review, "namespace").is_empty() {
            meta::set(&mut review, "namespace", context.info.namespace.as_str());
        }
        let errors = self.check(&review);
        if !errors.is_empty() {
            let kind = text(&review, "kind").to_owned();
            return Err(errors.into_status(&GroupVersionKind::new(AUTHORIZATION, "v1", kind), ""));
        }
        let spec = review.get("spec").cloned().unwrap_or_default();
        let decision = if self.0 == Whose::Own {
            decide(context.server, context.user, &spec).await
        } else {
            decide(context.server, &subject(&spec), &spec).await
        };
        let mut status = json!({"allowed": decision.allowed()});
        if matches!(decision, Decision::Deny(_)) {
            status["denied"] = true.into();
        }
        if !decision.reason().is_empty() {
            status["reason"] = decision.reason().into();
        }
        review["status"] = status;
        Ok(review)
    }
}

struct RulesReview;

#[async_trait]
impl CreateHandler for RulesReview {
    async fn create(&self, context: ConnectContext<'_>, mut review: Value) -> Result<Value, Status> {
        let namespace = review
            .pointer("/spec/namespace")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let rules = if context.user.in_group("system:masters") {
            let all = vec!["*".to_owned()];
            crate::authz::Rules {
                resource_rules: vec![crate::authz::ResourceRule {
                    verbs: all.clone(),
                    api_groups: all.clone(),
                    resources: all.clone(),
                    resource_names: Vec::new(),
                }],
                non_resource_rules: vec![crate::authz::NonResourceRule {
                    verbs: all.clone(),
                    non_resource_urls: all,
                }],
                ..crate::authz::Rules::default()
            }
        } else {
            context.server.authorizer().rules(context.user, &namespace).await
        };
        review["status"] = serde_json::to_value(rules).map_err(Status::internal)?;
        Ok(review)
    }
}

struct SelfReview;

#[async_trait]
impl CreateHandler for SelfReview {
    async fn create(&self, context: ConnectContext<'_>, mut review: Value) -> Result<Value, Status> {
        let user = serde_json::to_value(context.user).map_err(Status::internal)?;
        let now = meta::time(context.server.env().clock.now());
        meta::set(&mut review, "creationTimestamp", now);
        review["status"] = json!({"userInfo": user});
        Ok(review)
    }
}

/// `bindings`: the old form of `pods/binding`.
struct OldBinding;

#[async_trait]
impl CreateHandler for OldBinding {
    async fn create(&self, context: ConnectContext<'_>, mut binding: Value) -> Result<Value, Status> {
        let ConnectContext { server, user, info } = context;
        let Some((_, Some(pods))) = server.resource("", "v1", "pods") else {
            return Err(super::not_served());
        };
        let scope = Scope::new(server, user, info, pods, &ApiRequest::get(""));
        scope.check_namespace(&mut binding)?;
        let name = meta::text(&binding, "name").to_owned();
        scope.bind(&name, &binding, false).await?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }
}
