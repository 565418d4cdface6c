//! Environment variables that tell where Services are.

use k8s_openapi::api::core::v1::Service;
use std::{collections::BTreeMap, sync::Arc};

fn cluster_ip(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// Variables for a pod in `namespace`: for the Services of its namespace if `links`, and always for the API server's.
#[must_use]
pub fn service_variables(
    services: &[Arc<Service>],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(name), Some(_)) = (service.metadata.name.as_deref(), cluster_ip(service)) else {
            continue;
        };
        let own = service.metadata.namespace.as_deref().unwrap_or("");
        if own == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if links && own == namespace {
            chosen.insert(name, service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in chosen {
        let Some(ip) = cluster_ip(service) else { continue };
        let prefix = variable(name);
        let ports = service
            .spec
            .as_ref()
            .and_then(|s| s.ports.as_deref())
            .unwrap_or_default();
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        for (index, port) in ports.iter().enumerate() {
            let protocol = port
                .protocol
                .as_deref()
                .filter(|p| !p.is_empty())
                .unwrap_or("TCP");
            let (number, lower) = (port.port.to_string(), protocol.to_lowercase());
            let host_port = if ip.contains(':') {
                format!("[{ip}]:{number}")
            } else {
                format!("{ip}:{number}")
            };
            if index == 0 {
                out.insert(format!("{prefix}_SERVICE_PORT"), number.clone());
                out.insert(format!("{prefix}_PORT"), format!("{lower}://{host_port}"));
            }
            if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(
                    format!("{prefix}_SERVICE_PORT_{}", variable(name)),
                    number.clone(),
                );
            }
            let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            out.insert(format!("{link}_PROTO"), lower.clone());
            out.insert(format!("{link}_PORT"), number);
            out.insert(format!("{link}_ADDR"), ip.to_owned());
            out.insert(link, format!("{lower}://{host_port}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": ip, "ports": [{"port": 80, "name": "my-http"}, {"port": 53, "protocol": "UDP"}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn variables() {
        let all = [
            service("default", "kubernetes", "10.0.0.1"),
            service("ns", "my-web", "10.0.0.2"),
            service("ns", "headless", "None"),
            service("other", "x", "10.0.0.3"),
        ];
        let with = service_variables(&all, "ns", true);
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("MY_WEB_SERVICE_HOST", "10.0.0.2"),
            ("MY_WEB_SERVICE_PORT", "80"),
            ("MY_WEB_SERVICE_PORT_MY_HTTP", "80"),
            ("MY_WEB_PORT", "tcp://10.0.0.2:80"),
            ("MY_WEB_PORT_80_TCP", "tcp://10.0.0.2:80"),
            ("MY_WEB_PORT_80_TCP_PROTO", "tcp"),
            ("MY_WEB_PORT_80_TCP_PORT", "80"),
            ("MY_WEB_PORT_80_TCP_ADDR", "10.0.0.2"),
            ("MY_WEB_PORT_53_UDP", "udp://10.0.0.2:53"),
        ] {
            assert_eq!(with.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(
            !with
                .keys()
                .any(|k| k.starts_with("X_") || k.starts_with("HEADLESS"))
        );
        let without = service_variables(&all, "ns", false);
        assert!(without.keys().all(|k| k.starts_with("KUBERNETES_")));
        assert!(!without.is_empty());
    }
}
