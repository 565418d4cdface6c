//! The simulated runtime passes the kit, and a broken one fails it by the case that names the broken promise.

use async_trait::async_trait;
use futures::stream::BoxStream;
use orch_core::{Env, clock::SimClock, rng::SeededRng, spawn::TokioSpawner};
use orch_runtime::{
    runtime::{
        ContainerId, ContainerRuntime, ContainerSpec, ContainerState, ContainerStats, ExecOutput, Image,
        ImageService, Observe, RegistryCredential, Resources, Result, Runtime, RuntimeEvent, RuntimeInfo,
        SandboxId, SandboxRuntime, SandboxSpec, SandboxState, Session, StreamOptions, Streams,
        sim::{SimOptions, SimRuntime},
    },
    testing::conformance::{self, Harness},
};
use std::{path::Path, path::PathBuf, sync::Arc, time::Duration};

pub(crate) fn sim_env() -> Env {
    Env {
        clock: Arc::new(SimClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap())),
        rng: Arc::new(SeededRng::new(1)),
        spawner: Arc::new(TokioSpawner),
    }
}

struct Over {
    env: Env,
    runtime: Arc<dyn Runtime>,
    dir: tempfile::TempDir,
}

impl Over {
    fn new(wrap: impl FnOnce(Arc<SimRuntime>) -> Arc<dyn Runtime>) -> Self {
        let env = sim_env();
        let sim = SimRuntime::new(env.clone(), SimOptions::default());
        sim.add_image("localhost/sh:1");
        Self {
            env,
            runtime: wrap(sim),
            dir: tempfile::tempdir().unwrap(),
        }
    }
}

#[async_trait]
impl Harness for Over {
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.runtime.clone()
    }
    fn env(&self) -> Env {
        self.env.clone()
    }
    fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
    fn image(&self) -> String {
        "localhost/sh:1".into()
    }
    async fn restart(&self) {}
}

#[tokio::test(start_paused = true)]
async fn simulated_runtime_conforms() {
    let report = conformance::run(&Over::new(|sim| sim)).await;
    report.assert_passed();
    assert_eq!(report.passed.len(), conformance::cases().len());
}

/// Breaks one promise at a time.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    StopReturnsEarly,
    NoEvents,
    ForgetsLabels,
    AcceptsDuplicates,
    ExecSwallowsCode,
}

struct Broken {
    sim: Arc<SimRuntime>,
    fault: Fault,
}

#[async_trait]
impl ContainerRuntime for Broken {
    async fn create(&self, sandbox: &SandboxId, spec: &ContainerSpec) -> Result<ContainerId> {
        let mut spec = spec.clone();
        if self.fault == Fault::ForgetsLabels {
            spec.labels.clear();
        }
        if self.fault == Fault::AcceptsDuplicates {
            spec.attempt += u32::try_from(self.sim.list().await?.len()).unwrap();
        }
        self.sim.create(sandbox, &spec).await
    }
    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.sim.start(id).await
    }
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        if self.fault == Fault::StopReturnsEarly {
            return Ok(());
        }
        self.sim.stop(id, grace).await
    }
    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.sim.remove(id).await
    }
    async fn list(&self) -> Result<Vec<ContainerState>> {
        self.sim.list().await
    }
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.sim.update(id, resources).await
    }
    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.sim.reopen_log(id).await
    }
}

#[async_trait]
impl SandboxRuntime for Broken {
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxState> {
        self.sim.run_sandbox(spec).await
    }
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.sim.stop_sandbox(id).await
    }
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.sim.remove_sandbox(id).await
    }
    async fn list_sandboxes(&self) -> Result<Vec<SandboxState>> {
        self.sim.list_sandboxes().await
    }
}

#[async_trait]
impl ImageService for Broken {
    async fn images(&self) -> Result<Vec<Image>> {
        self.sim.images().await
    }
    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.sim.image(reference).await
    }
    async fn pull(&self, reference: &str, credentials: &[RegistryCredential]) -> Result<Image> {
        self.sim.pull(reference, credentials).await
    }
    async fn import(&self, archive: &Path) -> Result<Vec<Image>> {
        self.sim.import(archive).await
    }
    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.sim.remove_image(reference).await
    }
}

#[async_trait]
impl Streams for Broken {
    async fn exec(&self, id: &ContainerId, command: &[String], options: StreamOptions) -> Result<Session> {
        self.sim.exec(id, command, options).await
    }
    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let mut out = self.sim.exec_sync(id, command, timeout).await?;
        if self.fault == Fault::ExecSwallowsCode {
            out.code = 0;
        }
        Ok(out)
    }
    async fn attach(&self, id: &ContainerId, options: StreamOptions) -> Result<Session> {
        self.sim.attach(id, options).await
    }
    async fn port_forward(
        &self,
        sandbox: &SandboxId,
        port: u16,
    ) -> Result<Box<dyn orch_core::client::Duplex>> {
        self.sim.port_forward(sandbox, port).await
    }
}

#[async_trait]
impl Observe for Broken {
    fn subscribe(&self) -> BoxStream<'static, RuntimeEvent> {
        if self.fault == Fault::NoEvents {
            return Box::pin(futures::stream::pending());
        }
        self.sim.subscribe()
    }
    async fn stats(&self) -> Result<Vec<ContainerStats>> {
        self.sim.stats().await
    }
    async fn info(&self) -> Result<RuntimeInfo> {
        self.sim.info().await
    }
}

#[tokio::test(start_paused = true)]
async fn broken_runtimes_fail_by_the_case_that_names_the_promise() {
    for (fault, expected) in [
        (Fault::StopReturnsEarly, "container::stop_is_graceful"),
        (Fault::NoEvents, "container::events_tell"),
        (Fault::ForgetsLabels, "container::remembers_what_it_was_given"),
        (Fault::AcceptsDuplicates, "container::name_and_attempt_are_unique"),
        (Fault::ExecSwallowsCode, "streams::exec_sync_runs"),
    ] {
        let report = conformance::run(&Over::new(|sim| Arc::new(Broken { sim, fault }))).await;
        let failed: Vec<&str> = report.failed.iter().map(|(name, _)| *name).collect();
        assert!(
            failed.contains(&expected),
            "{expected} did not fail; failed: {failed:?}"
        );
    }
}
