//! The downward API: values of a pod's own fields and resources.

use super::EnvError;
use crate::agent::spec;
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use orch_core::quantity::Quantity;
use std::{collections::BTreeMap, net::IpAddr};

/// What the node knows and the pod object may not say yet.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// Addresses of the node, the primary one first.
    pub node_ips: Vec<IpAddr>,
    /// Addresses of the pod, the primary one first.
    pub pod_ips: Vec<IpAddr>,
    /// What the node has to give: what an absent limit means.
    pub allocatable: BTreeMap<String, ApiQuantity>,
}

fn join(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A map as the downward API writes it: `key="value"` lines in order of key.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The value of a field of the pod.
///
/// # Errors
/// [`EnvError::Field`] for a path that the downward API does not have.
pub fn field(pod: &Pod, path: &str, facts: &NodeFacts) -> Result<String, EnvError> {
    let meta = &pod.metadata;
    if let Some((map, rest)) = path.split_once('[') {
        let key = rest.strip_suffix(']').map(|k| k.trim_matches(['\'', '"']));
        let map = match map {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => {
                return Err(EnvError::Field(format!(
                    "fieldPath {path:?} does not support subscript"
                )));
            }
        };
        let key = key.ok_or_else(|| EnvError::Field(format!("unsupported fieldPath: {path}")))?;
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let spec = spec::spec(pod);
    let ip = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => ip(&facts.node_ips),
        "status.hostIPs" => join(&facts.node_ips),
        "status.podIP" => ip(&facts.pod_ips),
        "status.podIPs" => join(&facts.pod_ips),
        _ => return Err(EnvError::Field(format!("unsupported fieldPath: {path}"))),
    })
}

/// The value of a resource field of a container, in units of its divisor, rounded up.
///
/// # Errors
/// [`EnvError::Field`] for a resource or container that there is not.
pub fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    facts: &NodeFacts,
) -> Result<String, EnvError> {
    let named;
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        None => own,
        Some(name) => {
            named = spec::find_container(pod, name).map(|(_, _, c)| c);
            named
                .as_ref()
                .ok_or_else(|| EnvError::Field(format!("container {name} not found")))?
        }
    };
    let unsupported = || EnvError::Field(format!("unsupported container resource : {}", selector.resource));
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.clone().unwrap_or_default();
    let amount = match list {
        "requests" => resources.requests.unwrap_or_default().get(name).cloned(),
        "limits" => {
            let limits = resources.limits.unwrap_or_default();
            // A container without a limit may use what the node has.
            limits
                .get(name)
                .filter(|q| !is_zero(q))
                .or_else(|| facts.allocatable.get(name))
                .cloned()
        }
        _ => return Err(unsupported()),
    };
    let amount = amount
        .as_ref()
        .and_then(|q| Quantity::try_from(q).ok())
        .unwrap_or_default();
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|q| Quantity::try_from(q).ok())
        .filter(|d| d.sign() > 0);
    let divisor = divisor.map_or(1_000_000_000, |d| d.nanos());
    let (n, d) = (amount.nanos(), divisor);
    Ok((n / d + i128::from(n % d > 0)).to_string())
}

fn is_zero(q: &ApiQuantity) -> bool {
    Quantity::try_from(q).is_ok_and(|q| q.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> (Pod, NodeFacts) {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "1\"x"}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}}}]},
        }));
        let facts = NodeFacts {
            node_ips: vec!["1.1.1.1".parse().unwrap()],
            pod_ips: vec!["2.2.2.2".parse().unwrap(), "fd00::1".parse().unwrap()],
            allocatable: [("memory".to_owned(), ApiQuantity("1Gi".into()))].into(),
        };
        (pod.unwrap(), facts)
    }

    #[test]
    fn fields() {
        let (pod, facts) = example();
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "a=\"1\\\"x\"\nb=\"2\""),
            ("status.podIPs", "2.2.2.2,fd00::1"),
            ("status.hostIP", "1.1.1.1"),
            ("spec.serviceAccountName", "sa"),
        ] {
            assert_eq!(field(&pod, path, &facts).unwrap(), expected, "{path}");
        }
        for bad in ["spec.priority", "spec.nodeName['a']", "metadata.labels['a'"] {
            assert!(field(&pod, bad, &facts).is_err(), "{bad}");
        }
    }

    #[test]
    fn resources_round_up_and_fall_back_to_the_node() {
        let (pod, facts) = example();
        let own = &spec::spec(&pod).containers[0];
        for (resource_name, divisor, expected) in [
            ("limits.cpu", "", Some("2")),
            ("limits.cpu", "1m", Some("1500")),
            ("requests.memory", "1Mi", Some("100")),
            ("limits.memory", "1Mi", Some("1024")),
            ("requests.cpu", "", Some("0")),
            ("limits.gpu", "", None),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: (!divisor.is_empty()).then(|| ApiQuantity(divisor.into())),
                ..ResourceFieldSelector::default()
            };
            let got = resource(&pod, own, &selector, &facts).ok();
            assert_eq!(got.as_deref(), expected, "{resource_name} / {divisor}");
        }
    }
}
