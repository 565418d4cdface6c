//! Whether the node takes a pod that was bound to it; pure.
//!
//! The scheduler has looked already; this catches what changed meanwhile and pods that were bound by hand. Reasons and
//! texts are those of upstream's predicates.

use super::{resources::pod_requests, spec};
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use orch_core::quantity::Quantity;
use std::collections::BTreeSet;

/// Why a pod is not taken. It fails with this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Machine-readable, such as `OutOfcpu`.
    pub reason: String,
    /// For people.
    pub message: String,
}

fn predicate(name: &str, why: &str) -> Rejection {
    Rejection {
        reason: name.into(),
        message: format!("Predicate {name} failed: {why}"),
    }
}

/// Decides on `pod`, given the pods that the node has taken and that have not ended.
///
/// # Errors
/// The [`Rejection`].
pub fn admit<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: &Node,
) -> Result<(), Rejection> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let spec = spec::spec(pod);
    let pod_os = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get("kubernetes.io/os"));
    if pod_os.is_some_and(|os| os != "linux") {
        return Err(Rejection {
            reason: "PodOSSelectorNodeLabelDoesNotMatch".into(),
            message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".into(),
        });
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(Rejection {
            reason: "PodOSNotSupported".into(),
            message: "Failed to admit pod as the OS field doesn't match node OS".into(),
        });
    }
    fits(pod, others.clone(), node)?;
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = spec.affinity.as_ref().and_then(|a| {
        a.node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let name = node.metadata.name.as_deref().unwrap_or("");
    let drawn = required.is_none_or(|r| {
        r.node_selector_terms
            .iter()
            .any(|t| term_matches(t, &labels, name))
    });
    if !selected || !drawn {
        return Err(predicate(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    if spec
        .node_name
        .as_deref()
        .is_some_and(|n| !n.is_empty() && n != name)
    {
        return Err(predicate(
            "NodeName",
            "node(s) didn't match the requested node name",
        ));
    }
    let taken: BTreeSet<HostPort> = others.flat_map(host_ports).collect();
    if host_ports(pod)
        .iter()
        .any(|port| taken.iter().any(|other| port.clashes(other)))
    {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let untolerated = |t: &&Taint| t.effect == "NoExecute" && !tolerations.iter().any(|o| tolerates(o, t));
    if taints.iter().any(|t| untolerated(&t)) {
        return Err(predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    Ok(())
}

fn fits<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod> + Clone, node: &Node) -> Result<(), Rejection> {
    let status = node.status.clone().unwrap_or_default();
    let allocatable = status.allocatable.or(status.capacity).unwrap_or_default();
    let capacity = |name: &str| allocatable.get(name).and_then(|q| Quantity::try_from(q).ok());
    let lacking = |name: &str, requested: i64, used: i64, capacity: i64| Rejection {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    if let Some(most) = capacity("pods") {
        let used = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
        if used + 1 > most.value() {
            return Err(lacking("pods", 1, used, most.value()));
        }
    }
    for (name, wanted) in pod_requests(pod) {
        if wanted.is_zero() {
            continue;
        }
        // A resource that the node does not know is the cluster's own affair.
        let Some(have) = capacity(&name) else { continue };
        let used = others.clone().filter_map(|p| pod_requests(p).remove(&name));
        let used = used.fold(Quantity::default(), |sum, q| &sum + &q);
        if &used + &wanted > have {
            let unit = |q: &Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
            return Err(lacking(&name, unit(&wanted), unit(&used), unit(&have)));
        }
    }
    Ok(())
}

type Labels = std::collections::BTreeMap<String, String>;

fn term_matches(term: &NodeSelectorTerm, labels: &Labels, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements matches nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|r| requirement_matches(r, labels.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && requirement_matches(r, Some(name)))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let compare = |by: fn(i64, i64) -> bool| match (number(value), number(values.first().map(String::as_str)))
    {
        (Some(a), Some(b)) => by(a, b),
        _ => false,
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|a, b| a > b),
        "Lt" => compare(|a, b| a < b),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or("");
    let value = toleration.value.as_deref().unwrap_or("");
    let effect = toleration.effect.as_deref().unwrap_or("");
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && ((key.is_empty() && exists) || key == taint.key)
        && (exists || value == taint.value.as_deref().unwrap_or(""))
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct HostPort {
    port: i32,
    protocol: String,
    ip: String,
}

impl HostPort {
    fn clashes(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let spec = spec::spec(pod);
    let sidecars = spec::init_containers(spec).iter().filter(|c| spec::is_sidecar(c));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            Some(HostPort {
                port: p.host_port.filter(|n| *n > 0)?,
                protocol: p
                    .protocol
                    .clone()
                    .filter(|p| !p.is_empty())
                    .unwrap_or_else(|| "TCP".into()),
                ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "a"}]);
        }
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn check(spec: Value, others: &[Value], expected: &str) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"zone": "a", "cores": "4"}},
            "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
        }))
        .unwrap();
        let mut spec = spec;
        if spec.get("tolerations").is_none() {
            spec["tolerations"] = json!([{"operator": "Exists"}]);
        }
        let others: Vec<Pod> = others.iter().cloned().map(pod).collect();
        let got = admit(&pod(spec.clone()), others.iter(), &node);
        let text = got
            .err()
            .map(|r| format!("{}: {}", r.reason, r.message))
            .unwrap_or_default();
        assert_eq!(text, expected, "{spec}");
    }

    #[test]
    fn rejections() {
        let cpu = |n: &str| json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": n}}}]});
        let port = |ip: &str| json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]});
        let affinity = |op: &str, values: Value| {
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "cores", "operator": op, "values": values}]}]}}}})
        };
        let no_match =
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(json!({}), &[], "");
        check(cpu("1500m"), &[cpu("500m")], "");
        check(
            cpu("1500m"),
            &[cpu("501m")],
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 1500, used: 501, capacity: 2000",
        );
        check(
            json!({}),
            &[json!({}), json!({}), json!({})],
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        );
        check(json!({"nodeSelector": {"zone": "a"}}), &[], "");
        check(json!({"nodeSelector": {"zone": "b"}}), &[], no_match);
        check(affinity("Gt", json!(["3"])), &[], "");
        check(affinity("Lt", json!(["3"])), &[], no_match);
        check(affinity("NotIn", json!(["4"])), &[], no_match);
        let ports = "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        check(port(""), &[port("10.0.0.1")], ports);
        check(port("10.0.0.2"), &[port("10.0.0.1")], "");
        check(
            json!({"tolerations": []}),
            &[],
            "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
        check(json!({"tolerations": [{"key": "k", "value": "v"}]}), &[], "");
        check(
            json!({"os": {"name": "windows"}}),
            &[],
            "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS",
        );
    }
}
