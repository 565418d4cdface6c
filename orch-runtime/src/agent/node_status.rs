//! The Node object as the agent writes it; pure.

use super::{
    backoff::elapsed,
    config::NodeConfig,
    machine::{MachineFacts, Pressure},
    status::time,
};
use crate::runtime::{Image, RuntimeInfo};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
        NodeSpec, NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use orch_core::quantity::{Format, Quantity as Amount};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// Version that the node reports as its agent's: the API version it is compatible with, and its own.
pub const VERSION: &str = concat!("v1.36.0+orch", env!("CARGO_PKG_VERSION"));

/// At most so many images are listed.
const IMAGES: usize = 50;

/// What a node's status is computed from.
#[derive(Debug)]
pub struct NodeInputs<'a> {
    /// Settings.
    pub config: &'a NodeConfig,
    /// The machine.
    pub facts: &'a MachineFacts,
    /// What it is short of.
    pub pressure: Pressure,
    /// What the runtime says, or why it says nothing.
    pub runtime: &'a Result<RuntimeInfo, String>,
    /// Why the pod network is not ready; `None` when it is.
    pub network_not_ready: Option<&'a str>,
    /// Images of the node.
    pub images: &'a [Image],
    /// The agent is going away.
    pub shutting_down: bool,
    /// Now.
    pub now: Timestamp,
}

/// Labels that the node always has, and the configured ones.
#[must_use]
pub fn labels(config: &NodeConfig, facts: &MachineFacts) -> BTreeMap<String, String> {
    let fixed = [
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &facts.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &facts.architecture),
    ];
    let mut labels: BTreeMap<String, String> = fixed
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    labels.extend(config.labels.clone());
    labels
}

/// The object to register with.
#[must_use]
pub fn initial_node(inputs: &NodeInputs<'_>) -> Node {
    let config = inputs.config;
    let set = |text: &String| (!text.is_empty()).then(|| text.clone());
    Node {
        metadata: ObjectMeta {
            name: Some(config.name.clone()),
            labels: Some(labels(config, inputs.facts)),
            annotations: Some(
                [(
                    "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                    "true".to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            provider_id: set(&config.provider_id),
            pod_cidr: config.pod_cidrs.first().cloned(),
            pod_cidrs: (!config.pod_cidrs.is_empty()).then(|| config.pod_cidrs.clone()),
            ..NodeSpec::default()
        }),
        status: Some(node_status(inputs, &NodeStatus::default())),
    }
}

fn condition(
    inputs: &NodeInputs<'_>,
    old: &NodeStatus,
    type_: &str,
    on: bool,
    reason: &str,
    message: &str,
) -> NodeCondition {
    let status = if on { "True" } else { "False" };
    let before = old
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == type_ && c.status == status);
    NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(time(inputs.now)),
        last_transition_time: before
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(time(inputs.now))),
    }
}

fn not_ready(inputs: &NodeInputs<'_>) -> Vec<String> {
    let mut why = Vec::new();
    match inputs.runtime {
        Err(error) => why.push(format!("container runtime is down: {error}")),
        Ok(info) => {
            why.extend(
                info.not_ready
                    .iter()
                    .map(|r| format!("container runtime not ready: {r}")),
            );
            let network = info.network_not_ready.as_deref().or(inputs.network_not_ready);
            why.extend(network.map(|r| {
                format!(
                    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                     message:Network plugin returns error: {r}"
                )
            }));
        }
    }
    if inputs.shutting_down {
        why.push("node is shutting down".into());
    }
    why
}

fn conditions(inputs: &NodeInputs<'_>, old: &NodeStatus) -> Vec<NodeCondition> {
    let p = inputs.pressure;
    let pressures = [
        (
            "MemoryPressure",
            p.memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            p.disk,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has disk pressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            p.pids,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        ),
    ];
    let mut out: Vec<NodeCondition> = pressures
        .iter()
        .map(|(type_, on, bad, good, bad_text, good_text)| {
            let (reason, message) = if *on { (bad, bad_text) } else { (good, good_text) };
            condition(inputs, old, type_, *on, reason, message)
        })
        .collect();
    let why = not_ready(inputs);
    // Ready comes last, as readers of old expect.
    out.push(match why.as_slice() {
        [] => condition(
            inputs,
            old,
            "Ready",
            true,
            "KubeletReady",
            "kubelet is posting ready status",
        ),
        [one] => condition(inputs, old, "Ready", false, "KubeletNotReady", one),
        many => condition(
            inputs,
            old,
            "Ready",
            false,
            "KubeletNotReady",
            &format!("[{}]", many.join(", ")),
        ),
    });
    out
}

/// The status to report. `old` is the one reported before.
#[must_use]
pub fn node_status(inputs: &NodeInputs<'_>, old: &NodeStatus) -> NodeStatus {
    let (config, facts) = (inputs.config, inputs.facts);
    let whole = |n: u64, format| Amount::new(i64::try_from(n).unwrap_or(i64::MAX), format);
    let capacity: BTreeMap<String, Amount> = [
        ("cpu", whole(u64::from(facts.cpus), Format::DecimalSi)),
        ("memory", whole(facts.memory_bytes, Format::BinarySi)),
        ("ephemeral-storage", whole(facts.storage_bytes, Format::BinarySi)),
        ("hugepages-1Gi", whole(0, Format::DecimalSi)),
        ("hugepages-2Mi", whole(0, Format::DecimalSi)),
        ("pods", whole(u64::from(config.max_pods), Format::DecimalSi)),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    let allocatable = capacity.iter().map(|(name, amount)| {
        let kept = config
            .reserved
            .get(name)
            .and_then(|q| Amount::try_from(q).ok())
            .unwrap_or_default();
        let left = amount - &kept;
        (
            name.clone(),
            if left.sign() < 0 { Amount::default() } else { left },
        )
    });
    let api = |list: BTreeMap<String, Amount>| -> BTreeMap<String, Quantity> {
        list.into_iter().map(|(k, v)| (k, v.to_api())).collect()
    };
    let mut addresses: Vec<NodeAddress> = config
        .addresses
        .iter()
        .map(|ip: &IpAddr| NodeAddress {
            type_: "InternalIP".into(),
            address: ip.to_string(),
        })
        .collect();
    addresses.push(NodeAddress {
        type_: "Hostname".into(),
        address: config.name.clone(),
    });
    let runtime = inputs.runtime.as_ref().map_or_else(
        |_| {
            old.node_info
                .as_ref()
                .map(|i| i.container_runtime_version.clone())
                .unwrap_or_default()
        },
        |info| format!("{}://{}", info.name, info.version),
    );
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(api(allocatable.collect())),
        capacity: Some(api(capacity)),
        conditions: Some(conditions(inputs, old)),
        daemon_endpoints: (config.port != 0).then(|| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(config.port),
            }),
        }),
        features: Some(NodeFeatures {
            supplemental_groups_policy: Some(true),
        }),
        images: Some(images(inputs.images)),
        node_info: Some(NodeSystemInfo {
            architecture: facts.architecture.clone(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: runtime,
            kernel_version: facts.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.into(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: facts.os_image.clone(),
            swap: None,
            system_uuid: facts.system_uuid.clone(),
        }),
        ..NodeStatus::default()
    }
}

fn images(list: &[Image]) -> Vec<ContainerImage> {
    let mut list: Vec<&Image> = list.iter().collect();
    list.sort_by(|a, b| (b.size_bytes, &a.id).cmp(&(a.size_bytes, &b.id)));
    let one = |image: &&Image| {
        let names = image
            .digests
            .iter()
            .take(5)
            .chain(image.tags.iter().take(5))
            .cloned()
            .collect();
        ContainerImage {
            names: Some(names),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        }
    };
    list.iter().take(IMAGES).map(one).collect()
}

/// The strategic merge patch from one status to another; `None` if nothing but heartbeats would change and the last
/// report is younger than `report`.
#[must_use]
pub fn status_patch(
    old: &NodeStatus,
    new: &NodeStatus,
    config: &NodeConfig,
    now: Timestamp,
) -> Option<Value> {
    let same = |a: &NodeCondition, b: &NodeCondition| {
        a.status == b.status && a.reason == b.reason && a.message == b.message
    };
    let conditions = new.conditions.iter().flatten();
    let find = |type_: &str| old.conditions.iter().flatten().find(|c| c.type_ == type_);
    let changed = conditions
        .clone()
        .any(|c| find(&c.type_).is_none_or(|b| !same(b, c)));
    let reported = conditions
        .clone()
        .filter_map(|c| find(&c.type_)?.last_heartbeat_time.as_ref())
        .map(|t| t.0)
        .min();
    let due = reported.is_none_or(|at| elapsed(at, now) >= config.status_report);
    let object = |s: &NodeStatus| match serde_json::to_value(s) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (was, is) = (object(old), object(new));
    let mut status: Map<String, Value> = is
        .into_iter()
        .filter(|(key, value)| key != "conditions" && was.get(key) != Some(value))
        .collect();
    if status.is_empty() && !changed && !due {
        return None;
    }
    // Addresses are merged by type; ours are all there are.
    if let Some(Value::Array(list)) = status.get_mut("addresses") {
        list.insert(0, json!({"$patch": "replace"}));
    }
    status.insert(
        "conditions".into(),
        serde_json::to_value(&new.conditions).unwrap_or_default(),
    );
    Some(json!({"status": status}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testkit::at;

    fn inputs<'a>(
        config: &'a NodeConfig,
        facts: &'a MachineFacts,
        runtime: &'a Result<RuntimeInfo, String>,
        seconds: i64,
    ) -> NodeInputs<'a> {
        NodeInputs {
            config,
            facts,
            pressure: Pressure::default(),
            runtime,
            network_not_ready: None,
            images: &[],
            shutting_down: false,
            now: at(seconds),
        }
    }

    fn setup() -> (NodeConfig, MachineFacts, Result<RuntimeInfo, String>) {
        let mut config = NodeConfig::new("n1", "192.168.0.1".parse().unwrap(), "/data");
        config.reserved = [("cpu".to_owned(), Quantity("500m".into()))].into();
        let facts = MachineFacts {
            cpus: 2,
            memory_bytes: 4 << 30,
            architecture: "amd64".into(),
            ..MachineFacts::default()
        };
        let runtime = RuntimeInfo {
            name: "sim".into(),
            version: "1".into(),
            ..RuntimeInfo::default()
        };
        (config, facts, Ok(runtime))
    }

    #[test]
    fn registers_with_what_it_is() {
        let (config, facts, runtime) = setup();
        let node = serde_json::to_value(initial_node(&inputs(&config, &facts, &runtime, 0))).unwrap();
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
        let status = &node["status"];
        assert_eq!(status["capacity"]["cpu"], "2");
        assert_eq!(status["capacity"]["memory"], "4Gi");
        assert_eq!(status["allocatable"]["cpu"], "1500m");
        assert_eq!(status["allocatable"]["pods"], "110");
        assert_eq!(
            status["addresses"][0],
            json!({"type": "InternalIP", "address": "192.168.0.1"})
        );
        assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
        assert_eq!(status["nodeInfo"]["containerRuntimeVersion"], "sim://1");
        let conditions: Vec<String> = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                format!(
                    "{}={} {}",
                    c["type"].as_str().unwrap(),
                    c["status"].as_str().unwrap(),
                    c["reason"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(
            conditions,
            [
                "MemoryPressure=False KubeletHasSufficientMemory",
                "DiskPressure=False KubeletHasNoDiskPressure",
                "PIDPressure=False KubeletHasSufficientPID",
                "Ready=True KubeletReady",
            ]
        );
    }

    #[test]
    fn reports_changes_at_once_and_heartbeats_rarely() {
        let (config, facts, runtime) = setup();
        let first = node_status(&inputs(&config, &facts, &runtime, 0), &NodeStatus::default());
        let later = |seconds, runtime: &Result<RuntimeInfo, String>| {
            let new = node_status(&inputs(&config, &facts, runtime, seconds), &first);
            (status_patch(&first, &new, &config, at(seconds)), new)
        };
        assert!(later(10, &runtime).0.is_none());
        let (patch, new) = later(300, &runtime);
        assert!(patch.is_some());
        assert_eq!(
            new.conditions.as_ref().unwrap()[3].last_transition_time,
            Some(time(at(0)))
        );
        let (patch, new) = later(10, &Err("gone".into()));
        assert!(patch.is_some());
        let ready = &new.conditions.as_ref().unwrap()[3];
        assert_eq!(
            (ready.status.as_str(), ready.message.as_deref()),
            ("False", Some("container runtime is down: gone"))
        );
        assert_eq!(ready.last_transition_time, Some(time(at(10))));
        assert_eq!(new.node_info.unwrap().container_runtime_version, "sim://1");
    }
}
