//! Services: names, addresses, protocols, readiness, port-forward.

use crate::cluster::{Cluster, WEB, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn names_resolve_and_addresses_answer() {
    let cluster = Cluster::up(&["-f", WEB]);
    let k = &cluster.kubectl;
    k.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let pod = k.ready_pods("app=web")[0].0.clone();
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        let answer = k.run(&[
            "exec",
            &pod,
            "--",
            "/orch-demo",
            "get",
            &format!("http://{name}/"),
        ]);
        assert!(answer.contains("version=v2.00"), "{name}: {answer}");
    }
    let absent = k.fails(&[
        "exec",
        &pod,
        "--",
        "/orch-demo",
        "get",
        "http://absent.default.svc.cluster.local/",
    ]);
    assert!(
        absent.contains("lookup") || absent.contains("resolve") || absent.contains("known"),
        "{absent}"
    );
    // The API server, as every pod's client library finds it.
    let api = k.run(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    let environment = k.run(&[
        "get",
        "endpointslices",
        "kubernetes",
        "-o",
        "jsonpath={.endpoints[*].addresses[*]}",
    ]);
    assert!(!api.is_empty() && !environment.is_empty());

    // Out of the Service while not ready, and back.
    let endpoints = || {
        let ready = "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}";
        k.run(&[
            "get",
            "endpointslices",
            "-l",
            "kubernetes.io/service-name=web",
            "-o",
            ready,
        ])
        .split_whitespace()
        .count()
    };
    eventually("ten endpoints", SOON, || endpoints() == 10);
    k.run(&["label", "pod", &pod, "app=other", "--overwrite"]);
    eventually("the pod left, another came", SOON, || {
        endpoints() == 10 && k.ready_pods("app=other").len() == 1
    });
    k.run(&["delete", "pod", &pod, "--wait=false"]);
}

#[test]
fn a_pod_that_is_not_ready_gets_no_traffic() {
    let cluster = Cluster::up(&[]);
    let k = &cluster.kubectl;
    let manifest = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gated", "labels": {"app": "gated"}}, "spec": {
            "containers": [{"name": "c", "image": "localhost/orch-demo:v2.00",
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}, "periodSeconds": 1}}],
            "readinessGates": [{"conditionType": "example.org/open"}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gated"},
            "spec": {"selector": {"app": "gated"}, "ports": [{"port": 80}, {"name": "u", "port": 80, "protocol": "UDP"}]}}]}"#
        .replace(r#"{"port": 80}, {"#, r#"{"name": "t", "port": 80}, {"#);
    k.run(&["apply", "-f", &cluster.write("gated.json", &manifest)]);
    let ready = || {
        k.run(&[
            "get",
            "endpointslices",
            "-l",
            "kubernetes.io/service-name=gated",
            "-o",
            "jsonpath={.items[*].endpoints[*].conditions.ready}",
        ])
    };
    eventually("the endpoint is known and not ready", SOON, || {
        ready().contains("false")
    });
    for (status, expect) in [("True", "true"), ("False", "false")] {
        let patch = format!(
            r#"{{"status": {{"conditions": [{{"type": "example.org/open", "status": "{status}"}}]}}}}"#
        );
        k.run(&[
            "patch",
            "pod",
            "gated",
            "--subresource=status",
            "--type=strategic",
            "-p",
            &patch,
        ]);
        eventually("the endpoint follows the gate", SOON, || ready().contains(expect));
    }
}
