//! Where a proxied request goes: to a pod, to a node, to a pod behind a service.

use super::{
    Kubelet,
    dial::Target,
    location::{ProxyName, is_reachable, kubelet_address, proxy_name},
    passed_on,
};
use crate::{
    server::{ApiServer, ConnectContext},
    tokens::ObjectLookup,
};
use orch_core::{
    Object, Status, UserInfo,
    client::{ApiRequest, ResponseBody},
};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

impl Kubelet {
    /// Target and request of a `proxy` subresource.
    pub(super) async fn proxied(
        &self,
        context: ConnectContext<'_>,
        request: ApiRequest,
    ) -> Result<(Target, ApiRequest), Status> {
        let info = context.info;
        let target = match info.resource.as_str() {
            "pods" => pod(context.server, &info.namespace, proxy_name(&info.name, "pod")?).await?,
            "nodes" => node(context.server, proxy_name(&info.name, "node")?).await?,
            _ => service(context.server, &info.namespace, &info.name).await?,
        };
        let headers = passed_on(&request.headers);
        let path = format!("/{}", info.rest);
        Ok((
            target,
            ApiRequest {
                path,
                headers,
                ..request
            },
        ))
    }
}

fn port_number(port: &str) -> Result<u16, Status> {
    port.parse()
        .map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

async fn pod(server: &ApiServer, namespace: &str, name: ProxyName<'_>) -> Result<Target, Status> {
    let pod = server.lookup("pods", namespace, name.name).await?;
    let value = pod.value();
    let first_port = || {
        array(value, "/spec/containers")
            .filter_map(|c| array(c, "/ports").next())
            .find_map(|p| u16::try_from(p.get("containerPort")?.as_u64()?).ok())
    };
    let port = match name.port {
        "" => first_port().unwrap_or(if name.https { 443 } else { 80 }),
        port => port_number(port)?,
    };
    let ip = text(value, "/status/podIP");
    match ip.parse::<IpAddr>() {
        Ok(parsed) if is_reachable(&parsed) => Ok(Target::pod(ip.to_owned(), port, name.https)),
        _ => Err(Status::bad_request("address not allowed")),
    }
}

async fn node(server: &ApiServer, name: ProxyName<'_>) -> Result<Target, Status> {
    let node = server.lookup("nodes", "", name.name).await?;
    let (host, kubelet_port) = kubelet_address(&node)?;
    if name.port.is_empty() || name.port == kubelet_port.to_string() {
        return Ok(Target::kubelet(host, kubelet_port));
    }
    // Another port of the node: an address that leads back to this host would be a way around its firewall.
    match host.parse::<IpAddr>() {
        Ok(ip) if is_reachable(&ip) => Ok(Target::pod(host, port_number(name.port)?, name.https)),
        _ => Err(Status::bad_request("address not allowed")),
    }
}

async fn service(server: &ApiServer, namespace: &str, id: &str) -> Result<Target, Status> {
    let name = proxy_name(id, "service")?;
    let service = server.lookup("services", namespace, name.name).await?;
    let mut port_name = name.port.to_owned();
    if let Ok(number) = name.port.parse::<u64>() {
        let declared = array(service.value(), "/spec/ports")
            .find(|p| p.get("port").and_then(Value::as_u64) == Some(number));
        let Some(declared) = declared else {
            let what = name.name;
            return Err(Status::unavailable(format!(
                "no service port {number} found for service {what:?}"
            )));
        };
        port_name = text(declared, "/name").to_owned();
    }
    let slices = slices(server, namespace, name.name).await?;
    let mut candidates = Vec::new();
    for slice in &slices {
        let port = array(slice.value(), "/ports").find(|p| text(p, "/name") == port_name);
        let Some(port) = port
            .and_then(|p| p.get("port"))
            .and_then(Value::as_u64)
            .and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        for endpoint in array(slice.value(), "/endpoints") {
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
            let address = array(endpoint, "/addresses").next().and_then(Value::as_str);
            let target = (
                text(endpoint, "/targetRef/kind"),
                text(endpoint, "/targetRef/name"),
            );
            if let (true, Some(address), ("Pod", pod)) = (ready, address, target) {
                candidates.push((address.to_owned(), port, pod.to_owned()));
            }
        }
    }
    // From a random one on, so that proxied requests spread; only to addresses that really are a pod's.
    let rng = &server.env().rng;
    let start = usize::try_from(rng.below(candidates.len() as u64)).unwrap_or_default();
    for i in 0..candidates.len() {
        let (address, port, pod) = &candidates[(start + i) % candidates.len()];
        let Ok(pod) = server.lookup("pods", namespace, pod).await else {
            continue;
        };
        let own = array(pod.value(), "/status/podIPs").any(|ip| text(ip, "/ip") == address)
            || text(pod.value(), "/status/podIP") == address;
        if own && address.parse::<IpAddr>().is_ok_and(|ip| is_reachable(&ip)) {
            return Ok(Target::pod(address.clone(), *port, name.https));
        }
    }
    Err(Status::unavailable(format!(
        "no endpoints available for service {id:?}"
    )))
}

async fn slices(server: &ApiServer, namespace: &str, service: &str) -> Result<Vec<Arc<Object>>, Status> {
    let user = UserInfo::new("system:apiserver", &["system:masters"]);
    let request = ApiRequest::get(format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    ))
    .param("labelSelector", format!("kubernetes.io/service-name={service}"))
    .param("resourceVersion", "0");
    match server.call(&user, request).await?.body {
        ResponseBody::List { items, .. } => Ok(items),
        _ => Ok(Vec::new()),
    }
}
