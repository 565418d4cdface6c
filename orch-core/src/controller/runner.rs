//! Drives a reconciler: informers fill the queue, workers empty it.

use super::{Action, Error, Reconciler, controller_of};
use crate::{
    Env, ObjectKey,
    client::NamespacedOrCluster,
    informer::{Delta, Informer, RawInformer},
    resource::GroupVersion,
    spawn::Shutdown,
    workqueue::WorkQueue,
};
use futures::{FutureExt, future::join_all};
use std::{panic::AssertUnwindSafe, sync::Arc};

/// One control loop: a queue, the watches that feed it, a reconciler and its workers.
pub struct Controller {
    name: &'static str,
    queue: Arc<WorkQueue<ObjectKey>>,
    reconciler: Arc<dyn Reconciler>,
    workers: usize,
    sources: Vec<Arc<RawInformer>>,
}

impl Controller {
    /// A controller with one worker and no watches yet. `name` is for traces.
    pub fn new(name: &'static str, env: &Env, reconciler: Arc<dyn Reconciler>) -> Self {
        Self::with_queue(name, reconciler, WorkQueue::new(env))
    }

    /// Like [`Controller::new`], with a queue that others (the reconciler itself, say) may also fill.
    pub fn with_queue(
        name: &'static str,
        reconciler: Arc<dyn Reconciler>,
        queue: Arc<WorkQueue<ObjectKey>>,
    ) -> Self {
        Self {
            name,
            queue,
            reconciler,
            workers: 1,
            sources: Vec::new(),
        }
    }

    /// How many keys may be in work at a time; at least one.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// The name for traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<WorkQueue<ObjectKey>> {
        &self.queue
    }

    /// Reconciles each object of this kind when it changes.
    #[must_use]
    pub fn watch<K: NamespacedOrCluster>(self, informer: &Informer<K>) -> Self {
        self.watch_mapped(informer, |delta: &Delta<K>| {
            vec![ObjectKey::of(&**delta.object())]
        })
    }

    /// Reconciles the controller of kind `O` of each object of kind `K` that changes, also the one it had before.
    #[must_use]
    pub fn watch_owned<O: NamespacedOrCluster, K: NamespacedOrCluster>(self, informer: &Informer<K>) -> Self {
        self.watch_mapped(informer, |delta: &Delta<K>| {
            delta
                .states()
                .filter_map(|o| owner_key::<O>(o.metadata()))
                .collect()
        })
    }

    /// Reconciles the keys that `map` makes of each change.
    #[must_use]
    pub fn watch_mapped<K: NamespacedOrCluster>(
        mut self,
        informer: &Informer<K>,
        map: impl Fn(&Delta<K>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        let queue = self.queue.clone();
        informer.on_change(move |delta| map(delta).into_iter().for_each(|key| queue.add(key)));
        self.sources.push(informer.raw().clone());
        self
    }

    /// Waits for this informer too before the first reconcile, without being fed by it.
    #[must_use]
    pub fn needs<K: NamespacedOrCluster>(mut self, informer: &Informer<K>) -> Self {
        self.sources.push(informer.raw().clone());
        self
    }

    /// Runs until `shutdown`: waits for the informers, then works. Keys in work at shutdown are finished.
    pub async fn run(self, shutdown: Shutdown) {
        let synced = join_all(self.sources.iter().map(|s| s.wait_synced()));
        tokio::select! {
            _ = synced => {}
            () = shutdown.wait() => return,
        }
        tracing::debug!(controller = self.name, workers = self.workers, "started");
        let workers: Vec<_> = (0..self.workers).map(|_| self.work().boxed()).collect();
        let mut all = join_all(workers);
        tokio::select! {
            _ = &mut all => {}
            () = shutdown.wait() => {
                self.queue.close();
                all.await;
            }
        }
    }

    async fn work(&self) {
        while let Some(key) = self.queue.next().await {
            // A panic in one reconcile must not end the loop, nor lose the key.
            let outcome = AssertUnwindSafe(self.reconciler.reconcile(&key))
                .catch_unwind()
                .await;
            match outcome {
                Ok(Ok(action)) => {
                    self.queue.forget(&key);
                    if let Action::After(delay) = action {
                        self.queue.add_after(key.clone(), delay);
                    }
                }
                Ok(Err(error)) => self.failed(&key, &error),
                Err(panic) => {
                    let text = panic_text(&*panic);
                    tracing::error!(controller = self.name, %key, panic = text, "reconcile panicked");
                    self.queue.add_rate_limited(key.clone());
                }
            }
            self.queue.done(&key);
        }
    }

    fn failed(&self, key: &ObjectKey, error: &Error) {
        match error {
            Error::Api(status)
                if status.is_conflict() || status.is_not_found() || status.is_already_exists() =>
            {
                tracing::debug!(controller = self.name, %key, %error, "lost a race");
            }
            Error::NotYet(_) => tracing::debug!(controller = self.name, %key, %error, "not yet"),
            _ => tracing::warn!(controller = self.name, %key, %error, "reconcile failed"),
        }
        if error.is_retryable() {
            self.queue.add_rate_limited(key.clone());
        } else {
            self.queue.forget(key);
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

/// The key of the object's controller if that is of kind `O`.
fn owner_key<O: NamespacedOrCluster>(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Option<ObjectKey> {
    let owner = controller_of(meta)?;
    let group = GroupVersion::parse(&owner.api_version)?.group;
    (owner.kind == O::KIND && group == O::GROUP)
        .then(|| ObjectKey::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone()))
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Controller({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Status,
        informer::SharedInformers,
        testing::{FakeApi, builders::pod, sim_env},
    };
    use async_trait::async_trait;
    use k8s_openapi::api::core::v1::Pod;
    use parking_lot::Mutex;
    use std::{collections::BTreeMap, time::Duration};

    /// Fails in its own way the first times each key is seen.
    #[derive(Default)]
    struct Moody(Mutex<BTreeMap<String, usize>>);

    #[async_trait]
    impl Reconciler for Moody {
        async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
            let count = {
                let mut seen = self.0.lock();
                let count = seen.entry(key.name.clone()).or_insert(0);
                *count += 1;
                *count
            };
            match (key.name.as_str(), count) {
                ("panics", 1) => panic!("on purpose"),
                ("fails", 1..=3) => Err(Status::bad_request("no").into()),
                ("invalid", _) => Err(Error::Invalid("bad object".into())),
                ("again", 1) => Ok(Action::After(Duration::from_secs(60))),
                _ => Ok(Action::AwaitChange),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_isolates_panics_and_stops() {
        let env = sim_env(1);
        let api = FakeApi::new(&env);
        for name in ["panics", "fails", "invalid", "again", "fine"] {
            api.seed(pod("n", name).build()).await;
        }
        let shutdown = Shutdown::new();
        let informers = SharedInformers::new(&env, api.clone(), &shutdown);
        let moody = Arc::new(Moody::default());
        let controller = Controller::new("moody", &env, moody.clone())
            .workers(2)
            .watch(&informers.informer::<Pod>());
        let running = controller.run(shutdown.clone());
        let driver = async {
            env.clock.sleep(Duration::from_secs(120)).await;
            shutdown.trigger();
        };
        tokio::join!(running, driver);
        let seen: Vec<(String, usize)> = moody.0.lock().clone().into_iter().collect();
        let seen: Vec<(&str, usize)> = seen.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        assert_eq!(
            seen,
            [
                ("again", 2),
                ("fails", 4),
                ("fine", 1),
                ("invalid", 1),
                ("panics", 2)
            ]
        );
    }
}
