//! Tokens and certificates that a node asks for.

use super::{Access, Authorizer, NodeWrite, text};
use crate::tokens::ObjectLookup;
use base64::{Engine, prelude::BASE64_STANDARD};
use orch_core::Status;
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use serde_json::Value;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

pub(super) async fn token(
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

pub(super) fn signing_request(write: &NodeWrite<'_>, node: &str) -> Result<(), Status> {
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
