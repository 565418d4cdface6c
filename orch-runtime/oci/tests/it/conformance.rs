//! The seam's own suite.

use crate::support;
use async_trait::async_trait;
use orch_core::Env;
use orch_oci::OciRuntime;
use orch_runtime::runtime::Runtime;
use orch_runtime::testing::conformance::{self, Harness};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

struct Real {
    dir: tempfile::TempDir,
    runtime: Mutex<OciRuntime>,
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
        let opened = OciRuntime::open(Env::system(), support::config(&self.dir.path().join("data"))).await;
        *self.runtime.lock() = opened.expect("the runtime opens again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_runtime_keeps_the_promises_of_the_seam() {
    if !support::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = OciRuntime::open(Env::system(), support::config(&dir.path().join("data")))
        .await
        .unwrap();
    support::build_image(&runtime);
    let real = Real {
        dir,
        runtime: Mutex::new(runtime),
    };
    let report = conformance::run(&real).await;
    eprintln!("{} cases passed", report.passed.len());
    let data = real.dir.path().join("data");
    orch_oci::teardown(&data).unwrap();
    report.assert_passed();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(&data.display().to_string()),
        "something stays mounted"
    );
}
