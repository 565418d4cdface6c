//! NodeRestriction: what a node may write, by the content of the object
//! (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>).
//!
//! The Node authorizer has let the request through by its address; here the object is seen. [`check`] is the rule,
//! [`NodeRestriction`] the plugin around it.

mod credentials;
mod node;
mod pod;
#[cfg(test)]
mod tests;

use super::{Attributes as Access, Authorizer, node::node_of};
use crate::{
    admission::{AdmissionPlugin, Attributes, Operation},
    server::ApiServer,
    tokens::ObjectLookup,
};
use async_trait::async_trait;
use orch_core::{GroupResource, Object, Status, UserInfo};
use serde_json::Value;
use std::sync::Arc;

/// The admission plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeRestriction;

#[async_trait]
impl AdmissionPlugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }
    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }
    async fn validate(
        &self,
        server: &ApiServer,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let write = NodeWrite {
            user: attributes.user,
            operation: attributes.operation,
            group: &attributes.resource.group,
            resource: &attributes.resource.resource,
            subresource: attributes.subresource,
            namespace: attributes.namespace,
            name: attributes.name,
            object,
            old: attributes.old,
        };
        check(&write, server, &**server.authorizer()).await
    }
}

/// A write, as the rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct NodeWrite<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// How.
    pub operation: Operation,
    /// API group.
    pub group: &'a str,
    /// Resource.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Name in the URL; empty for creations.
    pub name: &'a str,
    /// The object as it shall be.
    pub object: Option<&'a Value>,
    /// The object as it is.
    pub old: Option<&'a Value>,
}

fn text<'a>(value: Option<&'a Value>, pointer: &str) -> &'a str {
    value
        .and_then(|v| v.pointer(pointer))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn differ(a: Option<&Value>, b: Option<&Value>, pointer: &str) -> bool {
    let at = |v: Option<&Value>| {
        let found = v.and_then(|v| v.pointer(pointer)).cloned().unwrap_or_default();
        // An absent, a null and an empty list or map mean the same.
        let empty =
            found.as_array().is_some_and(Vec::is_empty) || found.as_object().is_some_and(|m| m.is_empty());
        if empty { Value::Null } else { found }
    };
    at(a) != at(b)
}

impl NodeWrite<'_> {
    fn forbid(&self, why: impl std::fmt::Display) -> Status {
        let name = if self.name.is_empty() {
            text(self.object, "/metadata/name")
        } else {
            self.name
        };
        let resource = GroupResource {
            group: self.group.into(),
            resource: self.resource.into(),
        };
        Status::forbidden(&resource, name, why)
    }

    async fn get(
        &self,
        objects: &dyn ObjectLookup,
        resource: &str,
        ns: &str,
        name: &str,
    ) -> Result<Arc<Object>, Status> {
        match objects.lookup(resource, ns, name).await {
            Err(e) if !e.is_not_found() => Err(self.forbid(e)),
            found => found,
        }
    }
}

/// Whether a node may make the write; users that are no nodes may make any. The access of the node to a token's
/// audience is asked of `authorizer`.
///
/// # Errors
/// `Forbidden` with upstream's text, `NotFound` for objects that the decision needs.
pub async fn check(
    write: &NodeWrite<'_>,
    objects: &dyn ObjectLookup,
    authorizer: &dyn Authorizer,
) -> Result<(), Status> {
    let Some(node) = node_of(write.user) else {
        return Ok(());
    };
    if node.is_empty() {
        return Err(write.forbid(format!(
            "could not determine node from user {:?}",
            write.user.username
        )));
    }
    let created = write.operation == Operation::Create;
    let name = if created {
        text(write.object, "/metadata/name")
    } else {
        write.name
    };
    match (write.group, write.resource, write.subresource) {
        ("", "pods", "") => pod::pod(write, node, objects).await,
        ("", "pods", "status") => pod::pod_status(write, node),
        ("", "pods", "eviction") => {
            let name = Some(write.name)
                .filter(|n| !n.is_empty())
                .unwrap_or(text(write.object, "/metadata/name"));
            let pod = write.get(objects, "pods", write.namespace, name).await?;
            if text(Some(pod.value()), "/spec/nodeName") == node {
                return Ok(());
            }
            Err(write.forbid(format!(
                "node {node} can only evict pods with spec.nodeName set to itself"
            )))
        }
        ("", "pods", other) => Err(write.forbid(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        ))),
        ("", "nodes", _) => node::own_node(write, node),
        ("", "persistentvolumeclaims", "status") => node::claim_status(write, node),
        ("", "persistentvolumeclaims", _) => Err(write.forbid("may only update PVC status")),
        ("", "serviceaccounts", "token") if created => {
            credentials::token(write, node, objects, authorizer).await
        }
        ("coordination.k8s.io", "leases", _) => {
            if write.namespace != "kube-node-lease" {
                Err(write.forbid("can only access leases in the \"kube-node-lease\" system namespace"))
            } else if name != node {
                Err(write.forbid("can only access node lease with the same name as the requesting node"))
            } else {
                Ok(())
            }
        }
        ("storage.k8s.io", "csinodes", _) if name != node => {
            Err(write.forbid("can only access CSINode with the same name as the requesting node"))
        }
        ("resource.k8s.io", "resourceslices", _) => {
            let (slice, verb) = match write.operation {
                Operation::Create => (write.object, "create"),
                Operation::Delete => (write.old, "delete"),
                _ => return Ok(()),
            };
            if text(slice, "/spec/nodeName") == node {
                return Ok(());
            }
            Err(write.forbid(format!(
                "can only {verb} ResourceSlice with the same NodeName as the requesting node"
            )))
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") if created => {
            credentials::signing_request(write, node)
        }
        ("certificates.k8s.io", "podcertificaterequests", _) => {
            Err(write.forbid("PodCertificateRequest feature gate is disabled"))
        }
        _ => Ok(()),
    }
}
