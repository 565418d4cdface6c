//! The Node authorizer: a node may read what its pods refer to, and write what is its own
//! (<https://kubernetes.io/docs/reference/access-authn-authz/node/>).
//!
//! What a write may contain is checked by [`super::node_restriction`], which sees the object.

mod graph;

use super::{Attributes, Authorizer, Decision, Rules, rule::PolicyRule};
use crate::server::ObjectReader;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use graph::{Graph, Kind};
use orch_core::{UserInfo, selector::FieldSelector};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// The node that a user is, `Some("")` if it is in the nodes' group under another kind of name.
#[must_use]
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.username.strip_prefix("system:node:")?;
    user.in_group("system:nodes").then_some(name)
}

/// Authorizes the users of nodes.
pub struct NodeAuthorizer {
    reader: OnceLock<Arc<dyn ObjectReader>>,
    graph: ArcSwap<Graph>,
    updating: Mutex<()>,
    uniform: Vec<PolicyRule>,
}

impl std::fmt::Debug for NodeAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeAuthorizer")
    }
}

impl Default for NodeAuthorizer {
    fn default() -> Self {
        Self::new()
    }
}

impl NodeAuthorizer {
    /// An authorizer that allows only what every node may do, until it is attached to a server.
    #[must_use]
    pub fn new() -> Self {
        let rule = PolicyRule::resources;
        // What all nodes may do alike; what depends on the node is decided in code.
        let uniform = vec![
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule(
                "create",
                "authorization.k8s.io",
                "subjectaccessreviews,localsubjectaccessreviews",
            ),
            rule("get,list,watch", "", "services"),
            rule("create,update,patch", ",events.k8s.io", "events"),
            rule("get", "", "endpoints"),
            rule(
                "create,get,list,watch",
                "certificates.k8s.io",
                "certificatesigningrequests",
            ),
            rule("get,list,watch", "storage.k8s.io", "csidrivers"),
            rule("get,list,watch", "node.k8s.io", "runtimeclasses"),
            rule("get,list,watch", "certificates.k8s.io", "clustertrustbundles"),
        ];
        Self {
            reader: OnceLock::new(),
            graph: ArcSwap::default(),
            updating: Mutex::default(),
            uniform,
        }
    }

    fn graph(&self) -> Arc<Graph> {
        let Some(reader) = self.reader.get() else {
            return self.graph.load_full();
        };
        let revisions = graph::revisions(&**reader);
        {
            let held = self.graph.load();
            if held.revisions == revisions {
                return Arc::clone(&held);
            }
        }
        let _one_at_a_time = self.updating.lock();
        let held = self.graph.load_full();
        let revisions = graph::revisions(&**reader);
        if held.revisions == revisions {
            return held;
        }
        let updated = Arc::new(Graph::build(&**reader, revisions, &held));
        self.graph.store(updated.clone());
        updated
    }

    fn decide(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if a.resource_request {
            let related = |kind| self.related(node, kind, a);
            let selects = |field: &str| {
                FieldSelector::parse(a.field_selector).is_ok_and(|s| s.exact(field) == Some(node))
            };
            match (a.group, a.resource) {
                ("", "secrets") => return self.read_one(node, Kind::Secret, a),
                ("", "configmaps") => return self.read_one(node, Kind::ConfigMap, a),
                ("", "persistentvolumeclaims") if a.subresource == "status" => {
                    return match a.verb {
                        "get" | "update" | "patch" => related(Kind::Claim),
                        _ => refuse("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get_one(node, Kind::Claim, a),
                ("", "persistentvolumes") => return self.get_one(node, Kind::Volume, a),
                ("resource.k8s.io", "resourceclaims") => return self.get_one(node, Kind::ResourceClaim, a),
                ("storage.k8s.io", "volumeattachments") => return self.get_one(node, Kind::Attachment, a),
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return lease(node, a),
                ("storage.k8s.io", "csinodes") => {
                    return match a.verb {
                        _ if !a.subresource.is_empty() => refuse("cannot authorize CSINode subresources"),
                        "create" => Ok(()),
                        "get" | "update" | "patch" | "delete" if a.name == node => Ok(()),
                        "get" | "update" | "patch" | "delete" => {
                            refuse("can only access CSINode with the same name as the requesting node")
                        }
                        _ => refuse("can only get, create, update, patch, or delete a CSINode"),
                    };
                }
                ("resource.k8s.io", "resourceslices") => {
                    return match a.verb {
                        _ if !a.subresource.is_empty() => {
                            refuse("cannot authorize ResourceSlice subresources")
                        }
                        "create" => Ok(()),
                        "get" | "update" | "patch" | "delete" => related(Kind::Slice),
                        "watch" | "list" | "deletecollection" if selects("spec.nodeName") => Ok(()),
                        "watch" | "list" | "deletecollection" => refuse(
                            "can only list/watch/deletecollection resourceslices with nodeName field selector",
                        ),
                        _ => refuse(
                            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
                             update, patch, delete, deletecollection",
                        ),
                    };
                }
                ("", "nodes") => {
                    return match (a.subresource, a.verb) {
                        // The name of a new node is in the object, which admission sees.
                        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
                        ("", "get" | "list" | "watch") if a.name == node => Ok(()),
                        ("", "get" | "list" | "watch") => refuse(&format!(
                            "node {node:?} cannot read {:?}, only its own Node object",
                            a.name
                        )),
                        _ => refuse(""),
                    };
                }
                ("", "pods") => {
                    return match (a.subresource, a.verb) {
                        ("", "get") => related(Kind::Pod),
                        ("", "list" | "watch") if selects("spec.nodeName") => Ok(()),
                        ("", "list" | "watch") if !a.name.is_empty() => related(Kind::Pod),
                        ("", "list" | "watch") => {
                            refuse("can only list/watch pods with spec.nodeName field selector")
                        }
                        ("", "create" | "delete")
                        | ("status", "update" | "patch")
                        | ("eviction", "create") => Ok(()),
                        _ => refuse(""),
                    };
                }
                ("certificates.k8s.io", "podcertificaterequests") => {
                    return match a.verb {
                        _ if !a.subresource.is_empty() => {
                            refuse("nodes may not access the status subresource of PodCertificateRequests")
                        }
                        "create" => Ok(()),
                        "get" => related(Kind::CertificateRequest),
                        "list" | "watch" if selects("spec.nodeName") => Ok(()),
                        "list" | "watch" => {
                            refuse("can only list/watch podcertificaterequests with nodeName field selector")
                        }
                        _ => refuse(""),
                    };
                }
                _ => {}
            }
        }
        if self.uniform.iter().any(|rule| rule.allows(a)) {
            Ok(())
        } else {
            refuse("")
        }
    }

    fn read_one(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        match a.verb {
            "get" | "list" | "watch" if !a.subresource.is_empty() => refuse("cannot read subresource"),
            "get" | "list" | "watch" if a.namespace.is_empty() => {
                refuse("can only read namespaced object of this type")
            }
            "get" | "list" | "watch" => self.related(node, kind, a),
            _ => refuse("can only read resources of this type"),
        }
    }

    fn get_one(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        match (a.verb, a.subresource) {
            ("get", "") => self.related(node, kind, a),
            ("get", _) => refuse("cannot get subresource"),
            _ => refuse("can only get individual resources of this type"),
        }
    }

    fn service_account(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.verb, a.subresource) {
            ("get", "") => self.read_one(node, Kind::ServiceAccount, a),
            ("create", "token") if !a.name.is_empty() => self.related(node, Kind::ServiceAccount, a),
            ("create", _) if !a.name.is_empty() => {
                refuse("can only create token subresource of serviceaccount")
            }
            _ => refuse("can only create tokens for individual service accounts"),
        }
    }

    fn related(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        if a.name.is_empty() {
            return refuse("No Object name found");
        }
        if self.graph().leads(kind, a.namespace, a.name, node) {
            return Ok(());
        }
        Err(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }
}

fn refuse(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

fn lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match a.verb {
        "get" | "create" | "update" | "patch" | "delete" if a.namespace != "kube-node-lease" => {
            refuse("can only access leases in the \"kube-node-lease\" system namespace")
        }
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" if a.name == node => Ok(()),
        "get" | "update" | "patch" | "delete" => {
            refuse("can only access node lease with the same name as the requesting node")
        }
        _ => refuse("can only get, create, update, patch, or delete a node lease"),
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    fn attach(&self, reader: Arc<dyn ObjectReader>) {
        drop(self.reader.set(reader));
    }

    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match node_of(attributes.user) {
            None => Decision::NoOpinion(String::new()),
            Some("") => Decision::NoOpinion(format!("unknown node for user {:?}", attributes.user.username)),
            Some(node) => match self.decide(node, attributes) {
                Ok(()) => Decision::Allow(String::new()),
                Err(why) => Decision::NoOpinion(why),
            },
        }
    }

    async fn rules(&self, user: &UserInfo, _: &str) -> Rules {
        if node_of(user).is_none() {
            return Rules::default();
        }
        Rules {
            incomplete: true,
            evaluation_error: "node authorizer does not support user rule resolution".into(),
            ..Rules::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::testing::Objects;
    use serde_json::json;

    fn pod(name: &str, node: &str, spec: serde_json::Value) -> serde_json::Value {
        let mut pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec});
        pod["spec"]["nodeName"] = node.into();
        pod
    }

    #[tokio::test]
    async fn a_node_reaches_what_its_pods_refer_to_and_nothing_else() {
        let objects = Objects::new();
        objects.put("", "pods", pod("a", "n1", json!({
            "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env-secret"}}}],
                            "envFrom": [{"configMapRef": {"name": "env-map"}}]}],
            "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "root"}}]}}],
        })));
        objects.put(
            "",
            "pods",
            pod(
                "b",
                "n2",
                json!({"volumes": [{"secret": {"secretName": "other"}}]}),
            ),
        );
        let mirror = json!({"metadata": {"name": "m", "namespace": "ns", "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": "n1", "volumes": [{"secret": {"secretName": "stolen"}}]}});
        objects.put("", "pods", mirror);
        objects.put(
            "",
            "persistentvolumes",
            json!({"metadata": {"name": "pv"}, "spec": {
            "claimRef": {"namespace": "ns", "name": "claim"},
            "csi": {"nodePublishSecretRef": {"namespace": "ns", "name": "csi-secret"}}}}),
        );
        let authorizer = NodeAuthorizer::new();
        authorizer.attach(objects.clone());
        let user = UserInfo::new("system:node:n1", &["system:nodes"]);
        let check = async |verb: &str, resource: &str, name: &str, selector: &str, expected: bool| {
            let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let a = Attributes {
                user: &user,
                verb,
                group,
                version: "v1",
                resource,
                subresource,
                namespace: match resource {
                    "leases" => "kube-node-lease",
                    "persistentvolumes" | "nodes" => "",
                    _ => "ns",
                },
                name,
                path: "",
                resource_request: true,
                field_selector: selector,
                label_selector: "",
            };
            let decision = authorizer.authorize(&a).await;
            assert_eq!(
                decision.allowed(),
                expected,
                "{verb} {resource}/{subresource} {name}: {decision:?}"
            );
        };
        for secret in ["env-secret", "proj", "pull", "csi-secret"] {
            check("get", "secrets", secret, "", true).await;
        }
        for (verb, secret) in [
            ("get", "other"),
            ("get", "stolen"),
            ("get", "unknown"),
            ("delete", "proj"),
            ("list", ""),
        ] {
            check(verb, "secrets", secret, "", false).await;
        }
        check("watch", "configmaps", "env-map", "", true).await;
        check("get", "configmaps", "root", "", true).await;
        check("get", "persistentvolumeclaims", "claim", "", true).await;
        check("get", "persistentvolumeclaims", "a-e", "", true).await;
        check("get", "persistentvolumes", "pv", "", true).await;
        check("create", "serviceaccounts/token", "sa", "", true).await;
        check("create", "serviceaccounts/token", "default", "", false).await;
        check("get", "pods", "a", "", true).await;
        check("get", "pods", "b", "", false).await;
        check("list", "pods", "", "spec.nodeName=n1", true).await;
        check("list", "pods", "", "spec.nodeName=n2", false).await;
        check("list", "pods", "", "", false).await;
        check("update", "pods", "a", "", false).await;
        check("get", "nodes", "n1", "", true).await;
        check("get", "nodes", "n2", "", false).await;
        check("update", "coordination.k8s.io:leases", "n1", "", true).await;
        check("update", "coordination.k8s.io:leases", "n2", "", false).await;
        check("get", "services", "x", "", true).await;
        check("create", "events", "", "", true).await;
        check("get", "apps:deployments", "x", "", false).await;

        // The pod moves away: so do its secrets.
        objects.remove("", "pods", "ns", "a");
        check("get", "secrets", "proj", "", false).await;
        check("get", "persistentvolumes", "pv", "", false).await;
    }
}
