//! An API server for tests: in process, in memory, with everything allowed unless told otherwise.
//!
//! ```no_run
//! # async fn example() -> Result<(), orch_core::Status> {
//! use orch_api::testing::TestCluster;
//! let cluster = TestCluster::start().await;
//! let pods = orch_core::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(cluster.client(), "default");
//! # drop(pods); Ok(()) }
//! ```

use crate::{ApiServer, ApiServerBuilder, LocalClient, authz::AlwaysAllow};
use orch_core::{
    ApiClient, Env, UserInfo, client::ApiRequest, clock::SimClock, rng::SeededRng, spawn::TokioSpawner,
};
use orch_store::MemStore;
use std::sync::Arc;

/// A running API server over a [`MemStore`].
#[derive(Clone)]
pub struct TestCluster {
    /// The server.
    pub server: ApiServer,
    /// Its handles.
    pub env: Env,
}

impl TestCluster {
    /// A server on the current tokio runtime, with a seeded generator and a clock that follows tokio's from a fixed
    /// date (so it is virtual on a runtime that was started paused).
    ///
    /// # Panics
    /// If the server does not start, which is a bug.
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// Like [`TestCluster::start`], with a builder to adjust.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn start_with(adjust: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder) -> Self {
        let env = Self::env();
        let store = Arc::new(MemStore::new(env.clone()));
        let builder = adjust(ApiServerBuilder::new(env.clone(), store, Arc::new(AlwaysAllow)));
        let server = match builder.build().await {
            Ok(server) => server,
            Err(error) => panic!("the API server did not start: {error:?}"),
        };
        let cluster = Self { server, env };
        // Pods need it; where the controller that makes it runs, it finds it made.
        for namespace in ["default", "kube-system"] {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            let account = serde_json::json!({"metadata": {"name": "default"}});
            let made = cluster
                .client()
                .call(ApiRequest::new(http::Method::POST, path).value(account))
                .await;
            assert!(made.is_ok(), "{made:?}");
        }
        cluster
    }

    /// The handles of a test: a clock from 2026-01-01, numbers from seed 1, the current runtime.
    ///
    /// # Panics
    /// Never: the date is valid.
    #[must_use]
    pub fn env() -> Env {
        let epoch = jiff::Timestamp::from_second(1_767_225_600).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Env {
            clock: Arc::new(SimClock::starting_at(epoch)),
            rng: Arc::new(SeededRng::new(1)),
            spawner: Arc::new(TokioSpawner),
        }
    }

    /// Makes the server forget what has changed so far: who watches from before now is told that it is too late, and
    /// must list again.
    pub async fn forget_history(&self) {
        if let Ok(status) = self.server.store().status().await {
            self.server.caches().wait_for(status.revision.0).await;
        }
        self.server.caches().forget();
    }

    /// A client with every right.
    #[must_use]
    pub fn client(&self) -> Arc<dyn ApiClient> {
        Arc::new(LocalClient::privileged(self.server.clone()))
    }

    /// A client that acts as `user`.
    #[must_use]
    pub fn client_as(&self, user: UserInfo) -> Arc<dyn ApiClient> {
        Arc::new(LocalClient::new(self.server.clone(), user))
    }
}
