//! The records of a cluster, as a pure view of its Services and EndpointSlices.

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// What a name inside the cluster domain leads to. Names are without the cluster domain's suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Addresses (possibly none of the family asked for).
    Addresses(Vec<IpAddr>),
    /// SRV targets: port and full target name, with the addresses of each.
    Services(Vec<(u16, String, Vec<IpAddr>)>),
    /// Another name (an `ExternalName` Service).
    Alias(String),
    /// The name exists but has no records itself.
    Empty,
    /// No such name.
    Nothing,
}

#[derive(Debug, Default)]
struct ServiceRecords {
    /// Cluster IPs; empty for a headless Service.
    cluster_ips: Vec<IpAddr>,
    external_name: Option<String>,
    /// Port name and protocol to number.
    ports: BTreeMap<(String, String), u16>,
    /// Host name of each ready endpoint to its addresses (headless only).
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Port name and protocol to number, per host (headless only).
    host_ports: BTreeMap<(String, String), BTreeSet<(String, u16)>>,
}

/// All records of a cluster at one moment.
#[derive(Debug, Default)]
pub struct Zone {
    domain: String,
    services: BTreeMap<(String, String), ServiceRecords>,
    namespaces: BTreeSet<String>,
    pointers: BTreeMap<IpAddr, Vec<String>>,
}

impl Zone {
    /// Builds the view for the cluster domain `domain` (such as `cluster.local`).
    pub fn build(
        domain: &str,
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
        namespaces: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut zone = Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            namespaces: namespaces.into_iter().collect(),
            ..Self::default()
        };
        for service in services {
            zone.add_service(service);
        }
        for slice in slices {
            zone.add_slice(slice);
        }
        zone
    }

    /// The cluster domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    fn full_name(&self, namespace: &str, service: &str) -> String {
        format!("{service}.{namespace}.svc.{}.", self.domain)
    }

    fn add_service(&mut self, service: &Service) {
        let (Some(name), Some(namespace), Some(spec)) =
            (&service.metadata.name, &service.metadata.namespace, &service.spec)
        else {
            return;
        };
        let mut records = ServiceRecords::default();
        if spec.type_.as_deref() == Some("ExternalName") {
            records.external_name.clone_from(&spec.external_name);
        } else {
            let ips = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter());
            let parsed: BTreeSet<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
            records.cluster_ips = parsed.into_iter().collect();
            for port in spec.ports.iter().flatten() {
                let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
                if let Ok(number) = u16::try_from(port.port) {
                    records
                        .ports
                        .insert((port.name.clone().unwrap_or_default(), protocol), number);
                }
            }
        }
        let full = self.full_name(namespace, name);
        for ip in &records.cluster_ips {
            self.pointers.entry(*ip).or_default().push(full.clone());
        }
        self.namespaces.insert(namespace.clone());
        self.services.insert((namespace.clone(), name.clone()), records);
    }

    fn add_slice(&mut self, slice: &EndpointSlice) {
        let Some(namespace) = &slice.metadata.namespace else {
            return;
        };
        let Some(service) = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get("kubernetes.io/service-name"))
        else {
            return;
        };
        let full = self.full_name(namespace, service);
        let Some(records) = self.services.get_mut(&(namespace.clone(), service.clone())) else {
            return;
        };
        if !records.cluster_ips.is_empty() || records.external_name.is_some() {
            return;
        }
        for endpoint in slice.endpoints.iter().flatten() {
            if !endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true) {
                continue;
            }
            for ip in endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()) {
                let named = endpoint.hostname.clone().filter(|h| !h.is_empty());
                let host = named
                    .clone()
                    .unwrap_or_else(|| ip.to_string().replace(['.', ':'], "-"));
                records.hosts.entry(host.clone()).or_default().insert(ip);
                for port in slice.ports.iter().flatten() {
                    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
                    if let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) {
                        let key = (port.name.clone().unwrap_or_default(), protocol);
                        records
                            .host_ports
                            .entry(key)
                            .or_default()
                            .insert((host.clone(), number));
                    }
                }
                if named.is_some() {
                    self.pointers
                        .entry(ip)
                        .or_default()
                        .push(format!("{host}.{full}"));
                }
            }
        }
    }

    /// The names that an address leads to.
    #[must_use]
    pub fn reverse(&self, ip: IpAddr) -> &[String] {
        self.pointers.get(&ip).map_or(&[], Vec::as_slice)
    }

    /// Looks up a name inside the cluster domain; `labels` are its labels in lower case before that domain.
    #[must_use]
    pub fn lookup(&self, labels: &[&str]) -> Found {
        match labels {
            [] | ["svc" | "pod"] => Found::Empty,
            ["dns-version"] => Found::Nothing,
            [namespace, "svc" | "pod"] => self.namespace(namespace),
            [ip, namespace, "pod"] => match parse_dashed(ip) {
                Some(ip) if self.namespaces.contains(*namespace) => Found::Addresses(vec![ip]),
                _ => Found::Nothing,
            },
            [service, namespace, "svc"] => self.service(namespace, service),
            [host, service, namespace, "svc"] => self.host(namespace, service, host),
            [port, protocol, service, namespace, "svc"] => self.port(namespace, service, port, protocol),
            _ => Found::Nothing,
        }
    }

    fn namespace(&self, namespace: &str) -> Found {
        if self.namespaces.contains(namespace) {
            Found::Empty
        } else {
            Found::Nothing
        }
    }

    fn records(&self, namespace: &str, service: &str) -> Option<&ServiceRecords> {
        self.services.get(&(namespace.to_owned(), service.to_owned()))
    }

    fn service(&self, namespace: &str, service: &str) -> Found {
        let Some(records) = self.records(namespace, service) else {
            return Found::Nothing;
        };
        if let Some(name) = &records.external_name {
            return Found::Alias(name.clone());
        }
        if !records.cluster_ips.is_empty() {
            return Found::Addresses(records.cluster_ips.clone());
        }
        let ips: BTreeSet<IpAddr> = records.hosts.values().flatten().copied().collect();
        // A headless Service without endpoints does not exist for clients, as with CoreDNS.
        if ips.is_empty() {
            Found::Nothing
        } else {
            Found::Addresses(ips.into_iter().collect())
        }
    }

    fn host(&self, namespace: &str, service: &str, host: &str) -> Found {
        let Some(records) = self.records(namespace, service) else {
            return Found::Nothing;
        };
        if let Some(ips) = records.hosts.get(host) {
            return Found::Addresses(ips.iter().copied().collect());
        }
        // `_tcp.web.default.svc` exists without records of its own.
        let protocol = host.strip_prefix('_');
        if protocol.is_some_and(|p| records.ports.keys().any(|(_, q)| q == p)) {
            Found::Empty
        } else {
            Found::Nothing
        }
    }

    fn port(&self, namespace: &str, service: &str, port: &str, protocol: &str) -> Found {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Found::Nothing;
        };
        let Some(records) = self.records(namespace, service) else {
            return Found::Nothing;
        };
        let key = (port.to_owned(), protocol.to_owned());
        let full = self.full_name(namespace, service);
        if !records.cluster_ips.is_empty() {
            return match records.ports.get(&key) {
                Some(number) => Found::Services(vec![(*number, full, records.cluster_ips.clone())]),
                None => Found::Nothing,
            };
        }
        let targets: Vec<_> = records
            .host_ports
            .get(&key)
            .into_iter()
            .flatten()
            .map(|(host, number)| {
                let ips = records.hosts.get(host).into_iter().flatten().copied().collect();
                (*number, format!("{host}.{full}"), ips)
            })
            .collect();
        if targets.is_empty() {
            Found::Nothing
        } else {
            Found::Services(targets)
        }
    }
}

fn parse_dashed(text: &str) -> Option<IpAddr> {
    text.replace('-', ".")
        .parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .ok()
        .or_else(|| text.replace('-', ":").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn zone() -> Zone {
        let service = |v: serde_json::Value| Arc::new(serde_json::from_value::<Service>(v).unwrap());
        let services = [
            service(
                json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.9",
                "ports": [{"name": "http", "port": 80}]}}),
            ),
            service(
                json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"clusterIP": "None",
                "ports": [{"name": "sql", "port": 5432}]}}),
            ),
            service(json!({"metadata": {"name": "out", "namespace": "default"},
                "spec": {"type": "ExternalName", "externalName": "example.org"}})),
            service(
                json!({"metadata": {"name": "none", "namespace": "default"}, "spec": {"clusterIP": "None"}}),
            ),
        ];
        let slices = [Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "db-1", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
                "ports": [{"name": "sql", "port": 5432}],
                "endpoints": [{"addresses": ["10.0.0.5"], "hostname": "db-0"}, {"addresses": ["10.0.0.6"]},
                    {"addresses": ["10.0.0.7"], "conditions": {"ready": false}}]}))
            .unwrap(),
        )];
        Zone::build("cluster.local", &services, &slices, ["empty".to_owned()])
    }

    fn check(name: &str, expect: Found) {
        let labels: Vec<&str> = name.split('.').collect();
        assert_eq!(zone().lookup(&labels), expect, "{name}");
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn names_follow_the_specification() {
        check("web.default.svc", Found::Addresses(ips(&["10.96.0.9"])));
        check("db.default.svc", Found::Addresses(ips(&["10.0.0.5", "10.0.0.6"])));
        check("db-0.db.default.svc", Found::Addresses(ips(&["10.0.0.5"])));
        check("10-0-0-6.db.default.svc", Found::Addresses(ips(&["10.0.0.6"])));
        check("db-1.db.default.svc", Found::Nothing);
        check("out.default.svc", Found::Alias("example.org".into()));
        check("none.default.svc", Found::Nothing);
        check("absent.default.svc", Found::Nothing);
        check("empty.svc", Found::Empty);
        check("absent.svc", Found::Nothing);
        check("1-2-3-4.default.pod", Found::Addresses(ips(&["1.2.3.4"])));
        check("a-b.default.pod", Found::Nothing);
        check(
            "_http._tcp.web.default.svc",
            Found::Services(vec![(
                80,
                "web.default.svc.cluster.local.".into(),
                ips(&["10.96.0.9"]),
            )]),
        );
        check(
            "_sql._tcp.db.default.svc",
            Found::Services(vec![
                (
                    5432,
                    "10-0-0-6.db.default.svc.cluster.local.".into(),
                    ips(&["10.0.0.6"]),
                ),
                (
                    5432,
                    "db-0.db.default.svc.cluster.local.".into(),
                    ips(&["10.0.0.5"]),
                ),
            ]),
        );
        check("_http._udp.web.default.svc", Found::Nothing);
        assert_eq!(
            zone().reverse("10.96.0.9".parse().unwrap()),
            ["web.default.svc.cluster.local."]
        );
    }
}
