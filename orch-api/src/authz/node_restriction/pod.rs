//! Mirror pods and the status of a node's own pods.

use super::{NodeWrite, differ, text};
use crate::{admission::Operation, tokens::ObjectLookup};
use orch_core::Status;
use serde_json::Value;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) async fn pod(write: &NodeWrite<'_>, node: &str, objects: &dyn ObjectLookup) -> Result<(), Status> {
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

pub(super) fn pod_status(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
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
