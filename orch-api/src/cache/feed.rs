//! The one watch of the store that feeds all caches.

use super::resource::Cache;
use futures::StreamExt;
use orch_core::{Env, spawn::TaskHandle};
use orch_store::{Error, KeyRange, KeyValue, Progress, ReadAt, Revision, Store, WatchEvent};
use parking_lot::{Mutex, RwLock};
use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// What everything is stored under.
pub(crate) const ROOT: &str = "/registry/";
/// Keys read at once when loading.
const PAGE: u32 = 2_000;
/// How long to wait before trying again when the store fails.
const RETRY: Duration = Duration::from_millis(500);

/// All watch caches of a server. Cheap to clone; the feed ends with the last clone.
#[derive(Clone)]
pub(crate) struct Caches {
    shared: Arc<Shared>,
    _feed: Arc<EndsTask>,
}

struct EndsTask(TaskHandle);

impl Drop for EndsTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    env: Env,
    store: Arc<dyn Store>,
    routes: RwLock<BTreeMap<String, Arc<Cache>>>,
    /// Every cache has every change up to this revision.
    revision: watch::Sender<u64>,
    progress: Mutex<Option<Progress>>,
    added: mpsc::UnboundedSender<Added>,
}

struct Added {
    prefix: String,
    done: oneshot::Sender<Arc<Cache>>,
}

impl Caches {
    /// Loads the caches of `prefixes` (each with a slash at its end) and starts to follow the store.
    pub(crate) async fn start(env: Env, store: Arc<dyn Store>, prefixes: Vec<String>) -> Result<Self, Error> {
        let routes = prefixes
            .into_iter()
            .map(|p| (p.clone(), Arc::new(Cache::new(p))))
            .collect();
        let (added, commands) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            env: env.clone(),
            store,
            routes: RwLock::new(routes),
            revision: watch::channel(0).0,
            progress: Mutex::new(None),
            added,
        });
        let revision = shared.load().await?;
        let feed = Box::pin(shared.clone().run(revision, commands));
        let task = env.spawner.spawn("api-watch-cache", feed);
        Ok(Self {
            shared,
            _feed: Arc::new(EndsTask(task)),
        })
    }

    /// The cache of a prefix that is known.
    pub(crate) fn get(&self, prefix: &str) -> Option<Arc<Cache>> {
        self.shared.routes.read().get(prefix).cloned()
    }

    /// The cache of a prefix, loaded now if it was not known.
    pub(crate) async fn add(&self, prefix: &str) -> Option<Arc<Cache>> {
        if let Some(cache) = self.get(prefix) {
            return Some(cache);
        }
        let (done, answer) = oneshot::channel();
        self.shared
            .added
            .send(Added {
                prefix: prefix.to_owned(),
                done,
            })
            .ok()?;
        answer.await.ok()
    }

    /// Forgets all changes, as time does: a watch can then start after the present only.
    pub(crate) fn forget(&self) {
        let routes = self.shared.routes.read();
        routes.values().for_each(|cache| cache.forget(self.revision()));
    }

    /// Up to which revision all caches are complete.
    pub(crate) fn revision(&self) -> u64 {
        *self.shared.revision.borrow()
    }

    /// Told of each new [`Caches::revision`].
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Waits until the caches are complete up to `revision`.
    pub(crate) async fn wait_for(&self, revision: u64) {
        let mut seen = self.shared.revision.subscribe();
        if *seen.borrow() >= revision {
            return;
        }
        if let Some(progress) = &*self.shared.progress.lock() {
            progress.request();
        }
        drop(seen.wait_for(|r| *r >= revision).await);
    }

    /// Like [`Caches::wait_for`], for at most `limit`; whether it got there.
    pub(crate) async fn wait_for_at_most(&self, revision: u64, limit: Duration) -> bool {
        if self.revision() >= revision {
            return true;
        }
        let timeout = self.shared.env.clock.sleep(limit);
        tokio::select! {
            () = self.wait_for(revision) => true,
            () = timeout => false,
        }
    }
}

impl Shared {
    /// Reads everything at one revision into the caches.
    async fn load(&self) -> Result<u64, Error> {
        let (kvs, revision) = read_all(&*self.store, KeyRange::prefix(ROOT), ReadAt::Latest).await?;
        let routes: Vec<_> = self.routes.read().values().cloned().collect();
        for cache in routes {
            let start = kvs.partition_point(|kv| *kv.key < *cache.prefix().as_bytes());
            let count = kvs[start..]
                .iter()
                .take_while(|kv| kv.key.starts_with(cache.prefix().as_bytes()))
                .count();
            cache.load(&kvs[start..start + count], revision);
        }
        self.revision.send_replace(revision);
        Ok(revision)
    }

    async fn run(self: Arc<Self>, mut revision: u64, mut commands: mpsc::UnboundedReceiver<Added>) {
        loop {
            let error = match self.follow(&mut revision, &mut commands).await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.progress.lock().take();
            if matches!(error, Error::Closed) {
                // For good: the store belongs to a process that is ending.
                return;
            }
            tracing::warn!(%error, revision, "watching the store ended");
            // Going on from where it stopped loses nothing; only when that is gone, everything is read anew.
            let mut gone = matches!(error, Error::Compacted { .. } | Error::FutureRevision { .. });
            while gone {
                match self.load().await {
                    Ok(loaded) => (revision, gone) = (loaded, false),
                    Err(error) => {
                        tracing::warn!(%error, "reading the store failed");
                        self.env.clock.sleep(RETRY).await;
                    }
                }
            }
            if !matches!(error, Error::Compacted { .. } | Error::FutureRevision { .. }) {
                self.env.clock.sleep(RETRY).await;
            }
        }
    }

    async fn follow(
        &self,
        revision: &mut u64,
        commands: &mut mpsc::UnboundedReceiver<Added>,
    ) -> Result<(), Error> {
        let mut watch = self
            .store
            .watch(KeyRange::prefix(ROOT), Revision(*revision))
            .await?;
        let progress = watch.progress();
        // In this order: whoever finds nobody to ask is answered by the request that follows.
        *self.progress.lock() = Some(progress.clone());
        progress.request();
        loop {
            tokio::select! {
                batch = watch.next() => {
                    let Some(batch) = batch else {
                        return Err(Error::Unavailable { reason: "the watch ended".into() });
                    };
                    let batch = batch?;
                    self.distribute(&batch.events);
                    *revision = batch.revision.0.max(*revision);
                    self.revision.send_if_modified(|r| {
                        let grown = *revision > *r;
                        *r = (*r).max(*revision);
                        grown
                    });
                }
                added = commands.recv() => {
                    let Some(added) = added else { return Ok(()) };
                    self.add(added, *revision).await?;
                }
            }
        }
    }

    /// Hands changes to their caches, runs of one resource at once.
    fn distribute(&self, events: &[Arc<WatchEvent>]) {
        let now = self.env.clock.monotonic();
        let mut rest = events;
        while let Some(first) = rest.first() {
            let Some(cache) = self.route(&first.kv.key) else {
                rest = &rest[1..];
                continue;
            };
            let count = rest
                .iter()
                .take_while(|e| e.kv.key.starts_with(cache.prefix().as_bytes()))
                .count()
                .max(1);
            cache.apply(&rest[..count], now);
            rest = &rest[count..];
        }
    }

    fn route(&self, key: &[u8]) -> Option<Arc<Cache>> {
        let key = std::str::from_utf8(key).ok()?;
        let routes = self.routes.read();
        let (prefix, cache) = routes
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        key.starts_with(prefix.as_str()).then(|| cache.clone())
    }

    /// Loads a new cache at exactly the revision at which the feed is, so that it misses and repeats nothing.
    async fn add(&self, added: Added, revision: u64) -> Result<(), Error> {
        let known = self.routes.read().get(&added.prefix).cloned();
        let cache = match known {
            Some(cache) => cache,
            None => {
                let keys = KeyRange::prefix(added.prefix.clone());
                let (kvs, _) = read_all(&*self.store, keys, ReadAt::Exact(Revision(revision))).await?;
                let cache = Arc::new(Cache::new(added.prefix.clone()));
                cache.load(&kvs, revision);
                self.routes.write().insert(added.prefix, cache.clone());
                cache
            }
        };
        drop(added.done.send(cache));
        Ok(())
    }
}

/// Every key of a range at one revision, and that revision.
pub(crate) async fn read_all(
    store: &dyn Store,
    mut keys: KeyRange,
    mut at: ReadAt,
) -> Result<(Vec<Arc<KeyValue>>, u64), Error> {
    let mut kvs = Vec::new();
    loop {
        let page = store.range(keys.clone(), at, Some(PAGE)).await?;
        at = ReadAt::Exact(page.revision);
        if let (true, Some(last)) = (page.more, page.kvs.last()) {
            keys = keys.after(&last.key);
            kvs.extend(page.kvs);
        } else {
            kvs.extend(page.kvs);
            return Ok((kvs, page.revision.0));
        }
    }
}
