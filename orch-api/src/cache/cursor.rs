//! A watcher's place in the history of one resource.

use super::resource::{Cache, Change, Listed};
use std::sync::Arc;
use tokio::sync::watch;

/// How many changes a watcher takes at once.
const BATCH: usize = 256;

/// A place in a cache's history. Reading moves it on; not reading costs nothing.
pub(crate) struct Cursor {
    cache: Arc<Cache>,
    next: u64,
    /// Changes up to this revision are not wanted even if they come later.
    after: u64,
    head: watch::Receiver<u64>,
}

/// The watcher was slower than history is long, or the cache was rebuilt.
#[derive(Debug)]
pub(crate) struct Overtaken;

impl Cursor {
    /// Behind `revision`; or else the oldest revision behind which one can start.
    pub(crate) fn after(cache: Arc<Cache>, revision: u64) -> Result<Self, u64> {
        let head = cache.subscribe();
        let next = cache.place_after(revision)?;
        Ok(Self {
            cache,
            next,
            after: revision,
            head,
        })
    }

    /// At the present, with the objects that are there. `complete` is the caches' revision before the call.
    pub(crate) fn now(cache: Arc<Cache>, prefix: &str, complete: u64) -> (Listed, Self) {
        let head = cache.subscribe();
        let (listed, next) = cache.snapshot(prefix, complete);
        let after = listed.revision;
        (
            listed,
            Self {
                cache,
                next,
                after,
                head,
            },
        )
    }

    /// The next changes if there are any now.
    pub(crate) fn take(&mut self) -> Result<Vec<Arc<Change>>, Overtaken> {
        let mut changes = self.cache.changes(self.next, BATCH).ok_or(Overtaken)?;
        self.next += changes.len() as u64;
        if changes.first().is_some_and(|c| c.revision <= self.after) {
            changes.retain(|c| c.revision > self.after);
        }
        Ok(changes)
    }

    /// Completes when there may be something to take.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn ready(&mut self) {
        let next = self.next;
        // An error means that the cache is gone, and with it everything that could ever be waited for.
        if self.head.wait_for(|head| *head != next).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
