//! Nobody hands out permissions that they do not have: checks of writes to roles and bindings
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>).
//!
//! To be called before a Role, ClusterRole, RoleBinding or ClusterRoleBinding is created or changed. Deleting needs no
//! check, and neither does a change that only lets the garbage collector finish.

use super::{
    Attributes, Authorizer,
    rbac::{GROUP, Rbac},
    rule::{PolicyRule, go_strings, missing},
};
use crate::{
    admission::{self, AdmissionPlugin, Operation},
    server::ApiServer,
};
use async_trait::async_trait;
use orch_core::{GroupResource, Status, UserInfo};
use serde_json::Value;
use std::sync::Arc;

/// The checks as an admission plugin. (Upstream has them in the registry of these resources; the effect is the same.)
#[derive(Debug)]
pub struct RbacEscalation(pub Arc<Rbac>);

#[async_trait]
impl AdmissionPlugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }
    async fn validate(
        &self,
        server: &ApiServer,
        a: &admission::Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let (Some(new), GROUP) = (object, a.resource.group.as_str()) else {
            return Ok(());
        };
        let (authorizer, resource) = (&**server.authorizer(), a.resource.resource.as_str());
        match resource {
            "roles" | "clusterroles" => {
                check_role_write(&self.0, authorizer, a.user, resource, a.namespace, new, a.old).await
            }
            "rolebindings" | "clusterrolebindings" => {
                check_binding_write(&self.0, authorizer, a.user, resource, a.namespace, new, a.old).await
            }
            _ => Ok(()),
        }
    }
}

/// Checks a write to a `roles` or `clusterroles` object. `old` is there if it is an update. `authorizer` is the whole
/// one of the server (whoever may `escalate` may write any rules), `rbac` the part that knows the writer's own rules.
///
/// # Errors
/// `Forbidden` that lists what the writer lacks.
pub async fn check_role_write(
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    resource: &str,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if user.in_group("system:masters") || old.is_some_and(|old| only_gc_fields_differ(new, old)) {
        return Ok(());
    }
    let name = new
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // As upstream, the name is that of the URL, which a creation does not have.
    let url_name = if old.is_some() { name } else { "" };
    if allowed(authorizer, user, "escalate", resource, namespace, url_name).await {
        return Ok(());
    }
    let about = GroupResource {
        group: GROUP.into(),
        resource: resource.into(),
    };
    let rules: Vec<PolicyRule> = new
        .get("rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|r| serde::Deserialize::deserialize(r).ok())
        .collect();
    confirm(rbac, user, namespace, &rules).map_err(|why| Status::forbidden(&about, name, why))?;
    if has_aggregation_rule(new) || old.is_some_and(has_aggregation_rule) {
        let everything = [
            PolicyRule::resources("*", "*", "*"),
            PolicyRule {
                verbs: vec!["*".into()],
                non_resource_urls: vec!["*".into()],
                ..PolicyRule::default()
            },
        ];
        if confirm(rbac, user, namespace, &everything).is_err() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Status::forbidden(&about, name, why));
        }
    }
    Ok(())
}

/// Checks a write to a `rolebindings` or `clusterrolebindings` object, as [`check_role_write`]; the verb that lets
/// one bind without having the permissions is `bind`, on the role.
///
/// # Errors
/// `Forbidden` that lists what the writer lacks, `NotFound` if the role does not exist and binding it is not allowed
/// outright.
pub async fn check_binding_write(
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    resource: &str,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if user.in_group("system:masters") || old.is_some_and(|old| only_gc_fields_differ(new, old)) {
        return Ok(());
    }
    let text = |pointer: &str| new.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, role) = (text("/roleRef/kind"), text("/roleRef/name"));
    let role_resource = match kind {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        // Validation refuses other kinds with a better text.
        _ => return Ok(()),
    };
    if allowed(authorizer, user, "bind", role_resource, namespace, role).await {
        return Ok(());
    }
    let rules = rbac.grants().role(kind, role, namespace).map_err(|_| {
        Status::not_found(
            &GroupResource {
                group: GROUP.into(),
                resource: role_resource.into(),
            },
            role,
        )
    })?;
    let about = GroupResource {
        group: GROUP.into(),
        resource: resource.into(),
    };
    confirm(rbac, user, namespace, &rules)
        .map_err(|why| Status::forbidden(&about, text("/metadata/name"), why))
}

async fn allowed(
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    verb: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let attributes = Attributes {
        user,
        verb,
        group: GROUP,
        version: "*",
        resource,
        subresource: "",
        namespace,
        name,
        path: "",
        resource_request: true,
        field_selector: "",
        label_selector: "",
    };
    authorizer.authorize(&attributes).await.allowed()
}

fn confirm(rbac: &Rbac, user: &UserInfo, namespace: &str, wanted: &[PolicyRule]) -> Result<(), String> {
    let (owned, errors) = rbac.grants().rules_for(user, namespace);
    let lacking = missing(&owned, wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.username,
        go_strings(&user.groups),
        lacking.join("\n")
    );
    if !errors.is_empty() {
        text.push_str(&format!("; resolution errors: [{}]", errors.join(" ")));
    }
    Err(text)
}

fn has_aggregation_rule(role: &Value) -> bool {
    role.pointer("/aggregationRule/clusterRoleSelectors")
        .and_then(Value::as_array)
        .is_some_and(|s| !s.is_empty())
}

/// Whether nothing differs but owner references and finalizers (and what the server itself sets).
fn only_gc_fields_differ(new: &Value, old: &Value) -> bool {
    let stripped = |v: &Value| {
        let mut v = v.clone();
        if let Some(meta) = v.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
                "generation",
            ] {
                meta.remove(field);
            }
        }
        v
    };
    stripped(new) == stripped(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::testing::Objects;
    use serde_json::json;

    #[tokio::test]
    async fn nobody_grants_what_they_lack() {
        let objects = Objects::new();
        let role =
            |name: &str, rules: Value| json!({"metadata": {"name": name, "namespace": "ns"}, "rules": rules});
        let binding = |role: &str| {
            json!({"metadata": {"name": role, "namespace": "ns"},
            "roleRef": {"kind": "Role", "name": role}, "subjects": [{"kind": "User", "name": "eve"}]})
        };
        let edit = json!([{"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
                          {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        objects.put(GROUP, "roles", role("editor", edit));
        objects.put(GROUP, "rolebindings", binding("editor"));
        objects.put(
            GROUP,
            "roles",
            role(
                "strong",
                json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]),
            ),
        );
        let rbac = Rbac::new();
        rbac.attach(objects.clone());
        let eve = UserInfo::new("eve", &["dev"]);
        // The wildcard verb on roles includes `escalate` and `bind`; without it, both are needed.
        let plain = json!([{"verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
                           {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let wanted = role(
            "new",
            json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]),
        );
        let write =
            async |role: &Value| check_role_write(&rbac, &rbac, &eve, "roles", "ns", role, None).await;
        assert!(write(&wanted).await.is_ok());
        objects.put(GROUP, "roles", role("editor", plain));
        assert_eq!(
            write(&wanted).await.unwrap_err().message,
            "roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"eve\" (groups=[\"dev\" \
             \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}"
        );
        assert!(
            write(&role(
                "ok",
                json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])
            ))
            .await
            .is_ok()
        );
        let bind = async |role: &str| {
            check_binding_write(&rbac, &rbac, &eve, "rolebindings", "ns", &binding(role), None).await
        };
        assert_eq!(bind("strong").await.unwrap_err().code, 403);
        assert_eq!(bind("absent").await.unwrap_err().code, 404);
        assert!(bind("editor").await.is_ok());
        let aggregate = json!({"metadata": {"name": "all"}, "rules": [], "aggregationRule": {"clusterRoleSelectors": [{}]}});
        let error = check_role_write(&rbac, &rbac, &eve, "clusterroles", "", &aggregate, None)
            .await
            .unwrap_err();
        assert!(
            error
                .message
                .ends_with("must have cluster-admin privileges to use the aggregationRule")
        );
        let admin = UserInfo::new("root", &["system:masters"]);
        assert!(
            check_role_write(&rbac, &rbac, &admin, "clusterroles", "", &aggregate, None)
                .await
                .is_ok()
        );
    }
}
