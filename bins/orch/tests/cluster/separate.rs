//! The parts as executables of their own, on hosts of their own: joining over HTTPS, and a node that dies.

use crate::{
    cluster::{WEB, eventually},
    hosts::Hosts,
    kubectl::Kubectl,
};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Once,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(60);

/// The other executables of the workspace, built to lie beside this package's.
fn executable(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let path = PathBuf::from(env!("CARGO_BIN_EXE_orch")).with_file_name(name);
    BUILT.call_once(|| {
        let profile = path.parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "-p",
            "orch-node",
            "-p",
            "orch-control-plane",
            "--manifest-path",
        ]);
        build
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
    });
    path
}

struct Site {
    hosts: Hosts,
    dir: tempfile::TempDir,
    plane: Child,
    nodes: Vec<Child>,
}

impl Site {
    fn new(nodes: usize) -> Self {
        let (hosts, dir) = (Hosts::new(nodes + 1), tempfile::tempdir().unwrap());
        let plane = executable("orch-control-plane");
        let data = dir.path().join("plane");
        let address = Hosts::address(0);
        let mut serve = hosts.on(0, &plane.to_string_lossy());
        serve.args([
            "serve",
            "--advertise",
            &address,
            "--node-monitor-grace-seconds",
            "4",
        ]);
        serve
            .args(["--default-toleration-seconds", "2", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null());
        let mut site = Self {
            plane: serve.spawn().unwrap(),
            hosts,
            dir,
            nodes: Vec::new(),
        };
        eventually("the control plane serves", SOON, || {
            data.join("kubeconfig").exists()
        });
        for n in 1..=nodes {
            let bundle = site.dir.path().join(format!("bundle-{n}"));
            let (name, ip, server) = (
                format!("node-{n}"),
                Hosts::address(n),
                format!("https://{address}:6443"),
            );
            let made = Command::new(&plane)
                .args([
                    "node-bundle",
                    &name,
                    "--node-ip",
                    &ip,
                    "--server",
                    &server,
                    "--out",
                ])
                .arg(&bundle)
                .arg("--data-dir")
                .arg(&data)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let mut node = site.hosts.on(n, &executable("orch-node").to_string_lossy());
            node.args(["--lease-seconds", "4", "--bundle"])
                .arg(&bundle)
                .arg("--data-dir")
                .arg(site.node_dir(n));
            site.nodes.push(node.stdout(Stdio::null()).spawn().unwrap());
        }
        site
    }

    fn node_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("node-{n}"))
    }

    /// The node dies with its containers, as a machine does.
    fn kill_node(&mut self, n: usize) {
        self.nodes[n - 1].kill().unwrap();
        self.nodes[n - 1].wait().unwrap();
        self.teardown(n);
    }

    fn teardown(&self, n: usize) {
        let mut teardown = self.hosts.on(n, &executable("orch-node").to_string_lossy());
        teardown
            .arg("--teardown")
            .arg("--bundle")
            .arg("unused")
            .arg("--data-dir")
            .arg(self.node_dir(n));
        drop(teardown.output());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().chain([&mut self.plane]) {
            drop(child.kill());
            drop(child.wait());
        }
        (1..=self.nodes.len()).for_each(|n| self.teardown(n));
    }
}

#[test]
fn nodes_join_over_https_and_the_pods_of_a_dead_one_move() {
    let mut site = Site::new(3);
    let k = Kubectl::new(&site.hosts, 0, &site.dir.path().join("plane/kubeconfig"));
    let ready = || {
        k.try_run(&["get", "nodes", "--no-headers"])
            .lines()
            .filter(|l| l.contains(" Ready"))
            .count()
    };
    eventually("three nodes", SOON, || ready() == 3);
    k.run(&["apply", "-f", WEB]);
    k.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let pods = k.ready_pods("app=web");
    let (far, near) = (
        pods.iter().find(|p| p.1 == "node-1").unwrap(),
        pods.iter().find(|p| p.1 == "node-2").unwrap(),
    );
    let ip = k.run(&["get", "pod", &near.0, "-o", "jsonpath={.status.podIP}"]);
    let answer = k.run(&[
        "exec",
        &far.0,
        "--",
        "/orch-demo",
        "get",
        &format!("http://{ip}/"),
    ]);
    assert!(answer.contains(&near.0), "from host to host: {answer}");

    let lost = pods.iter().filter(|p| p.1 == "node-3").count();
    assert!(lost >= 2, "{pods:?}");
    site.kill_node(3);
    eventually("the loss is observed", Duration::from_secs(10), || {
        k.ready_pods("app=web").len() <= 10 - lost
    });
    eventually("as many come elsewhere", Duration::from_secs(10), || {
        let now = k.ready_pods("app=web");
        now.len() == 10 && now.iter().all(|p| p.1 != "node-3")
    });
    let nodes = k.run(&["get", "nodes", "--no-headers"]);
    assert!(nodes.contains("NotReady") && ready() == 2, "{nodes}");
}
