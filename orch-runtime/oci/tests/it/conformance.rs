//! The seam's own suite.

use crate::support;
use async_trait::async_trait;
use orch_core::Env;
use orch_oci::{Config, OciBackend, OciRuntime};
use orch_runtime::runtime::Runtime;
use orch_runtime::testing::conformance::{self, Harness};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

struct Real {
    dir: tempfile::TempDir,
    backend: OciBackend,
    runtime: Mutex<OciRuntime>,
}

impl Real {
    async fn open(backend: OciBackend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            backend: backend.clone(),
            ..support::config(&dir.path().join("data"))
        };
        let runtime = OciRuntime::open(Env::system(), config).await.unwrap();
        support::build_image(&runtime);
        Self {
            dir,
            backend,
            runtime: Mutex::new(runtime),
        }
    }

    async fn check(self) {
        let report = conformance::run(&self).await;
        eprintln!("{} cases passed", report.passed.len());
        let data = self.dir.path().join("data");
        orch_oci::teardown(&data).unwrap();
        report.assert_passed();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(&data.display().to_string()),
            "something stays mounted"
        );
    }
}

#[async_trait]
impl Harness for Real {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.runtime.lock().clone())
    }
    fn env(&self) -> Env {
        Env::system()
    }
    fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
    fn image(&self) -> String {
        support::IMAGE.into()
    }
    async fn restart(&self) {
        let config = Config {
            backend: self.backend.clone(),
            ..support::config(&self.dir.path().join("data"))
        };
        let opened = OciRuntime::open(Env::system(), config).await;
        *self.runtime.lock() = opened.expect("the runtime opens again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_runtime_keeps_the_promises_of_the_seam() {
    if support::root() {
        Real::open(OciBackend::Libcontainer).await.check().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_with_runc() {
    let places = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc"].map(PathBuf::from);
    let Some(runc) = places.into_iter().find(|p| p.exists()) else {
        return eprintln!("skipped: there is no runc on this machine");
    };
    if support::root() {
        Real::open(OciBackend::Binary(runc)).await.check().await;
    }
}
