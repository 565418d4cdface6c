//! The node agent end to end, on simulated containers.

use crate::cluster::{Cluster, condition};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use orch_core::{Api, client::Patch};
use orch_runtime::runtime::{ContainerRuntime, SandboxRuntime};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn the_node_registers_and_keeps_itself_alive() {
    let cluster = Cluster::started().await;
    let node = serde_json::to_value(&*cluster.node().await).unwrap();
    assert_eq!(condition(&node["status"], "Ready"), "True");
    assert_eq!(node["status"]["capacity"]["cpu"], "4");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    let leases = Api::<Lease>::namespaced(cluster.client.clone(), "kube-node-lease");
    let renewed = async || {
        leases
            .get("n1")
            .await
            .unwrap()
            .spec
            .clone()
            .unwrap()
            .renew_time
            .unwrap()
            .0
    };
    let first = renewed().await;
    cluster.pass(Duration::from_secs(25)).await;
    let later = renewed().await;
    assert!(later.duration_since(first).as_secs() >= 20);
    cluster.runtime.set_not_ready(Some("broken".into()));
    cluster.pass(Duration::from_secs(11)).await;
    let node = serde_json::to_value(&*cluster.node().await).unwrap();
    assert_eq!(condition(&node["status"], "Ready"), "False");
    assert!(
        cluster
            .events("n1")
            .iter()
            .any(|e| e == "NodeNotReady: Node n1 status is now: NodeNotReady")
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_says_so() {
    let cluster = Cluster::started().await;
    cluster.simple("p").await;
    cluster.settle().await;
    let status = cluster.value("p").await;
    assert_eq!(status["phase"], "Running", "{status}");
    assert_eq!(status["podIP"], "10.1.0.1");
    assert_eq!(status["hostIP"], "192.168.0.1");
    for type_ in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&status, type_), "True", "{type_}");
    }
    let container = &status["containerStatuses"][0];
    assert_eq!(
        (&container["ready"], &container["restartCount"]),
        (&json!(true), &json!(0))
    );
    assert!(container["containerID"].as_str().unwrap().starts_with("sim://"));
    let events = cluster.events("p");
    assert_eq!(
        events,
        [
            "Pulled: Container image \"web:1\" already present on machine and can be accessed by the pod",
            "Created: Container created",
            "Started: Container started",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn deletion_is_graceful_and_leaves_nothing() {
    let cluster = Cluster::started().await;
    let spec = json!({"containers": [{"name": "a", "image": "web:1"}]});
    cluster
        .create("p", spec, json!({"sim.orch.dev/stop-delay": "3000"}))
        .await;
    cluster.settle().await;
    let from = cluster.env.clock.monotonic();
    cluster.pods().delete("p", Value::Null).await.unwrap();
    cluster.pass(Duration::from_secs(2)).await;
    let status = cluster.value("p").await;
    assert_eq!(status["phase"], "Running");
    while cluster.pods().get_opt("p").await.unwrap().is_some() {
        cluster.pass(Duration::from_millis(100)).await;
        assert!(cluster.env.clock.monotonic().since(from) < Duration::from_secs(10));
    }
    cluster.settle().await;
    assert!(cluster.runtime.list_sandboxes().await.unwrap().is_empty());
    assert!(cluster.network.0.lock().is_empty());
    assert!(
        cluster
            .events("p")
            .contains(&"Killing: Stopping container a".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_deaf_container_is_killed_when_its_grace_is_over() {
    let cluster = Cluster::started().await;
    let spec = json!({"containers": [{"name": "a", "image": "web:1"}], "terminationGracePeriodSeconds": 5});
    cluster
        .create("p", spec, json!({"sim.orch.dev/stop-delay": "never"}))
        .await;
    cluster.settle().await;
    cluster.pods().delete("p", Value::Null).await.unwrap();
    cluster.pass(Duration::from_millis(4500)).await;
    assert!(cluster.pods().get_opt("p").await.unwrap().is_some());
    cluster.pass(Duration::from_secs(2)).await;
    assert!(cluster.pods().get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_cuts_a_long_one_short() {
    let cluster = Cluster::started().await;
    let spec = json!({"containers": [{"name": "a", "image": "web:1"}], "terminationGracePeriodSeconds": 600});
    cluster
        .create("p", spec, json!({"sim.orch.dev/stop-delay": "never"}))
        .await;
    cluster.settle().await;
    cluster.pods().delete("p", Value::Null).await.unwrap();
    cluster.pass(Duration::from_secs(5)).await;
    cluster
        .pods()
        .delete("p", json!({"gracePeriodSeconds": 1}))
        .await
        .unwrap();
    cluster.pass(Duration::from_secs(4)).await;
    assert!(cluster.pods().get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pod_removed_by_force_is_ended_too() {
    let cluster = Cluster::started().await;
    cluster.simple("p").await;
    cluster.settle().await;
    cluster
        .pods()
        .delete("p", json!({"gracePeriodSeconds": 0}))
        .await
        .unwrap();
    cluster.pass(Duration::from_secs(2)).await;
    assert!(cluster.runtime.list_sandboxes().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn crashes_back_off() {
    let cluster = Cluster::started().await;
    let spec = json!({"containers": [{"name": "a", "image": "web:1"}]});
    cluster
        .create(
            "p",
            spec,
            json!({"sim.orch.dev/run-for": "100", "sim.orch.dev/exit-code": "3"}),
        )
        .await;
    cluster.pass(Duration::from_secs(5)).await;
    let status = cluster.value("p").await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["restartCount"], 1, "{status}");
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(
        (&status["phase"], condition(&status, "Ready")),
        (&json!("Running"), "False".to_owned())
    );
    let message = container["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("back-off 10s restarting failed container=a pod=p_default("),
        "{message}"
    );
    // Restarts at about 0, 0, 10, 30, 70, 150, 310, 610 …
    for (until, restarts) in [(15, 2), (60, 3), (80, 4)] {
        let now = cluster.env.clock.monotonic().0;
        cluster.pass(Duration::from_secs(until).saturating_sub(now)).await;
        assert_eq!(
            cluster.value("p").await["containerStatuses"][0]["restartCount"],
            restarts,
            "at {until}"
        );
    }
    assert!(
        cluster
            .events("p")
            .iter()
            .any(|e| e.starts_with("BackOff: Back-off restarting failed container a in pod p_"))
    );
    // Old containers are cleaned away.
    assert!(cluster.runtime.list().await.unwrap().len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_like_pod_completes() {
    let cluster = Cluster::started().await;
    for (name, code, expected) in [("good", "0", "Succeeded"), ("bad", "1", "Failed")] {
        let spec = json!({"containers": [{"name": "a", "image": "web:1"}], "restartPolicy": "Never"});
        cluster
            .create(
                name,
                spec,
                json!({"sim.orch.dev/run-for": "500", "sim.orch.dev/exit-code": code}),
            )
            .await;
        cluster.pass(Duration::from_secs(2)).await;
        let status = cluster.value(name).await;
        assert_eq!(status["phase"], expected, "{status}");
        assert_eq!(condition(&status, "Ready"), "False");
    }
    // Its container stays for its log, its sandbox is stopped.
    assert_eq!(cluster.runtime.list().await.unwrap().len(), 2);
    assert!(
        cluster
            .runtime
            .list_sandboxes()
            .await
            .unwrap()
            .iter()
            .all(|s| !s.ready)
    );
    cluster.pods().delete("good", Value::Null).await.unwrap();
    cluster.settle().await;
    assert_eq!(cluster.runtime.list().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_adopts_what_runs() {
    let mut cluster = Cluster::started().await;
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 10, "initialDelaySeconds": 5});
    let spec = json!({"containers": [{"name": "a", "image": "web:1", "readinessProbe": probe}]});
    cluster.create("p", spec, json!({})).await;
    cluster.pass(Duration::from_secs(8)).await;
    let before = cluster.value("p").await;
    assert_eq!(condition(&before, "Ready"), "True");
    cluster.restart_agent().await;
    cluster.pass(Duration::from_secs(60)).await;
    let after = cluster.value("p").await;
    assert_eq!(before, after);
    assert_eq!(cluster.runtime.list().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_no_agent_looked_is_seen_and_orphans_go() {
    let mut cluster = Cluster::started().await;
    cluster.simple("p").await;
    cluster.simple("q").await;
    cluster.settle().await;
    cluster.stop().await;
    let id = cluster.runtime.list().await.unwrap()[0].id.clone();
    cluster.runtime.exit_container(&id, 9);
    cluster
        .pods()
        .delete("q", json!({"gracePeriodSeconds": 0}))
        .await
        .unwrap();
    cluster.restart_agent().await;
    cluster.pass(Duration::from_secs(5)).await;
    let sandboxes = cluster.runtime.list_sandboxes().await.unwrap();
    assert_eq!(
        sandboxes.iter().map(|s| s.pod.name.as_str()).collect::<Vec<_>>(),
        ["p"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_reboot_makes_new_sandboxes() {
    let mut cluster = Cluster::started().await;
    cluster.simple("p").await;
    cluster.settle().await;
    cluster.stop().await;
    cluster.runtime.reboot();
    cluster.network.0.lock().clear();
    cluster.restart_agent().await;
    cluster.pass(Duration::from_secs(2)).await;
    let status = cluster.value("p").await;
    assert_eq!(status["phase"], "Running", "{status}");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
    assert_eq!(status["podIP"], "10.1.0.2");
    assert!(
        cluster
            .events("p")
            .iter()
            .any(|e| e.starts_with("SandboxChanged"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_image_is_said_and_tried_again() {
    let cluster = Cluster::started().await;
    cluster
        .create(
            "p",
            json!({"containers": [{"name": "a", "image": "bad:1"}]}),
            json!({}),
        )
        .await;
    cluster.settle().await;
    let reason =
        async || cluster.value("p").await["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    assert_eq!(reason().await, "ErrImagePull");
    cluster.pass(Duration::from_secs(4)).await;
    assert_eq!(reason().await, "ImagePullBackOff");
    assert_eq!(cluster.value("p").await["phase"], "Pending");
    let events = cluster.events("p");
    assert!(
        events.contains(&"Failed: Error: ErrImagePull".to_owned()),
        "{events:?}"
    );
    assert!(
        events.contains(&"BackOff: Back-off pulling image \"bad:1\"".to_owned()),
        "{events:?}"
    );
    // A pod that never ran still goes when deleted.
    cluster.pods().delete("p", Value::Null).await.unwrap();
    cluster.settle().await;
    assert!(cluster.pods().get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_holds_a_pod_up_until_it_comes() {
    let cluster = Cluster::started().await;
    let spec = json!({
        "containers": [{"name": "a", "image": "web:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}],
    });
    cluster.create("p", spec, json!({})).await;
    let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    cluster
        .create(
            "q",
            json!({"containers": [{"name": "a", "image": "web:1", "env": env}]}),
            json!({}),
        )
        .await;
    cluster.settle().await;
    let expected = "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found";
    assert!(
        cluster.events("p").contains(&expected.to_owned()),
        "{:?}",
        cluster.events("p")
    );
    let waiting = &cluster.value("q").await["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(
        *waiting,
        json!({"reason": "CreateContainerConfigError", "message": "configmap \"m\" not found"})
    );
    let map = json!({"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "v"}});
    cluster
        .api
        .seed::<ConfigMap>(serde_json::from_value(map).unwrap())
        .await;
    cluster.pass(Duration::from_secs(2)).await;
    for name in ["p", "q"] {
        assert_eq!(cluster.value(name).await["phase"], "Running", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_gate_readiness_and_restart() {
    let cluster = Cluster::started().await;
    let container = |probe: &str| {
        json!({"containers": [{"name": "a", "image": "web:1",
        probe: {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 3}}]})
    };
    cluster
        .create("unready", container("readinessProbe"), json!({}))
        .await;
    cluster
        .create("sick", container("livenessProbe"), json!({}))
        .await;
    cluster.pass(Duration::from_secs(6)).await;
    let unready = cluster.value("unready").await;
    assert_eq!(
        (&unready["phase"], condition(&unready, "Ready")),
        (&json!("Running"), "False".to_owned())
    );
    assert_eq!(unready["containerStatuses"][0]["started"], true);
    assert!(
        cluster
            .events("unready")
            .iter()
            .any(|e| e == "Unhealthy: Readiness probe failed: ")
    );
    let sick = cluster.value("sick").await;
    assert!(
        sick["containerStatuses"][0]["restartCount"].as_i64().unwrap() >= 1,
        "{sick}"
    );
    let killing = "Killing: Container a failed liveness probe, will be restarted";
    assert!(
        cluster.events("sick").contains(&killing.to_owned()),
        "{:?}",
        cluster.events("sick")
    );
}

#[tokio::test(start_paused = true)]
async fn sidecars_and_hooks_end_in_order() {
    let cluster = Cluster::started().await;
    let spec = json!({
        "initContainers": [
            {"name": "s", "image": "web:1", "restartPolicy": "Always"},
            {"name": "i", "image": "web:1", "command": ["sh", "-c", "sleep 1"]},
        ],
        "containers": [{"name": "a", "image": "web:1",
            "lifecycle": {"preStop": {"sleep": {"seconds": 4}}, "postStart": {"exec": {"command": ["true"]}}}}],
    });
    let uid = cluster
        .create("p", spec, json!({}))
        .await
        .metadata
        .uid
        .clone()
        .unwrap();
    cluster.settle().await;
    assert_eq!(cluster.value("p").await["phase"], "Pending");
    cluster.pass(Duration::from_secs(2)).await;
    assert_eq!(condition(&cluster.value("p").await, "Ready"), "True");
    cluster.pods().delete("p", Value::Null).await.unwrap();
    cluster.pass(Duration::from_secs(2)).await;
    let runs = |name: &str| {
        cluster
            .runtime
            .find(&uid, name)
            .is_some_and(|c| c.phase.is_running())
    };
    assert!(runs("a") && runs("s"));
    cluster.pass(Duration::from_secs(4)).await;
    assert!(cluster.pods().get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_rejected() {
    let cluster = Cluster::started().await;
    let spec =
        json!({"containers": [{"name": "a", "image": "web:1", "resources": {"requests": {"cpu": "5"}}}]});
    cluster.create("p", spec, json!({})).await;
    cluster.settle().await;
    let status = cluster.value("p").await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("OutOfcpu"))
    );
    assert_eq!(
        status["message"],
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000"
    );
    assert!(cluster.runtime.list_sandboxes().await.unwrap().is_empty());
    cluster.pods().delete("p", Value::Null).await.unwrap();
    cluster.settle().await;
    assert!(cluster.pods().get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fails_the_pod() {
    let cluster = Cluster::started().await;
    let spec = json!({"containers": [{"name": "a", "image": "web:1"}], "activeDeadlineSeconds": 10});
    cluster.create("p", spec, json!({})).await;
    cluster.pass(Duration::from_secs(15)).await;
    let status = cluster.value("p").await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded")),
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_image_replaces_the_container_in_place() {
    let cluster = Cluster::started().await;
    cluster.simple("p").await;
    cluster.settle().await;
    let patch = json!({"spec": {"containers": [{"name": "a", "image": "web:2"}]}});
    cluster.pods().patch("p", Patch::merge(patch)).await.unwrap();
    cluster.pass(Duration::from_secs(3)).await;
    let status = cluster.value("p").await;
    let container = &status["containerStatuses"][0];
    assert_eq!(
        (&container["image"], &container["restartCount"]),
        (&json!("web:2"), &json!(1)),
        "{status}"
    );
    assert!(
        cluster
            .events("p")
            .contains(&"Killing: Container a definition changed, will be restarted".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn resources_change_in_place() {
    let cluster = Cluster::started().await;
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    let spec = json!({"containers": [{"name": "a", "image": "web:1", "resources": resources("100m")}]});
    cluster.create("p", spec, json!({})).await;
    cluster.settle().await;
    let patch =
        json!({"spec": {"containers": [{"name": "a", "image": "web:1", "resources": resources("200m")}]}});
    cluster.pods().patch("p", Patch::merge(patch)).await.unwrap();
    cluster.settle().await;
    let status = cluster.value("p").await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["resources"]["limits"]["cpu"], "200m", "{status}");
    assert_eq!(container["restartCount"], 0);
    assert!(
        cluster
            .events("p")
            .iter()
            .any(|e| e.starts_with("ResizeCompleted"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_joins_a_running_pod() {
    let cluster = Cluster::started().await;
    cluster.simple("p").await;
    cluster.settle().await;
    let patch = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "web:1", "targetContainerName": "a"}]}});
    cluster.pods().patch("p", Patch::merge(patch)).await.unwrap();
    cluster.settle().await;
    let status = cluster.value("p").await;
    assert!(
        status["ephemeralContainerStatuses"][0]["state"]["running"].is_object(),
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_history() {
    let run = async || {
        let cluster = Cluster::started().await;
        for name in ["a", "b", "c"] {
            cluster.simple(name).await;
        }
        cluster.pass(Duration::from_secs(2)).await;
        let first = cluster.runtime.list().await.unwrap()[0].id.clone();
        cluster.runtime.exit_container(&first, 1);
        cluster.pods().delete("b", Value::Null).await.unwrap();
        cluster.pass(Duration::from_secs(30)).await;
        let kinds = ["pods", "events", "nodes", "coordination.k8s.io/leases"];
        let dump: Vec<Value> = kinds
            .iter()
            .flat_map(|k| cluster.api.dump(k))
            .map(|o| o.value().clone())
            .collect();
        cluster.stop().await;
        dump
    };
    assert_eq!(run().await, run().await);
}
