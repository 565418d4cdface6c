//! Typed informers, and the one place that shares them.

use super::{
    Delta, InformerScope, Lister, RawInformer,
    cache::{typed, typed_delta},
};
use crate::{
    Env, GroupVersionResource,
    client::{ApiClient, NamespacedOrCluster},
    spawn::Shutdown,
};
use futures::future::join_all;
use parking_lot::Mutex;
use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};
use tokio::sync::mpsc;

/// An informer of one kind. Cheap to clone.
pub struct Informer<K> {
    raw: Arc<RawInformer>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            raw: self.raw.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: NamespacedOrCluster> Informer<K> {
    /// Starts an informer of its own, for a part of a collection; [`SharedInformers::informer`] shares one of all.
    #[must_use]
    pub fn start(env: &Env, client: Arc<dyn ApiClient>, scope: InformerScope, shutdown: &Shutdown) -> Self {
        Self {
            raw: RawInformer::start(env, client, K::gvr(), scope, shutdown),
            kind: PhantomData,
        }
    }

    /// Reads the copy.
    #[must_use]
    pub fn lister(&self) -> Lister<K> {
        Lister::new(self.raw.cache.clone())
    }

    /// Without the type.
    #[must_use]
    pub fn raw(&self) -> &Arc<RawInformer> {
        &self.raw
    }

    /// Calls `handler` for each object that is there now, as added, and then for each change. It must not block and
    /// must not add handlers itself.
    pub fn on_change(&self, handler: impl Fn(&Delta<K>) + Send + Sync + 'static) {
        self.raw.on_change(move |delta| {
            if let Some(delta) = typed_delta(delta) {
                handler(&delta);
            }
        });
    }

    /// The changes as a channel, beginning with what is there now. It grows as long as nobody reads.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Delta<K>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.on_change(move |delta| drop(sender.send(delta.clone())));
        receiver
    }

    /// Adds an index: `values` says under which values an object is found by [`Lister::by_index`]. Adding a name
    /// again changes nothing.
    pub fn add_index(&self, name: &str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let raw =
            move |object: &Arc<crate::Object>| typed::<K>(object).map(|o| values(&o)).unwrap_or_default();
        self.raw.cache.add_index(name, Box::new(raw));
    }

    /// Whether the first list has been taken in.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.raw.has_synced()
    }

    /// Waits for [`Informer::has_synced`].
    pub async fn wait_synced(&self) {
        self.raw.wait_synced().await;
    }
}

impl<K> std::fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.raw.fmt(f)
    }
}

/// The informers of a process: one watch per resource, shared by whoever asks. Cheap to clone.
#[derive(Clone)]
pub struct SharedInformers {
    env: Env,
    client: Arc<dyn ApiClient>,
    shutdown: Shutdown,
    informers: Arc<Mutex<BTreeMap<GroupVersionResource, Arc<RawInformer>>>>,
}

impl SharedInformers {
    /// Informers over `client` that run until `shutdown`. None is started yet.
    pub fn new(env: &Env, client: Arc<dyn ApiClient>, shutdown: &Shutdown) -> Self {
        Self {
            env: env.clone(),
            client,
            shutdown: shutdown.clone(),
            informers: Arc::default(),
        }
    }

    /// The informer of a kind in all namespaces, started when first asked for.
    #[must_use]
    pub fn informer<K: NamespacedOrCluster>(&self) -> Informer<K> {
        Informer {
            raw: self.raw(&K::gvr()),
            kind: PhantomData,
        }
    }

    /// The lister of a kind in all namespaces; starts its informer when first asked for.
    #[must_use]
    pub fn lister<K: NamespacedOrCluster>(&self) -> Lister<K> {
        self.informer().lister()
    }

    /// The informer of a resource of unknown type, shared with the typed ones.
    #[must_use]
    pub fn raw(&self, gvr: &GroupVersionResource) -> Arc<RawInformer> {
        let mut informers = self.informers.lock();
        informers
            .entry(gvr.clone())
            .or_insert_with(|| {
                let (client, scope) = (self.client.clone(), InformerScope::default());
                RawInformer::start(&self.env, client, gvr.clone(), scope, &self.shutdown)
            })
            .clone()
    }

    /// Waits until every informer started so far has synced.
    pub async fn wait_synced(&self) {
        let informers: Vec<_> = self.informers.lock().values().cloned().collect();
        join_all(informers.iter().map(|i| i.wait_synced())).await;
    }
}

impl std::fmt::Debug for SharedInformers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.informers.lock().keys()).finish()
    }
}
