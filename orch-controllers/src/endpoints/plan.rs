//! The Endpoints object that a Service should have; pure.

use crate::{
    endpointslice::{find_port, is_ipv6, sets_hostname},
    shared::{is_deleting, pods, text},
};
use k8s_openapi::{
    api::core::v1::{
        EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{collections::BTreeMap, sync::Arc};

pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const CAPACITY: usize = 1000;

/// A port, as a key; `None` for a headless Service without ports.
type PortKey = Option<(String, String, i32, String)>;
/// Addresses by IP and pod, with whether they are ready.
type Addresses = BTreeMap<(String, String), (EndpointAddress, bool)>;

/// The object to write, or `None` if `current` is right.
pub(super) fn plan(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let subsets = Some(subsets).filter(|s| !s.is_empty());
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if matches!(
        service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()),
        None | Some("" | "None")
    ) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let mut annotations = current
        .and_then(|c| c.metadata.annotations.clone())
        .unwrap_or_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    let mut metadata = current.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |c| c.metadata.clone(),
    );
    metadata.labels = Some(labels);
    metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
    let wanted = Endpoints { metadata, subsets };
    let same = current.is_some_and(|c| {
        let sets = |e: &Endpoints| e.subsets.clone().filter(|s| !s.is_empty());
        sets(c) == wanted.subsets && c.metadata == wanted.metadata
    });
    (!same).then_some(wanted)
}

fn wants_ipv6(service: &Service, pod: &Pod) -> bool {
    let spec = service.spec.clone().unwrap_or_default();
    match spec.ip_families.as_ref().and_then(|f| f.first()) {
        Some(family) => family == "IPv6",
        None => match spec.cluster_ip.as_deref() {
            None | Some("" | "None") => pod
                .status
                .as_ref()
                .and_then(|s| s.pod_ip.as_deref())
                .is_some_and(is_ipv6),
            Some(ip) => is_ipv6(ip),
        },
    }
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let status = pod.status.as_ref()?;
    let ipv6 = wants_ipv6(service, pod);
    let mut ips = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| &ip.ip)
        .chain(status.pod_ip.iter());
    let ip = ips.find(|ip| !ip.is_empty() && is_ipv6(ip) == ipv6)?;
    Some(EndpointAddress {
        ip: ip.clone(),
        hostname: sets_hostname(pod, service),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// Subsets in canonical form: ports with the same addresses share one.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.clone().unwrap_or_default();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let ports = spec.ports.unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let mut by_port: BTreeMap<PortKey, Addresses> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|p| !pods::is_terminal(p) && (publish || !is_deleting(&p.metadata)))
    {
        let Some(address) = address(service, pod) else {
            continue;
        };
        let ready = publish || pods::is_ready(pod);
        let mut add = |port: PortKey| {
            let key = (address.ip.clone(), text(&pod.metadata.uid).to_owned());
            by_port
                .entry(port)
                .or_default()
                .insert(key, (address.clone(), ready));
        };
        if ports.is_empty() && headless {
            add(None);
        }
        for port in &ports {
            if let Some(number) = find_port(pod, port) {
                let own = |s: &Option<String>| text(s).to_owned();
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
                add(Some((own(&port.name), protocol, number, own(&port.app_protocol))));
            }
        }
    }
    let mut out: Vec<(Addresses, Vec<EndpointPort>)> = Vec::new();
    for (port, addresses) in by_port {
        let port = port.map(|(name, protocol, port, app)| EndpointPort {
            name: Some(name).filter(|n| !n.is_empty()),
            protocol: Some(protocol),
            port,
            app_protocol: Some(app).filter(|a| !a.is_empty()),
        });
        match out.iter_mut().find(|(known, _)| *known == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => out.push((addresses, port.into_iter().collect())),
        }
    }
    let list = |addresses: &Addresses, ready: bool| {
        let of_kind = addresses
            .values()
            .filter(|(_, r)| *r == ready)
            .map(|(a, _)| a.clone());
        Some(of_kind.collect::<Vec<_>>()).filter(|a| !a.is_empty())
    };
    out.into_iter()
        .map(|(addresses, ports)| EndpointSubset {
            addresses: list(&addresses, true),
            not_ready_addresses: list(&addresses, false),
            ports: Some(ports).filter(|p| !p.is_empty()),
        })
        .collect()
}

/// Cuts the addresses to the capacity: ready ones are kept first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let total: usize = subsets
        .iter()
        .map(|s| count(&s.addresses) + count(&s.not_ready_addresses))
        .sum();
    if total <= CAPACITY {
        return (subsets, false);
    }
    let mut room = CAPACITY;
    let mut cut = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = list {
            addresses.truncate(room);
            room -= addresses.len();
        }
        *list = list.take().filter(|l| !l.is_empty());
    };
    subsets.iter_mut().for_each(|s| cut(&mut s.addresses));
    subsets.iter_mut().for_each(|s| cut(&mut s.not_ready_addresses));
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (subsets, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_core::testing::builders::pod;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n"},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [
                {"name": "a", "port": 80, "targetPort": 8080}, {"name": "b", "port": 81, "targetPort": "named"}]},
        }))
        .unwrap()
    }

    #[test]
    fn ports_with_the_same_addresses_share_a_subset() {
        let both = |name: &str, ip: &str| pod("n", name).node("x").ip(ip).port("named", 9).ready();
        let pods: Vec<Arc<Pod>> = [
            both("p1", "10.1.0.1").build(),
            both("p2", "10.1.0.2").build(),
            pod("n", "p3").node("x").ip("10.1.0.3").phase("Running").build(),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let all = plan(&service(), &pods[..2], None).unwrap();
        let subsets = all.subsets.as_ref().unwrap();
        assert_eq!((subsets.len(), subsets[0].ports.as_ref().unwrap().len()), (1, 2));
        assert_eq!(plan(&service(), &pods[..2], Some(&all)), None, "settled");
        let split = plan(&service(), &pods, Some(&all)).unwrap();
        let subsets = split.subsets.as_ref().unwrap();
        assert_eq!(subsets.len(), 2);
        assert_eq!(subsets[0].not_ready_addresses.as_ref().map(Vec::len), Some(1));
        assert_eq!(subsets[1].not_ready_addresses, None);
        assert_eq!(split.metadata.labels.unwrap()[MANAGED_BY], "endpoint-controller");
    }

    #[test]
    fn capacity() {
        let pods: Vec<Arc<Pod>> = (0..1200)
            .map(|n| {
                let p = pod("n", &format!("p{n}"))
                    .node("x")
                    .ip(&format!("10.1.{}.{}", n / 250, n % 250 + 1));
                Arc::new(if n < 100 { p.phase("Running") } else { p.ready() }.build())
            })
            .collect();
        let mut service = service();
        service.spec.as_mut().unwrap().ports.as_mut().unwrap().truncate(1);
        let all = plan(&service, &pods, None).unwrap();
        let subset = &all.subsets.as_ref().unwrap()[0];
        assert_eq!(
            (
                subset.addresses.as_ref().map(Vec::len),
                subset.not_ready_addresses.as_ref()
            ),
            (Some(1000), None)
        );
        assert_eq!(all.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
