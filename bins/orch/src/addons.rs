//! What an Orch cluster has beside upstream's own first objects: the DNS Service, and the right of nodes to follow what
//! their proxy and DNS need.

use ipnet::Ipv4Net;
use orch_core::{
    ApiClient, Status,
    client::{ApiRequest, PatchKind},
};
use orch_net::feed::foreign_proxy_label;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, sync::Arc};

/// The address of cluster DNS: the tenth of the service range, as upstream's installers choose it.
#[must_use]
pub fn dns_ip(service_cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(service_cidr.network()).saturating_add(10))
}

/// Applies the objects; may repeat.
pub(crate) async fn ensure(client: &Arc<dyn ApiClient>, service_cidr: Ipv4Net) -> Result<(), Status> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    for (path, object) in [
        (format!("{rbac}/clusterroles/orch:node-network"), role()),
        (format!("{rbac}/clusterrolebindings/orch:node-network"), binding()),
        (
            "/api/v1/namespaces/kube-system/services/kube-dns".to_owned(),
            dns_service(service_cidr),
        ),
    ] {
        let mut request = ApiRequest::new(http::Method::PATCH, path).value(object);
        let media_type = http::HeaderValue::from_static(PatchKind::Apply.media_type());
        request.headers.insert(http::header::CONTENT_TYPE, media_type);
        client
            .call(request.param("fieldManager", "orch").param("force", "true"))
            .await?;
    }
    Ok(())
}

fn role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "orch:node-network"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces", "nodes"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        ],
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "orch:node-network"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "orch:node-network"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    })
}

fn dns_service(service_cidr: Ipv4Net) -> Value {
    // Every node answers on this address itself (see `orch_net::feed`), so no proxy may take it.
    let (label, proxy) = foreign_proxy_label();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS", label: proxy,
        }},
        "spec": {
            "clusterIP": dns_ip(service_cidr).to_string(),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}
