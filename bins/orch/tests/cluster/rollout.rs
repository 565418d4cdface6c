//! The declarative loop: scale, roll, halt, undo, with a client that hammers the Service throughout.

use crate::cluster::{Cluster, WEB, eventually, read_to_string};
use std::{fs::File, process::Child, time::Duration};

const SOON: Duration = Duration::from_secs(60);

/// Requests through the cluster IP from the host, and by name from a pod, until `stop` finds them without failure.
struct Hammer {
    host: Child,
    log: std::path::PathBuf,
}

fn hammer(cluster: &Cluster, seconds: &str) -> Hammer {
    let ip = cluster
        .kubectl
        .run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let demo = cluster.dir.path().join("orch-demo");
    if !demo.exists() {
        std::fs::write(&demo, orch::demo::SERVER).unwrap();
        crate::hosts::sh("chmod", &["755", &demo.to_string_lossy()]);
    }
    let log = cluster.dir.path().join("hammer.log");
    let out = File::create(&log).unwrap();
    let mut command = cluster.hosts.on(0, &demo.to_string_lossy());
    command
        .args(["hammer", &format!("http://{ip}/"), seconds])
        .stdout(out.try_clone().unwrap())
        .stderr(out);
    Hammer {
        host: command.spawn().unwrap(),
        log,
    }
}

impl Hammer {
    fn done(mut self) -> String {
        let status = self.host.wait().unwrap();
        let text = read_to_string(&self.log);
        assert!(status.success(), "{text}");
        text
    }
}

#[test]
fn scale_roll_halt_and_undo_without_a_failed_request() {
    let cluster = Cluster::up(&["--nodes", "5", "-f", WEB]);
    let k = &cluster.kubectl;
    eventually("ten pods", SOON, || k.ready_pods("app=web").len() == 10);
    let mut per_node = std::collections::BTreeMap::<String, usize>::new();
    for (_, node, _) in k.ready_pods("app=web") {
        *per_node.entry(node).or_default() += 1;
    }
    assert_eq!(
        per_node.values().copied().collect::<Vec<_>>(),
        [2; 5],
        "spread over the nodes"
    );

    k.run(&["scale", "deployment/web", "--replicas=30"]);
    eventually("thirty pods", SOON, || k.ready_pods("app=web").len() == 30);
    k.run(&["scale", "deployment/web", "--replicas=3"]);
    eventually("three pods", SOON, || {
        k.run(&["get", "pods", "-l", "app=web", "-o", "name"])
            .lines()
            .count()
            == 3
    });
    k.run(&["scale", "deployment/web", "--replicas=10"]);
    k.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);

    // From a pod, by name.
    let client = [
        "run",
        "client",
        "--image=localhost/orch-demo:v2.00",
        "--restart=Never",
        "--",
        "hammer",
        "http://web/",
        "15",
    ];
    k.run(&client);
    eventually("the client runs", SOON, || {
        k.try_run(&["get", "pod", "client"]).contains("Running")
    });
    let host = hammer(&cluster, "15");
    k.run(&["set", "image", "deployment/web", "web=localhost/orch-demo:v2.01"]);
    k.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let seen = host.done();
    assert!(seen.contains("v2.01"), "{seen}");
    eventually("the client is done", SOON, || {
        let phase = k.run(&["get", "pod", "client", "-o", "jsonpath={.status.phase}"]);
        assert_ne!(phase, "Failed", "{}", k.run(&["logs", "client"]));
        phase == "Succeeded"
    });
    assert!(k.run(&["logs", "client"]).contains(" 0 failed"));

    let host = hammer(&cluster, "8");
    k.run(&["set", "image", "deployment/web", "web=localhost/orch-demo:absent"]);
    let halted = k.fails(&["rollout", "status", "deployment/web", "--timeout=4s"]);
    assert!(halted.contains("timed out"), "{halted}");
    assert!(k.ready_pods("app=web").len() >= 8, "the old pods serve");
    k.run(&["rollout", "undo", "deployment/web"]);
    k.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(
        k.run(&["rollout", "history", "deployment/web"])
            .lines()
            .filter(|l| l.contains("<none>"))
            .count(),
        3
    );
    host.done();
}
