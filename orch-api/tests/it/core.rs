//! The in-process client keeps the client contract.

use async_trait::async_trait;
use orch_api::testing::TestCluster;
use orch_core::{
    Env,
    client::ApiClient,
    testing::conformance::{ApiHarness, run_all},
};
use std::{sync::Arc, time::Duration};

struct Harness(TestCluster);

#[async_trait]
impl ApiHarness for Harness {
    fn client(&self) -> Arc<dyn ApiClient> {
        self.0.client()
    }
    fn env(&self) -> Env {
        self.0.env.clone()
    }
    async fn compact(&self) -> bool {
        self.0.forget_history().await;
        true
    }
    fn bookmark_within(&self) -> Option<Duration> {
        Some(Duration::from_secs(61))
    }
}

#[tokio::test(start_paused = true)]
async fn the_local_client_conforms() {
    let failures = run_all(&Harness(TestCluster::start().await)).await;
    assert!(failures.is_empty(), "{failures:#?}");
}
