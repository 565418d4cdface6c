//! NodeRestriction: what a node may write, by the content of the object
//! (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>).
//!
//! The Node authorizer has let the request through by its address; here the object is seen. [`check`] is the rule,
//! [`NodeRestriction`] the plugin around it.

use super::{Attributes as Access, Authorizer, node::node_of};
use crate::{
    admission::{AdmissionPlugin, Attributes, Operation},
    server::ApiServer,
    tokens::ObjectLookup,
};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use orch_core::{GroupResource, Object, Status, UserInfo};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

const MIRROR: &str = "kubernetes.io/config.mirror";

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
        ("", "pods", "") => pod(write, node, objects).await,
        ("", "pods", "status") => pod_status(write, node),
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
        ("", "nodes", _) => own_node(write, node),
        ("", "persistentvolumeclaims", "status") => claim_status(write, node),
        ("", "persistentvolumeclaims", _) => Err(write.forbid("may only update PVC status")),
        ("", "serviceaccounts", "token") if created => token(write, node, objects, authorizer).await,
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
        ("certificates.k8s.io", "certificatesigningrequests", "") if created => signing_request(write, node),
        ("certificates.k8s.io", "podcertificaterequests", _) => {
            Err(write.forbid("PodCertificateRequest feature gate is disabled"))
        }
        _ => Ok(()),
    }
}

async fn pod(write: &NodeWrite<'_>, node: &str, objects: &dyn ObjectLookup) -> Result<(), Status> {
    match write.operation {
        Operation::Delete => {
            let held;
            let pod = match write.old {
                Some(pod) => Some(pod),
                None => {
                    held = write.get(objects, "pods", write.namespace, write.name).await?;
                    Some(held.value())
                }
            };
            if text(pod, "/spec/nodeName") == node {
                return Ok(());
            }
            Err(write.forbid(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )))
        }
        Operation::Create => {
            let pod = write.object;
            let annotated = pod
                .and_then(|p| p.pointer("/metadata/annotations"))
                .is_some_and(|a| a.get(MIRROR).is_some());
            if !annotated {
                return Err(write.forbid(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                )));
            }
            if text(pod, "/spec/nodeName") != node {
                return Err(write.forbid(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                )));
            }
            mirror_owner(write, node, objects).await?;
            match pod.and_then(api_reference) {
                Some(what) => {
                    Err(write.forbid(format!("node {node:?} can not create pods that reference {what}")))
                }
                None => Ok(()),
            }
        }
        _ => Err(write.forbid(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        ))),
    }
}

async fn mirror_owner(write: &NodeWrite<'_>, node: &str, objects: &dyn ObjectLookup) -> Result<(), Status> {
    let no_owners = Vec::new();
    let owners = write
        .object
        .and_then(|p| p.pointer("/metadata/ownerReferences"))
        .and_then(Value::as_array)
        .unwrap_or(&no_owners);
    let refuse = |what: &str| Err(write.forbid(format!("node {node:?} can only create pods with {what}")));
    let owner = match owners.as_slice() {
        [] => return refuse("an owner reference set to itself"),
        [one] => Some(one),
        _ => return refuse("a single owner reference set to itself"),
    };
    let own = ("v1", "Node", node);
    if (
        text(owner, "/apiVersion"),
        text(owner, "/kind"),
        text(owner, "/name"),
    ) != own
    {
        return refuse("an owner reference set to itself");
    }
    let flag = |field: &str| owner.and_then(|o| o.get(field)).and_then(Value::as_bool) == Some(true);
    if !flag("controller") {
        return refuse("a controller owner reference set to itself");
    }
    if flag("blockOwnerDeletion") {
        return Err(write.forbid(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        )));
    }
    let held = write.get(objects, "nodes", "", node).await?;
    let uid = text(owner, "/uid");
    if uid == held.uid() {
        return Ok(());
    }
    Err(write.forbid(format!(
        "node {node} UID mismatch: expected {uid} got {}",
        held.uid()
    )))
}

/// The first kind of API object that a pod refers to, which a mirror pod must not.
fn api_reference(pod: &Value) -> Option<&'static str> {
    let list = |v: &'_ Value, p: &str| {
        v.pointer(p)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    if !text(Some(pod), "/spec/serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let containers: Vec<Value> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|c| list(pod, &format!("/spec/{c}")))
        .collect();
    let from_env = |key: &str, from: &str| {
        containers.iter().any(|c| {
            list(c, "/env")
                .iter()
                .any(|e| e.pointer(&format!("/valueFrom/{key}")).is_some())
                || list(c, "/envFrom").iter().any(|e| e.get(from).is_some())
        })
    };
    if !list(pod, "/spec/imagePullSecrets").is_empty() || from_env("secretKeyRef", "secretRef") {
        return Some("secrets");
    }
    if from_env("configMapKeyRef", "configMapRef") {
        return Some("configmaps");
    }
    if !list(pod, "/spec/resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    for volume in list(pod, "/spec/volumes") {
        let refused = [
            ("configMap", "configmaps (via configmap volumes)"),
            ("secret", "secrets (via secret volumes)"),
            ("csi", "csidrivers (via CSI volumes)"),
            ("glusterfs", "endpoints (via glusterFS volumes)"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
            ("azureFile", "secrets (via azureFile volumes)"),
        ];
        if let Some((_, what)) = refused.iter().find(|(source, _)| volume.get(source).is_some()) {
            return Some(what);
        }
        let refused = [
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("podCertificate", "podcertificates"),
        ];
        for source in list(&volume, "/projected/sources") {
            if let Some((_, what)) = refused.iter().find(|(kind, _)| source.get(kind).is_some()) {
                return Some(what);
            }
        }
    }
    None
}

fn pod_status(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
    if write.operation != Operation::Update {
        return Err(write.forbid(format!("unexpected operation \"{:?}\"", write.operation)));
    }
    if text(write.old, "/spec/nodeName") != node {
        return Err(write.forbid(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )));
    }
    for (pointer, why) in [
        ("/metadata/labels", "cannot update labels through pod status"),
        (
            "/status/resourceClaimStatuses",
            "cannot update resource claim statues",
        ),
        (
            "/status/extendedResourceClaimStatus",
            "cannot update extended resource claim status",
        ),
    ] {
        if differ(write.object, write.old, pointer) {
            return Err(write.forbid(format!("node {node:?} {why}")));
        }
    }
    Ok(())
}

fn claim_status(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
    let (Operation::Update, Some(new), Some(old)) = (write.operation, write.object, write.old) else {
        return Err(write.forbid("unexpected operation"));
    };
    let rest = |v: &Value| {
        let mut v = v.clone();
        for (at, fields) in [
            ("/metadata", &["resourceVersion", "managedFields"][..]),
            (
                "/status",
                &[
                    "capacity",
                    "conditions",
                    "allocatedResourceStatuses",
                    "allocatedResources",
                ],
            ),
        ] {
            if let Some(map) = v.pointer_mut(at).and_then(Value::as_object_mut) {
                fields.iter().for_each(|f| drop(map.remove(*f)));
            }
        }
        v
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(write.forbid(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    )))
}

fn own_node(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
    let name = if write.operation == Operation::Create && write.name.is_empty() {
        text(write.object, "/metadata/name")
    } else {
        write.name
    };
    if name != node {
        return Err(write.forbid(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let creating = match write.operation {
        Operation::Create => true,
        Operation::Update => false,
        _ => return Ok(()),
    };
    if !creating {
        for (pointer, why) in [
            ("/spec/taints", "modify taints"),
            ("/metadata/ownerReferences", "modify ownerReferences"),
        ] {
            if differ(write.object, write.old, pointer) {
                return Err(write.forbid(format!("node {node:?} is not allowed to {why}")));
            }
        }
        let source = "/spec/configSource";
        if write
            .object
            .and_then(|o| o.pointer(source))
            .is_some_and(|s| !s.is_null())
            && differ(write.object, write.old, source)
        {
            return Err(write.forbid(format!(
                "node {node:?} is not allowed to update configSource to a new non-nil configSource"
            )));
        }
    } else if write
        .object
        .and_then(|o| o.pointer("/spec/configSource"))
        .is_some_and(|s| !s.is_null())
    {
        return Err(write.forbid(format!(
            "node {node:?} is not allowed to create pods with a non-nil configSource"
        )));
    }
    let forbidden = forbidden_labels(write.object, if creating { None } else { write.old });
    if forbidden.is_empty() {
        return Ok(());
    }
    let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    Err(write.forbid(if creating {
        format!("node {node:?} is not allowed to set the following labels: {list}")
    } else {
        format!("is not allowed to modify labels: {list}")
    }))
}

/// Labels that differ and that a node must not decide about: they steer workloads.
fn forbidden_labels<'a>(new: Option<&'a Value>, old: Option<&'a Value>) -> BTreeSet<&'a str> {
    const OWN: [&str; 12] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    let labels = |v: Option<&'a Value>| {
        v.and_then(|v| v.pointer("/metadata/labels"))
            .and_then(Value::as_object)
    };
    let (new, old) = (labels(new), labels(old));
    let keys = new.into_iter().chain(old).flat_map(|m| m.keys());
    let changed = keys.filter(|k| new.and_then(|m| m.get(*k)) != old.and_then(|m| m.get(*k)));
    let under = |namespace: &str, domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    changed
        .map(String::as_str)
        .filter(|key| {
            let namespace = key.split_once('/').map_or("", |(ns, _)| ns);
            let own = OWN.contains(key)
                || under(namespace, "kubelet.kubernetes.io")
                || under(namespace, "node.kubernetes.io");
            under(namespace, "node-restriction.kubernetes.io")
                || ((under(namespace, "kubernetes.io") || under(namespace, "k8s.io")) && !own)
        })
        .collect()
}

async fn token(
    write: &NodeWrite<'_>,
    node: &str,
    objects: &dyn ObjectLookup,
    authorizer: &dyn Authorizer,
) -> Result<(), Status> {
    let request = write.object;
    let bound = |field: &str| text(request, &format!("/spec/boundObjectRef/{field}"));
    if (bound("apiVersion"), bound("kind")) != ("v1", "Pod") || bound("name").is_empty() {
        return Err(write.forbid("node requested token not bound to a pod"));
    }
    if bound("uid").is_empty() {
        return Err(write.forbid("node requested token with a pod binding without a uid"));
    }
    let pod = write.get(objects, "pods", write.namespace, bound("name")).await?;
    if bound("uid") != pod.uid() {
        return Err(write.forbid(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
             deleted and then recreated",
            bound("uid")
        )));
    }
    if text(Some(pod.value()), "/spec/nodeName") != node {
        return Err(write.forbid("node requested token bound to a pod scheduled on a different node"));
    }
    let audiences = request
        .and_then(|r| r.pointer("/spec/audiences"))
        .and_then(Value::as_array);
    let audience = match audiences.map(Vec::as_slice) {
        None | Some([]) => "",
        Some([one]) => one.as_str().unwrap_or_default(),
        Some(_) => return Err(write.forbid("node may only request 0 or 1 audiences")),
    };
    if uses_audience(pod.value(), audience) {
        return Ok(());
    }
    let asked = Access {
        user: write.user,
        verb: "request-serviceaccounts-token-audience",
        group: "",
        version: "v1",
        resource: audience,
        subresource: "",
        namespace: write.namespace,
        name: write.name,
        path: "",
        resource_request: true,
        field_selector: "",
        label_selector: "",
    };
    if authorizer.authorize(&asked).await.allowed() {
        return Ok(());
    }
    Err(write.forbid(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        write.user.username
    )))
}

fn uses_audience(pod: &Value, audience: &str) -> bool {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let mut sources = volumes
        .into_iter()
        .flatten()
        .filter_map(|v| v.pointer("/projected/sources"))
        .filter_map(Value::as_array)
        .flatten();
    sources.any(|s| {
        s.get("serviceAccountToken")
            .is_some_and(|t| text(Some(t), "/audience") == audience)
    })
}

fn signing_request(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
    let signer = text(write.object, "/spec/signerName");
    if !matches!(
        signer,
        "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
    ) {
        return Ok(());
    }
    let expected = format!("system:node:{node}");
    let common_name = BASE64_STANDARD
        .decode(text(write.object, "/spec/request"))
        .ok()
        .and_then(|pem| CertificateSigningRequestDer::from_pem_slice(&pem).ok())
        .and_then(|der| {
            let (_, request) = X509CertificationRequest::from_der(&der).ok()?;
            let name = request
                .certification_request_info
                .subject
                .iter_common_name()
                .last()?;
            name.as_str().ok().map(ToOwned::to_owned)
        });
    match common_name {
        None => Err(write.forbid("unable to parse csr")),
        Some(name) if name == expected => Ok(()),
        Some(_) => Err(write.forbid(format!("can only create a node CSR with CN={expected}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::AlwaysAllow;
    use serde_json::json;

    struct Cluster;

    #[async_trait]
    impl ObjectLookup for Cluster {
        async fn lookup(&self, resource: &str, _: &str, name: &str) -> Result<Arc<Object>, Status> {
            let value = match (resource, name) {
                ("nodes", "n1") => json!({"metadata": {"name": "n1", "uid": "n1-uid"}}),
                ("pods", "mine") => {
                    json!({"metadata": {"name": "mine", "uid": "p-uid"}, "spec": {"nodeName": "n1"}})
                }
                ("pods", "theirs") => {
                    json!({"metadata": {"name": "theirs", "uid": "q-uid"}, "spec": {"nodeName": "n2"}})
                }
                _ => {
                    return Err(Status::not_found(
                        &GroupResource {
                            group: String::new(),
                            resource: resource.into(),
                        },
                        name,
                    ));
                }
            };
            Ok(Arc::new(Object::from_value(value)))
        }
    }

    async fn check_write(operation: Operation, what: &str, name: &str, new: Value, old: Value, says: &str) {
        let user = UserInfo::new("system:node:n1", &["system:nodes"]);
        let (group, resource) = what.split_once(':').unwrap_or(("", what));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let namespace = if resource == "leases" {
            "kube-node-lease"
        } else {
            "ns"
        };
        let write = NodeWrite {
            user: &user,
            operation,
            group,
            resource,
            subresource,
            namespace,
            name,
            object: Some(&new).filter(|v| !v.is_null()),
            old: Some(&old).filter(|v| !v.is_null()),
        };
        match (check(&write, &Cluster, &AlwaysAllow).await, says) {
            (Ok(()), "") => {}
            (Err(e), says) if !says.is_empty() => assert!(e.message.contains(says), "{says}: {e}"),
            (found, _) => panic!("{what} {name}: expected {says:?}, found {found:?}"),
        }
    }

    #[tokio::test]
    async fn a_node_writes_its_own_and_no_more() {
        use Operation::{Create, Delete, Update};
        let node = |labels: Value, taints: Value| json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}});
        let plain = || node(json!({}), json!([]));
        check_write(
            Update,
            "nodes",
            "n1",
            node(json!({"kubernetes.io/hostname": "h"}), json!(null)),
            plain(),
            "",
        )
        .await;
        check_write(
            Update,
            "nodes",
            "n2",
            plain(),
            plain(),
            "not allowed to modify node \"n2\"",
        )
        .await;
        check_write(
            Update,
            "nodes",
            "n1",
            node(json!({}), json!([{"key": "k"}])),
            plain(),
            "modify taints",
        )
        .await;
        check_write(
            Update,
            "nodes",
            "n1",
            node(json!({"node-role.kubernetes.io/x": ""}), json!([])),
            plain(),
            "modify labels",
        )
        .await;
        check_write(
            Create,
            "nodes",
            "",
            node(json!({"a.node-restriction.kubernetes.io/x": ""}), json!([])),
            Value::Null,
            "following labels: a.node-restriction",
        )
        .await;
        check_write(
            Create,
            "nodes",
            "",
            node(json!({"own/label": "", "node.kubernetes.io/x": ""}), json!([])),
            Value::Null,
            "",
        )
        .await;

        let pod = |node: &str, owner: Value, extra: Value| {
            let mut pod = json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}, "ownerReferences": owner}, "spec": extra});
            pod["spec"]["nodeName"] = node.into();
            pod
        };
        let owner =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1-uid", "controller": true}]);
        check_write(
            Create,
            "pods",
            "",
            pod("n1", owner.clone(), json!({})),
            Value::Null,
            "",
        )
        .await;
        check_write(
            Create,
            "pods",
            "",
            pod("n2", owner.clone(), json!({})),
            Value::Null,
            "spec.nodeName set to itself",
        )
        .await;
        check_write(
            Create,
            "pods",
            "",
            pod("n1", json!([]), json!({})),
            Value::Null,
            "an owner reference",
        )
        .await;
        let steals = json!({"volumes": [{"secret": {"secretName": "x"}}]});
        check_write(
            Create,
            "pods",
            "",
            pod("n1", owner, steals),
            Value::Null,
            "secrets (via secret volumes)",
        )
        .await;
        check_write(
            Create,
            "pods",
            "",
            json!({"metadata": {}, "spec": {"nodeName": "n1"}}),
            Value::Null,
            "mirror",
        )
        .await;
        check_write(Delete, "pods", "mine", Value::Null, Value::Null, "").await;
        check_write(
            Delete,
            "pods",
            "theirs",
            Value::Null,
            Value::Null,
            "can only delete pods",
        )
        .await;
        let status = |node: &str, label: &str| json!({"metadata": {"labels": {"a": label}}, "spec": {"nodeName": node}});
        check_write(
            Update,
            "pods/status",
            "p",
            status("n1", "x"),
            status("n1", "x"),
            "",
        )
        .await;
        check_write(
            Update,
            "pods/status",
            "p",
            status("n1", "y"),
            status("n1", "x"),
            "cannot update labels",
        )
        .await;
        check_write(
            Update,
            "pods/status",
            "p",
            status("n2", "x"),
            status("n2", "x"),
            "can only update pod status",
        )
        .await;

        let lease = json!({"metadata": {"name": "n2"}});
        check_write(
            Create,
            "coordination.k8s.io:leases",
            "",
            lease,
            Value::Null,
            "same name as the requesting node",
        )
        .await;
        let request = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
        check_write(
            Create,
            "serviceaccounts/token",
            "sa",
            request("mine", "p-uid"),
            Value::Null,
            "",
        )
        .await;
        check_write(
            Create,
            "serviceaccounts/token",
            "sa",
            request("mine", "old"),
            Value::Null,
            "does not match the UID",
        )
        .await;
        check_write(
            Create,
            "serviceaccounts/token",
            "sa",
            request("theirs", "q-uid"),
            Value::Null,
            "different node",
        )
        .await;
        check_write(
            Create,
            "serviceaccounts/token",
            "sa",
            json!({"spec": {}}),
            Value::Null,
            "not bound to a pod",
        )
        .await;
    }
}
