//! Each plugin by table: which nodes are left, and with which message when none is.
use orch_core::rng::SeededRng;
use orch_sched::{
    cache::{PodInfo, Snapshot},
    decide::decide,
    framework::Profile,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn node(name: &str, more: Value) -> k8s_openapi::api::core::v1::Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
    });
    json_patch::merge(&mut node, &more);
    serde_json::from_value(node).unwrap()
}

pub(crate) fn pod(name: &str, spec: Value) -> k8s_openapi::api::core::v1::Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let labels = spec
        .as_object_mut()
        .unwrap()
        .remove("labels")
        .unwrap_or(json!({"app": "web"}));
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": spec}))
        .unwrap()
}

pub(crate) fn snapshot(nodes: &[Value], placed: &[(&str, Value)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (at, more) in nodes.iter().enumerate() {
        snapshot.set_node(Arc::new(node(&format!("n{at}"), more.clone())));
    }
    for (at, (on, spec)) in placed.iter().enumerate() {
        let info = PodInfo::new(Arc::new(pod(&format!("placed-{at}"), spec.clone())));
        snapshot.place_pod(Arc::new(info), on);
    }
    snapshot
}

/// `expect` is the chosen node, or the message.
fn check(nodes: &[Value], placed: &[(&str, Value)], spec: Value, expect: Result<&str, &str>) {
    let pod = PodInfo::new(Arc::new(pod("new", spec)));
    let profile = Profile::default_plugins("default-scheduler");
    let decision = decide(&snapshot(nodes, placed), &pod, &profile, &SeededRng::new(1), true).unwrap();
    match expect {
        Ok(node) => assert_eq!(decision.node.as_deref(), Some(node), "{:?}", decision.rejections),
        Err(message) => {
            assert_eq!(decision.node, None);
            assert_eq!(decision.message(), message);
        }
    }
}

fn asks(cpu: &str) -> Value {
    json!([{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}])
}

#[test]
fn resources() {
    let full = ("n0", json!({"containers": asks("3")}));
    check(
        &[json!({}), json!({})],
        std::slice::from_ref(&full),
        json!({"containers": asks("2")}),
        Ok("n1"),
    );
    check(
        &[json!({}), json!({"status": {"allocatable": {"memory": "512Mi"}}})],
        std::slice::from_ref(&full),
        json!({"containers": asks("2")}),
        Err("0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."),
    );
    check(
        &[json!({"status": {"allocatable": {"pods": "1"}}})],
        &[full],
        json!({}),
        Err("0/1 nodes are available: 1 Too many pods."),
    );
    check(&[], &[], json!({}), Err("0/0 nodes are available:"));
}

#[test]
fn taints_and_cordons() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let nodes = [tainted.clone(), json!({"spec": {"unschedulable": true}})];
    check(
        &nodes,
        &[],
        json!({}),
        Err("0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."),
    );
    for toleration in [
        json!({"key": "k", "value": "v", "effect": "NoSchedule"}),
        json!({"key": "k", "operator": "Exists"}),
        json!({"operator": "Exists"}),
    ] {
        check(&nodes[..1], &[], json!({"tolerations": [toleration]}), Ok("n0"));
    }
    let other = json!({"tolerations": [{"key": "k", "value": "w"}]});
    check(
        &nodes[..1],
        &[],
        other,
        Err("0/1 nodes are available: 1 node(s) had untolerated taint(s)."),
    );
    let soft = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    check(&[soft, json!({})], &[], json!({}), Ok("n1"));
}

#[test]
fn node_affinity() {
    let zone = |z: &str| json!({"metadata": {"labels": {"zone": z, "n": "5"}}});
    let nodes = [zone("a"), zone("b")];
    check(&nodes, &[], json!({"nodeSelector": {"zone": "b"}}), Ok("n1"));
    let required = |key: &str, operator: &str, values: Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
    };
    check(&nodes, &[], required("zone", "NotIn", json!(["a"])), Ok("n1"));
    check(
        &nodes,
        &[],
        required("n", "Gt", json!(["5"])),
        Err("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."),
    );
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}}]}}});
    check(&nodes, &[], preferred, Ok("n0"));
    let field = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}});
    check(&nodes, &[], field, Ok("n1"));
}

#[test]
fn host_ports() {
    let port = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}]});
    check(
        &[json!({})],
        &[("n0", port(""))],
        port("10.0.0.1"),
        Err("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."),
    );
    check(
        &[json!({})],
        &[("n0", port("10.0.0.2"))],
        port("10.0.0.1"),
        Ok("n0"),
    );
}

fn term(key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key})
}

#[test]
fn pod_affinity() {
    let anti = json!({"affinity": {"podAntiAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [term("kubernetes.io/hostname")]}}});
    check(
        &[json!({}), json!({})],
        &[("n0", json!({}))],
        anti.clone(),
        Ok("n1"),
    );
    check(
        &[json!({})],
        &[("n0", json!({}))],
        anti.clone(),
        Err("0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."),
    );
    check(
        &[json!({})],
        &[("n0", anti)],
        json!({}),
        Err("0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."),
    );
    let near = json!({"affinity": {"podAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [term("kubernetes.io/hostname")]}}});
    check(
        &[json!({}), json!({})],
        &[("n1", json!({}))],
        near.clone(),
        Ok("n1"),
    );
    check(&[json!({})], &[], near.clone(), Ok("n0"));
    let stranger = json!({"labels": {"app": "db"}, "affinity": near["affinity"]});
    check(
        &[json!({})],
        &[],
        stranger,
        Err("0/1 nodes are available: 1 node(s) didn't match pod affinity rules."),
    );
}

#[test]
fn topology_spread() {
    let zone = |z: &str| json!({"metadata": {"labels": {"zone": z}}});
    let spread = |action: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": action,
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    let nodes = [zone("a"), zone("a"), zone("b")];
    check(&nodes, &[("n0", json!({}))], spread("DoNotSchedule"), Ok("n2"));
    check(&nodes, &[("n0", json!({}))], spread("ScheduleAnyway"), Ok("n2"));
    let cordoned = json!({"metadata": {"labels": {"zone": "b"}}, "spec": {"unschedulable": true}});
    check(
        &[zone("a"), cordoned, json!({})],
        &[("n0", json!({}))],
        spread("DoNotSchedule"),
        Err(
            "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
             1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable.",
        ),
    );
}
