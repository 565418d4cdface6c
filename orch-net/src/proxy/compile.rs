//! The pure compiler from API objects to rules.

use super::table::{Protocol, RuleTable, ServiceName, ServiceRule};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Services with this label are somebody else's to proxy.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Compiles the rules of the machine whose nodes are those for which `is_local` holds.
///
/// Ready endpoints are used; when a service has none, endpoints that terminate but still serve are (KEP-1669).
/// Headless and `ExternalName` Services have no rules. What is malformed is left out: the API server validates.
#[must_use]
pub fn compile<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    is_local: impl Fn(&str) -> bool,
) -> RuleTable {
    let mut slices_of: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(service) = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(SERVICE_NAME_LABEL))
        {
            slices_of.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut table = RuleTable::default();
    for service in services {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let slices = slices_of.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
        compile_service(service, (namespace, name), slices, &is_local, &mut table);
    }
    table
}

fn compile_service(
    service: &Service,
    (namespace, name): (&str, &str),
    slices: &[&EndpointSlice],
    is_local: &dyn Fn(&str) -> bool,
    table: &mut RuleTable,
) {
    let Some(spec) = &service.spec else { return };
    let foreign = service
        .metadata
        .labels
        .as_ref()
        .is_some_and(|l| l.contains_key(PROXY_NAME_LABEL));
    if foreign || spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let mut cluster_ips: Vec<IpAddr> = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok())
        .collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(
            spec.cluster_ip
                .as_deref()
                .and_then(|ip| ip.parse::<IpAddr>().ok()),
        );
    }
    if cluster_ips.is_empty() {
        return;
    }
    let ingress = service
        .status
        .iter()
        .flat_map(|s| &s.load_balancer)
        .flat_map(|l| l.ingress.iter().flatten());
    let external_ips: Vec<IpAddr> = spec
        .external_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok())
        .chain(ingress.filter_map(|i| i.ip.as_deref()?.parse().ok()))
        .collect();
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let seconds = spec
            .session_affinity_config
            .as_ref()
            .and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        Duration::from_secs(u64::try_from(seconds.unwrap_or(10800)).unwrap_or(10800))
    });
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) = (
            Protocol::parse(port.protocol.as_deref()),
            u16::try_from(port.port),
        ) else {
            continue;
        };
        let port_name = port.name.clone().unwrap_or_default();
        let chosen = choose_endpoints(slices, &port_name, protocol, is_local);
        table.services.insert(
            ServiceName {
                namespace: namespace.into(),
                name: name.into(),
                port: port_name,
                protocol,
            },
            ServiceRule {
                port: number,
                cluster_ips: cluster_ips.clone(),
                external_ips: external_ips.clone(),
                node_port: port
                    .node_port
                    .and_then(|p| u16::try_from(p).ok())
                    .filter(|p| *p != 0),
                endpoints: chosen.all,
                local_endpoints: chosen.local,
                internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
                external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
                affinity,
            },
        );
    }
}

struct Chosen {
    all: Vec<SocketAddr>,
    local: Vec<SocketAddr>,
}

fn choose_endpoints(
    slices: &[&EndpointSlice],
    port_name: &str,
    protocol: Protocol,
    is_local: &dyn Fn(&str) -> bool,
) -> Chosen {
    let (mut ready, mut terminating) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or_default() == port_name
                && Protocol::parse(p.protocol.as_deref()) == Some(protocol)
        });
        let Some(number) = port.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let local = endpoint.node_name.as_deref().is_some_and(is_local);
            let addresses = endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok());
            let into = match state_of(endpoint) {
                State::Ready => &mut ready,
                State::ServingWhileTerminating => &mut terminating,
                State::Unusable => continue,
            };
            // Addresses of one endpoint are interchangeable; upstream uses the first.
            into.extend(addresses.take(1).map(|ip| (SocketAddr::new(ip, number), local)));
        }
    }
    let pick = |local_only: bool| -> Vec<SocketAddr> {
        let of = |set: &BTreeSet<(SocketAddr, bool)>| -> Vec<SocketAddr> {
            set.iter()
                .filter(|(_, local)| *local || !local_only)
                .map(|(a, _)| *a)
                .collect()
        };
        let chosen = of(&ready);
        if chosen.is_empty() {
            of(&terminating)
        } else {
            chosen
        }
    };
    Chosen {
        all: pick(false),
        local: pick(true),
    }
}

enum State {
    Ready,
    ServingWhileTerminating,
    Unusable,
}

fn state_of(endpoint: &Endpoint) -> State {
    let Some(conditions) = &endpoint.conditions else {
        return State::Ready;
    };
    let terminating = conditions.terminating.unwrap_or(false);
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    match (ready && !terminating, serving && terminating) {
        (true, _) => State::Ready,
        (_, true) => State::ServingWhileTerminating,
        _ => State::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}))
            .unwrap()
    }

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "default", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints
        }))
        .unwrap()
    }

    fn check(spec: serde_json::Value, endpoints: serde_json::Value, expect: &[&str], expect_local: &[&str]) {
        let table = compile([&service(spec)], [&slice(endpoints)], |n| n == "n1");
        let (_, rule) = table.services.first_key_value().expect("one rule");
        let text = |v: &[SocketAddr]| v.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&rule.endpoints), expect);
        assert_eq!(text(&rule.local_endpoints), expect_local);
    }

    #[test]
    fn ready_endpoints_win_and_terminating_ones_are_the_fallback() {
        let spec = json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]});
        check(
            spec.clone(),
            json!([
                {"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "nodeName": "n2"},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.4"], "conditions": {"ready": false}}
            ]),
            &["10.0.0.1:8080", "10.0.0.2:8080"],
            &["10.0.0.1:8080"],
        );
        check(
            spec,
            json!([
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.4"], "conditions": {"ready": false, "serving": false, "terminating": true}}
            ]),
            &["10.0.0.3:8080"],
            &[],
        );
    }

    #[test]
    fn headless_and_external_name_services_have_no_rules() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "a.example", "ports": [{"port": 80}]}),
        ] {
            assert!(compile([&service(spec)], [], |n| n == "n1").services.is_empty());
        }
    }

    #[test]
    fn affinity_and_policies_are_read() {
        let s = service(json!({
            "clusterIP": "10.96.0.9", "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
            "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]
        }));
        let table = compile([&s], [], |n| n == "n1");
        let (name, rule) = table.services.first_key_value().unwrap();
        assert_eq!(name.protocol, Protocol::Udp);
        assert_eq!(rule.node_port, Some(30053));
        assert!(rule.external_local && !rule.internal_local);
        assert_eq!(rule.affinity, Some(Duration::from_secs(10800)));
    }
}
