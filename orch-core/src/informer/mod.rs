//! A local, watched copy of a collection: list once, then follow the watch.
//!
//! What it promises: handlers are called one at a time, in the order of the changes, each after the change is
//! visible to listers; after a lost watch it catches up by resuming or listing again, so that the copy always ends
//! equal to the collection. Intermediate states may be skipped over then; a delete is never missed. The copy may lag:
//! who needs the latest state reads through [`crate::Api`].
//!
//! ```text
//!   List ──ok──▶ Watch(rv) ──event/bookmark──▶ Watch(rv')      end or error: back-off, watch again from rv
//!    ▲ ╰─error: back-off        ╰──────────── 410 Expired ──▶ List
//! ```
//!
//! One informer per resource is shared by everyone in the process ([`SharedInformers`]); objects are shared with the
//! API server when the client is in process.

mod cache;
mod reflector;
mod shared;

pub use cache::{Delta, IndexFn, Lister, RawDelta};
pub use shared::{Informer, SharedInformers};

use crate::{Env, GroupVersionResource, Object, client::ApiClient, spawn::Shutdown};
use cache::Cache;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// Which part of a collection an informer copies.
#[derive(Debug, Clone, Default)]
pub struct InformerScope {
    /// One namespace only.
    pub namespace: Option<String>,
    /// Label selector in its query form; empty selects all.
    pub labels: String,
    /// Field selector in its query form; empty selects all.
    pub fields: String,
}

type Handler = Box<dyn Fn(&RawDelta) + Send + Sync>;

/// An informer that does not know its objects' type. [`Informer`] puts a type on top.
pub struct RawInformer {
    gvr: GroupVersionResource,
    cache: Arc<Cache>,
    /// Held while a change is applied and handed out, so that a new handler misses and repeats nothing.
    handlers: Mutex<Vec<Handler>>,
    synced: watch::Sender<bool>,
}

impl RawInformer {
    /// Starts an informer of its own; [`SharedInformers`] shares one per resource. It runs until `shutdown`.
    #[must_use]
    pub fn start(
        env: &Env,
        client: Arc<dyn ApiClient>,
        gvr: GroupVersionResource,
        scope: InformerScope,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let informer = Arc::new(Self {
            gvr: gvr.clone(),
            cache: Arc::new(Cache::default()),
            handlers: Mutex::new(Vec::new()),
            synced: watch::channel(false).0,
        });
        let reflector = reflector::Reflector::new(env.clone(), client, gvr.clone(), scope, informer.clone());
        let shutdown = shutdown.clone();
        let task = Box::pin(async move {
            tokio::select! {
                () = reflector.run() => {}
                () = shutdown.wait() => {}
            }
        });
        env.spawner.spawn(&format!("informer {gvr}"), task);
        informer
    }

    /// The resource it copies.
    #[must_use]
    pub fn gvr(&self) -> &GroupVersionResource {
        &self.gvr
    }

    /// Calls `handler` for each object that is there now, as added, and then for each change. It must not block and
    /// must not add handlers itself.
    pub fn on_change(&self, handler: impl Fn(&RawDelta) + Send + Sync + 'static) {
        let mut handlers = self.handlers.lock();
        for object in self.cache.all() {
            handler(&RawDelta::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Whether the first list has been taken in and handed to all handlers.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits for [`RawInformer::has_synced`].
    pub async fn wait_synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in self.
        drop(synced.wait_for(|s| *s).await);
    }

    /// The resource version up to which the copy is complete; empty before the first list.
    #[must_use]
    pub fn resource_version(&self) -> String {
        self.cache.resource_version()
    }

    /// All objects, in order of namespace and name.
    #[must_use]
    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.cache.all()
    }

    fn replace(&self, objects: Vec<Arc<Object>>, resource_version: String) {
        let handlers = self.handlers.lock();
        for delta in self.cache.replace(objects, resource_version) {
            handlers.iter().for_each(|h| h(&delta));
        }
        drop(handlers);
        self.synced.send_replace(true);
    }

    fn apply(&self, event: &crate::client::WatchEvent) {
        let handlers = self.handlers.lock();
        if let Some(delta) = self.cache.apply(event) {
            handlers.iter().for_each(|h| h(&delta));
        }
    }
}

impl std::fmt::Debug for RawInformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawInformer({} @{})", self.gvr, self.resource_version())
    }
}

#[cfg(test)]
mod tests;
