//! From pods to endpoints and ports; pure.

use crate::shared::{is_deleting, pods, text};
use k8s_openapi::{
    api::{
        core::v1::{Container, ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use orch_core::{
    ObjectKey,
    informer::{Delta, Lister},
    selector::LabelSelector,
};
use std::net::IpAddr;

/// Whether a pod has addresses and has not ended.
pub(super) fn is_candidate(pod: &Pod) -> bool {
    !pods::is_terminal(pod) && !addresses(pod).is_empty()
}

/// A pod's addresses.
pub(crate) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut out: Vec<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
    if out.is_empty() {
        out.extend(status.pod_ip.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    }
    out
}

pub(crate) fn is_ipv6(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6())
}

/// Whether DNS gives the pod a name of its own under the Service.
pub(crate) fn sets_hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|h| !h.is_empty())?;
    (text(&spec.subdomain) == text(&service.metadata.name)).then_some(hostname)
}

pub(super) fn endpoint(pod: &Pod, service: &Service, ipv6: bool, zone: Option<&String>) -> Option<Endpoint> {
    let addresses: Vec<String> = addresses(pod)
        .into_iter()
        .filter(|ip| ip.is_ipv6() == ipv6)
        .map(|ip| ip.to_string())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (pods::is_ready(pod), is_deleting(&pod.metadata));
    let publish = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: sets_hostname(pod, service),
        node_name: pod
            .spec
            .as_ref()
            .and_then(|s| s.node_name.clone())
            .filter(|n| !n.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: zone.filter(|z| !z.is_empty()).cloned(),
        ..Endpoint::default()
    })
}

/// The number of a Service's port in a pod; a name is looked up in its containers, sidecars included.
pub(crate) fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(sidecar));
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

/// The ports of a Service in a pod, in a fixed order; those the pod does not have are left out.
pub(super) fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    let mut out: Vec<EndpointPort> = ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(text(&port.name).to_owned()),
                port: Some(find_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    out.sort_by_key(port_key);
    out
}

/// What tells ports apart.
pub(super) fn port_key(port: &EndpointPort) -> (String, String, i32, String) {
    let own = |s: &Option<String>| text(s).to_owned();
    (
        own(&port.name),
        own(&port.protocol),
        port.port.unwrap_or(0),
        own(&port.app_protocol),
    )
}

/// Whether a change of a pod can matter to a Service that selects it.
pub(super) fn relevant_change(old: &Pod, new: &Pod) -> bool {
    let name = |p: &Pod| {
        p.spec
            .as_ref()
            .map(|s| (s.hostname.clone(), s.subdomain.clone(), s.node_name.clone()))
    };
    old.metadata.labels != new.metadata.labels
        || is_deleting(&old.metadata) != is_deleting(&new.metadata)
        || old.metadata.uid != new.metadata.uid
        || pods::is_ready(old) != pods::is_ready(new)
        || pods::is_terminal(old) != pods::is_terminal(new)
        || addresses(old) != addresses(new)
        || name(old) != name(new)
}

/// The Services that a change of a pod concerns, by its labels before and after.
pub(crate) fn services_of(services: &Lister<Service>, delta: &Delta<Pod>) -> Vec<ObjectKey> {
    if delta
        .old()
        .is_some_and(|old| !relevant_change(old, delta.object()))
    {
        return Vec::new();
    }
    let candidates = services.list_in(text(&delta.object().metadata.namespace));
    let selects = |service: &&std::sync::Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        selector.is_some_and(|labels| {
            let selector = LabelSelector::from_labels(labels);
            delta
                .states()
                .any(|pod| selector.matches_opt(pod.metadata.labels.as_ref()))
        })
    };
    candidates
        .iter()
        .filter(selects)
        .map(|s| ObjectKey::of(&**s))
        .collect()
}
