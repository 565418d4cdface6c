//! Measures `orch up` as an operator meets it: time to ready from nothing, memory and CPU when idle, and how long a pod
//! takes from its creation to Running.
//!
//! ```text
//! cargo build --release -p orch && cargo run --release -p orch-benches
//! ```
//!
//! Runs in a network namespace of its own (needs root and iproute2). What the same bundle takes under the bare OCI
//! runtime is measured by `cargo bench -p orch-oci --bench start`; subtract it for the overhead.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the real clock")]

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use orch_api::{http_client::HttpClient, kubeconfig::Kubeconfig};
use orch_core::{Api, ApiClient, Env, client::ListParams};
use serde_json::{Value, json};
use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const STARTS: usize = 7;
const PODS: usize = 40;
const IDLE: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "orch-bench";

fn main() -> anyhow::Result<()> {
    drop(
        Command::new("ip")
            .args(["netns", "del", NAMESPACE])
            .stderr(Stdio::null())
            .status(),
    );
    anyhow::ensure!(
        Command::new("ip")
            .args(["netns", "add", NAMESPACE])
            .status()?
            .success(),
        "ip netns add failed"
    );
    let result = inside();
    drop(Command::new("ip").args(["netns", "del", NAMESPACE]).status());
    result
}

/// Everything that follows, children included, happens on the namespace's network.
fn inside() -> anyhow::Result<()> {
    let namespace = fs::File::open(format!("/run/netns/{NAMESPACE}"))?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
    anyhow::ensure!(
        Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()?
            .success(),
        "ip link failed"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

struct Up {
    process: Child,
    dir: PathBuf,
    took: Duration,
}

fn orch() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("orch");
    anyhow::ensure!(path.exists(), "{} is missing: build it first", path.display());
    Ok(path)
}

fn start(dir: &Path) -> anyhow::Result<Up> {
    let ready = dir.join("ready");
    let begin = Instant::now();
    let process = Command::new(orch()?)
        .args(["up", "--data-dir"])
        .arg(dir.join("data"))
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .spawn()?;
    while !ready.exists() {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(30), "not ready in 30 s");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Up {
        process,
        dir: dir.into(),
        took: begin.elapsed(),
    })
}

impl Up {
    fn stop(mut self) -> anyhow::Result<()> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        self.process.wait()?;
        Command::new(orch()?)
            .args(["down", "--data-dir"])
            .arg(self.dir.join("data"))
            .stdout(Stdio::null())
            .status()?;
        Ok(())
    }

    /// CPU time used so far, in clock ticks of 10 ms.
    fn cpu_ticks(&self) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        Ok(fields.get(11).context("utime")?.parse::<u64>()?
            + fields.get(12).context("stime")?.parse::<u64>()?)
    }

    fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

async fn measure() -> anyhow::Result<()> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let dir = tempfile::tempdir()?;
        let up = start(dir.path())?;
        starts.push(up.took);
        up.stop()?;
    }
    println!(
        "start to ready (API, node), empty directory: median {:?} of {STARTS}",
        median(starts)
    );

    let dir = tempfile::tempdir()?;
    let up = start(dir.path())?;
    let result = measure_running(&up).await;
    up.stop()?;
    result
}

async fn measure_running(up: &Up) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = up.cpu_ticks()?;
    tokio::time::sleep(IDLE).await;
    let ticks = up.cpu_ticks()? - before;
    let share = ticks as f64 / 100.0 / IDLE.as_secs_f64() * 100.0;
    println!(
        "idle for {IDLE:?}: {share:.2} % of one core, {:.1} MB resident",
        up.resident_kib()? as f64 / 1000.0
    );

    let kubeconfig = Kubeconfig::read(&up.dir.join("data/kubeconfig"))?;
    let client: Arc<dyn ApiClient> = Arc::new(HttpClient::from_kubeconfig(Env::system(), &kubeconfig)?);
    let pods = Api::<Pod>::namespaced(client, "default");
    while pods.create(&pod("warm")?).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    wait_running(&pods, "warm").await?;
    let mut times = Vec::new();
    for n in 0..PODS {
        let name = format!("bench-{n}");
        let begin = Instant::now();
        pods.create(&pod(&name)?).await?;
        wait_running(&pods, &name).await?;
        times.push(begin.elapsed());
        pods.delete(&name, json!({"gracePeriodSeconds": 0})).await?;
    }
    println!(
        "pod created to Running, seen by a client over HTTPS: median {:?} of {PODS}",
        median(times)
    );
    println!(
        "after {PODS} pods: {:.1} MB resident",
        up.resident_kib()? as f64 / 1000.0
    );
    Ok(())
}

fn pod(name: &str) -> anyhow::Result<Pod> {
    let object: Value = json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "localhost/orch-demo:v2.00"}]}});
    Ok(serde_json::from_value(object)?)
}

async fn wait_running(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let fields = format!("metadata.name={name}");
    let params = ListParams {
        fields,
        resource_version: "0".into(),
        ..ListParams::default()
    };
    let mut events = pods.watch(&params).await?;
    while let Some(event) = events.next().await {
        let object = event?.object;
        let phase = object
            .as_ref()
            .and_then(|p| p.status.as_ref())
            .and_then(|s| s.phase.as_deref());
        if phase == Some("Running") {
            return Ok(());
        }
    }
    anyhow::bail!("the watch of {name} ended")
}
