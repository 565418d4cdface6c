//! Containers that die, agents and control planes that die, and who notices.

use crate::cluster::{Cluster, WEB, eventually};
use serde_json::json;
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_killed_container_restarts_with_back_off() {
    let cluster = Cluster::up(&[]);
    let k = &cluster.kubectl;
    k.run(&["run", "one", "--image=localhost/orch-demo:v2.00"]);
    for (restarts, waits) in [(1, false), (2, true)] {
        eventually("the container runs", SOON, || {
            k.try_run(&[
                "get",
                "pod",
                "one",
                "-o",
                "jsonpath={.status.containerStatuses[0].state.running}",
            ])
            .contains("startedAt")
        });
        let pids = cluster.container_pids("/orch-demo");
        assert_eq!(pids.len(), 1);
        crate::hosts::sh("kill", &["-KILL", &pids[0].to_string()]);
        if waits {
            eventually("the back-off is told", SOON, || {
                let waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
                k.run(&["get", "pod", "one", "-o", waiting]) == "CrashLoopBackOff"
            });
        }
        eventually("it is counted", SOON, || {
            let count = "jsonpath={.status.containerStatuses[0].restartCount}";
            k.run(&["get", "pod", "one", "-o", count]) == restarts.to_string()
        });
        let code = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
        assert_eq!(k.run(&["get", "pod", "one", "-o", code]), "137");
    }
}

#[test]
fn the_control_plane_may_be_killed_at_any_moment() {
    let mut cluster = Cluster::up(&["--nodes", "2", "-f", WEB]);
    let k = cluster.kubectl.clone();
    eventually("ten pods", SOON, || k.ready_pods("app=web").len() == 10);
    let before = k.ready_pods("app=web");
    let pids = cluster.container_pids("/orch-demo");
    for round in 0..3 {
        // Acknowledged right before the end.
        for n in 0..20 {
            k.run(&[
                "create",
                "configmap",
                &format!("kept-{round}-{n}"),
                "--from-literal=a=b",
            ]);
        }
        cluster.kill();
        assert_eq!(cluster.container_pids("/orch-demo"), pids, "pods run on");
        cluster.start();
        for n in 0..20 {
            k.run(&["get", "configmap", &format!("kept-{round}-{n}")]);
        }
    }
    eventually("all are ready again", SOON, || k.ready_pods("app=web") == before);
    assert_eq!(
        cluster.container_pids("/orch-demo"),
        pids,
        "nothing was restarted"
    );
    cluster.terminate();
    cluster.start();
    eventually("all are ready again", SOON, || k.ready_pods("app=web") == before);
    assert_eq!(
        cluster.container_pids("/orch-demo"),
        pids,
        "nothing was restarted"
    );
}

#[test]
fn containers_of_a_pod_share_localhost_and_a_volume_and_are_ready_together() {
    let cluster = Cluster::up(&[]);
    let k = &cluster.kubectl;
    let probe = |port: u16| json!({"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": 1});
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let image = "localhost/orch-demo:v2.00";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "two"}, "spec": {
    "volumes": [{"name": "shared", "emptyDir": {}}],
    "containers": [
        {"name": "a", "image": image, "args": ["serve", "81"], "volumeMounts": mount, "readinessProbe": probe(81)},
        {"name": "b", "image": image, "args": ["serve", "82"], "volumeMounts": mount, "readinessProbe": probe(83)},
    ]}});
    k.run(&["apply", "-f", &cluster.write("two.yaml", &pod.to_string())]);
    eventually("one of two is ready", SOON, || {
        k.run(&["get", "pod", "two", "--no-headers"]).contains("1/2")
    });
    let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
    assert_eq!(
        k.run(&["get", "pod", "two", "-o", condition]),
        "ContainersNotReady"
    );
    let answer = k.run(&[
        "exec",
        "two",
        "-c",
        "a",
        "--",
        "/orch-demo",
        "get",
        "http://localhost:82/",
    ]);
    assert!(answer.contains("pod=two"), "{answer}");
    let uid = k.run(&["get", "pod", "two", "-o", "jsonpath={.metadata.uid}"]);
    let find = crate::hosts::sh(
        "find",
        &[
            &cluster.data_dir().to_string_lossy(),
            "-path",
            &format!("*{uid}*"),
            "-name",
            "shared",
        ],
    );
    let volume = find
        .lines()
        .next()
        .unwrap_or_else(|| panic!("no volume of {uid}"))
        .to_owned();
    fs::write(format!("{volume}/from-host"), "x").unwrap();
    for container in ["a", "b"] {
        let mounts = k.fails(&[
            "exec",
            "two",
            "-c",
            container,
            "--",
            "/orch-demo",
            "serve",
            "not-a-port",
        ]);
        assert!(mounts.contains("invalid PORT"), "{mounts}");
    }
}
