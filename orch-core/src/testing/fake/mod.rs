//! An API server in memory, without admission, defaulting or validation, that keeps the contract which clients rely
//! on: optimistic concurrency, metadata (UID, times, generation), finalizers and graceful deletion, ordered lists,
//! watches from a revision, selectors, bookmarks, expiry. It stands in for the real one in tests of what is built on
//! the client seam.

mod path;
mod serve;
mod state;
mod watch;

use crate::{
    Env, Object, Status,
    client::{ApiClient, ApiRequest, ApiResponse, EventStream, Upgraded},
    status::StatusReason,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use state::State;
use std::sync::Arc;

/// The server. Implements [`ApiClient`] directly.
pub struct FakeApi {
    env: Env,
    state: Arc<Mutex<State>>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl FakeApi {
    /// An empty server.
    #[must_use]
    pub fn new(env: &Env) -> Arc<Self> {
        Arc::new(Self {
            env: env.clone(),
            state: Arc::default(),
            changed: tokio::sync::watch::channel(0).0,
        })
    }

    /// Creates an object as a client would, and panics if it can't: for setting a test up.
    ///
    /// # Panics
    /// If the object is refused.
    pub async fn seed<K: crate::client::NamespacedOrCluster>(self: &Arc<Self>, object: K) -> Arc<K> {
        let namespace = object.metadata().namespace.clone().unwrap_or_default();
        let api = crate::Api::<K>::namespaced(self.clone(), namespace);
        match api.create(&object).await {
            Ok(created) => created,
            Err(error) => panic!("seeding a {}: {error}", K::KIND),
        }
    }

    /// Forgets the history: watches from revisions before now expire.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.revision;
        state.history_start += state.history.len() as u64;
        state.history.clear();
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Every object of a collection (such as `apps/deployments`, `pods`), in order of namespace and name.
    #[must_use]
    pub fn dump(&self, group_resource: &str) -> Vec<Arc<Object>> {
        self.state
            .lock()
            .collections
            .get(group_resource)
            .map(|c| c.values().cloned().collect())
            .unwrap_or_default()
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

#[async_trait]
impl ApiClient for FakeApi {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        // Let other tasks in, as a real server would.
        tokio::task::yield_now().await;
        let before = self.revision();
        let answer = self.serve(request);
        if self.revision() != before {
            self.notify();
        }
        answer
    }

    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status> {
        self.open_watch(&request)
    }

    async fn connect(&self, _: ApiRequest) -> Result<Upgraded, Status> {
        Err(Status::new(StatusReason::BadRequest, "no upgrades here"))
    }
}

impl std::fmt::Debug for FakeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeApi(@{})", self.revision())
    }
}

/// Applies an RFC 7386 merge patch.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(into) = target {
        for (name, value) in fields {
            if value.is_null() {
                into.remove(name);
            } else {
                merge_patch(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
