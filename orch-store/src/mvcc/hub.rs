//! Who watches what: finds the watchers that a change concerns, without touching the others.
//!
//! A watcher has no queue. It remembers the first change that it has not delivered; being clean means that it has
//! delivered everything published. So a quiet watcher costs nothing, however much happens elsewhere, and a slow one
//! costs nothing but its place in the history.

use crate::store::{KeyRange, WatchEvent};
use bytes::Bytes;
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) range: KeyRange,
    /// The lowest revision that may hold an undelivered change; 0 when there is none. Written by the publisher under
    /// the state's write lock and by the watch itself under its read lock, so never by both at once.
    pub(crate) pending: AtomicU64,
    /// A progress mark is asked for.
    pub(crate) progress: AtomicBool,
    pub(crate) waker: AtomicWaker,
}

impl Watcher {
    pub(crate) fn new(range: KeyRange, pending: u64) -> Self {
        Self {
            range,
            pending: AtomicU64::new(pending),
            progress: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn mark(self: &Arc<Self>, revision: u64, wakes: &mut Wakes) {
        if self.pending.load(Ordering::Relaxed) == 0 {
            self.pending.store(revision, Ordering::Relaxed);
            wakes.0.push(Arc::clone(self));
        }
    }
}

/// Watchers to wake once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Wakes(Vec<Arc<Watcher>>);

impl Wakes {
    pub(crate) fn wake(self) {
        for watcher in self.0 {
            watcher.waker.wake();
        }
    }
}

/// All watchers of one store. Those of the same range are one group.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    singles: BTreeMap<Bytes, Vec<Arc<Watcher>>>,
    ranges: BTreeMap<KeyRange, Vec<Arc<Watcher>>>,
    len: usize,
}

impl Hub {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn add(&mut self, watcher: Arc<Watcher>) {
        self.len += 1;
        match watcher.range.single() {
            Some(key) => self.singles.entry(key.clone()).or_default().push(watcher),
            None => self
                .ranges
                .entry(watcher.range.clone())
                .or_default()
                .push(watcher),
        }
    }

    pub(crate) fn remove(&mut self, watcher: &Arc<Watcher>) {
        fn take<K: Ord>(
            groups: &mut BTreeMap<K, Vec<Arc<Watcher>>>,
            key: &K,
            watcher: &Arc<Watcher>,
        ) -> usize {
            let Some(group) = groups.get_mut(key) else {
                return 0;
            };
            let before = group.len();
            group.retain(|w| !Arc::ptr_eq(w, watcher));
            let removed = before - group.len();
            if group.is_empty() {
                groups.remove(key);
            }
            removed
        }
        self.len -= match watcher.range.single() {
            Some(key) => take(&mut self.singles, key, watcher),
            None => take(&mut self.ranges, &watcher.range, watcher),
        };
    }

    /// Tells the watchers of the event's key that there is something to deliver.
    pub(crate) fn mark(&self, event: &WatchEvent, wakes: &mut Wakes) {
        let (key, revision) = (&event.kv.key, event.revision().0);
        for watcher in self.singles.get(key).into_iter().flatten() {
            watcher.mark(revision, wakes);
        }
        for (range, group) in &self.ranges {
            if range.start > *key {
                break;
            }
            if range.contains(key) {
                for watcher in group {
                    watcher.mark(revision, wakes);
                }
            }
        }
    }

    pub(crate) fn wake_all(&self, wakes: &mut Wakes) {
        wakes.0.extend(
            self.singles
                .values()
                .chain(self.ranges.values())
                .flatten()
                .cloned(),
        );
    }
}
