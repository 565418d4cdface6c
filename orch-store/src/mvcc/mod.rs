//! The state that every backend in this crate serves from: present keys, their recent past, leases and watchers.
//!
//! Nothing here does I/O. A backend evaluates requests against it ([`staged`]), makes the resulting [`Effect`] as
//! durable as it promises, applies it under the write lock, and then wakes the watchers.

mod cow_map;
mod history;
mod hub;
mod staged;
mod watch;

pub(crate) use hub::Wakes;
pub(crate) use staged::{Staged, deletion, validate};
pub(crate) use watch::watch;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::{
    EventKind, KeyRange, KeyValue, LeaseId, Page, ReadAt, Revision, Txn, TxnOutcome, WatchEvent,
};
use bytes::Bytes;
use cow_map::{CowMap, Slice};
use history::History;
use hub::Hub;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How much past is kept for watchers and for reads at earlier revisions, whatever nobody compacted by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Most changes.
    pub events_max: usize,
    /// Most memory for superseded values and bookkeeping, in bytes.
    pub bytes_max: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            events_max: 100_000,
            bytes_max: 32 * 1024 * 1024,
        }
    }
}

/// What a request changes. Applying the effects in order rebuilds the state; the log holds nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The store's revision with it: its events' own, or unchanged when it has none.
    pub(crate) revision: Revision,
    pub(crate) events: Vec<Arc<WatchEvent>>,
    pub(crate) leases: Vec<LeaseChange>,
    /// History below this is forgotten.
    pub(crate) floor: Option<Revision>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    Grant(LeaseId, Duration),
    End(LeaseId),
}

/// A key's versions, oldest first, back to the one that was current at the compacted revision.
#[derive(Debug, Clone)]
pub(crate) enum Versions {
    /// The usual case: one version.
    Live(Arc<KeyValue>),
    /// Several, or a deletion that history still needs.
    Many(Vec<Version>),
}

#[derive(Debug, Clone)]
pub(crate) struct Version {
    revision: Revision,
    /// None: deleted at that revision.
    kv: Option<Arc<KeyValue>>,
}

impl Default for Versions {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Versions {
    pub(crate) fn latest(&self) -> Option<&Arc<KeyValue>> {
        match self {
            Self::Live(kv) => Some(kv),
            Self::Many(versions) => versions.last().and_then(|v| v.kv.as_ref()),
        }
    }

    pub(crate) fn at(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        match self {
            Self::Live(kv) => (kv.mod_revision <= revision).then_some(kv),
            Self::Many(versions) => {
                let after = versions.partition_point(|v| v.revision <= revision);
                after
                    .checked_sub(1)
                    .and_then(|i| versions.get(i))
                    .and_then(|v| v.kv.as_ref())
            }
        }
    }

    fn with(self, revision: Revision, kv: Option<Arc<KeyValue>>) -> Self {
        let mut versions = match self {
            Self::Live(old) => vec![Version {
                revision: old.mod_revision,
                kv: Some(old),
            }],
            Self::Many(versions) => versions,
        };
        versions.push(Version { revision, kv });
        Self::Many(versions)
    }

    /// What is left when history below `floor` is forgotten.
    fn pruned(self, floor: Revision) -> Option<Self> {
        let Self::Many(mut versions) = self else {
            return Some(self);
        };
        let after = versions.partition_point(|v| v.revision <= floor);
        versions.drain(..after.saturating_sub(1));
        if after > 0 && versions.first().is_some_and(|v| v.kv.is_none()) {
            versions.remove(0);
        }
        match versions.as_mut_slice() {
            [] => None,
            [Version { kv: Some(kv), .. }] => Some(Self::Live(Arc::clone(kv))),
            _ => Some(Self::Many(versions)),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    pub(crate) keys: BTreeSet<Bytes>,
}

/// A copy of the keys, frozen at one moment, for reading without the lock.
pub(crate) type Frozen = Slice<Versions>;

/// The state. One writer applies effects; readers take slices.
#[derive(Debug)]
pub(crate) struct Mvcc {
    keys: CowMap<Versions>,
    history: History,
    limits: HistoryLimits,
    pub(crate) revision: Revision,
    /// The compacted revision: what happened up to it is no longer in `history`'s promise.
    pub(crate) floor: Revision,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) keys_live: u64,
    /// Bytes of present keys and values.
    pub(crate) bytes_live: u64,
    hub: Hub,
    /// Set once: watchers end with this.
    pub(crate) ended: Option<Error>,
}

/// The state with its lock, as shared by a store and its watches.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: RwLock<Mvcc>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Mvcc {
    /// An empty state at revision 1.
    pub(crate) fn new(limits: HistoryLimits) -> Self {
        Self {
            keys: CowMap::new(),
            history: History::default(),
            limits,
            revision: Revision(1),
            floor: Revision(0),
            leases: BTreeMap::new(),
            keys_live: 0,
            bytes_live: 0,
            hub: Hub::default(),
            ended: None,
        }
    }

    /// A copy that shares everything but the watchers, until one of the two is written.
    pub(crate) fn fork(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            history: self.history.clone(),
            limits: self.limits,
            revision: self.revision,
            floor: self.floor,
            leases: self.leases.clone(),
            keys_live: self.keys_live,
            bytes_live: self.bytes_live,
            hub: Hub::default(),
            ended: None,
        }
    }

    /// Fills a new state from a checkpoint, whose keys come in order.
    pub(crate) fn load(&mut self, kv: Arc<KeyValue>) {
        self.keys_live += 1;
        self.bytes_live += (kv.key.len() + kv.value.len()) as u64;
        if let Some(id) = kv.lease {
            self.leases.entry(id).or_default().keys.insert(kv.key.clone());
        }
        self.keys.push(kv.key.clone(), Versions::Live(kv));
    }

    /// Goes on at a later revision, with everything before it compacted.
    pub(crate) fn jump(&mut self, to: Revision) {
        self.revision = self.revision.max(to);
        self.floor = self.revision;
        self.prune(usize::MAX);
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    pub(crate) fn history_events(&self) -> usize {
        self.history.len()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.hub.len()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.keys.get(key).and_then(Versions::latest)
    }

    /// Checks `at` and says which revision it means.
    pub(crate) fn resolve(&self, at: ReadAt) -> Result<Revision, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let asked = match at {
            ReadAt::Latest => return Ok(self.revision),
            ReadAt::AtLeast(asked) | ReadAt::Exact(asked) => asked,
        };
        if asked > self.revision {
            return Err(Error::FutureRevision {
                asked,
                current: self.revision,
            });
        }
        if matches!(at, ReadAt::AtLeast(_)) {
            return Ok(self.revision);
        }
        if asked < self.floor {
            return Err(Error::Compacted {
                asked,
                oldest: self.floor,
            });
        }
        Ok(asked)
    }

    pub(crate) fn freeze(&self, keys: &KeyRange) -> Frozen {
        self.keys.slice(keys)
    }

    /// Applies one effect and notes which watchers it concerns.
    pub(crate) fn apply(&mut self, effect: &Effect, wakes: &mut Wakes) {
        self.keep_limits();
        self.revision = effect.revision;
        for event in &effect.events {
            self.apply_event(event);
            self.hub.mark(event, wakes);
        }
        for change in &effect.leases {
            match *change {
                LeaseChange::Grant(id, ttl) => {
                    self.leases.entry(id).or_default().ttl = ttl;
                }
                LeaseChange::End(id) => {
                    self.leases.remove(&id);
                }
            }
        }
        if let Some(floor) = effect.floor {
            self.floor = self.floor.max(floor);
        }
        self.prune(2 * effect.events.len() + 16);
    }

    fn apply_event(&mut self, event: &Arc<WatchEvent>) {
        let kv = &event.kv;
        if let Some(prev) = &event.prev {
            self.keys_live -= 1;
            self.bytes_live -= (prev.key.len() + prev.value.len()) as u64;
            if let Some(lease) = prev.lease.and_then(|id| self.leases.get_mut(&id)) {
                lease.keys.remove(&prev.key);
            }
        }
        let live = (event.kind == EventKind::Put).then(|| Arc::clone(kv));
        if let Some(kv) = &live {
            self.keys_live += 1;
            self.bytes_live += (kv.key.len() + kv.value.len()) as u64;
            if let Some(id) = kv.lease {
                self.leases.entry(id).or_default().keys.insert(kv.key.clone());
            }
        }
        // The entry's key is the first version's: later versions share its bytes only by value.
        self.keys.update(&kv.key, |versions| match (versions, live) {
            (None, None) => None,
            (None, Some(kv)) => Some(Versions::Live(kv)),
            (Some(versions), live) => Some(versions.with(event.revision(), live)),
        });
        self.history.push(Arc::clone(event));
    }

    /// Raises the floor when history is over its limits. Called before an effect is applied, so that what was
    /// published last is always there for its watchers.
    fn keep_limits(&mut self) {
        let over =
            self.history.len() > self.limits.events_max || self.history.bytes() > self.limits.bytes_max;
        if over && let Some(oldest) = self.history.front() {
            self.floor = self.floor.max(oldest.revision());
        }
    }

    /// Forgets up to `max` events at or below the floor. Whether there are more.
    pub(crate) fn prune(&mut self, max: usize) -> bool {
        for _ in 0..max {
            match self.history.front() {
                Some(event) if event.revision() <= self.floor => {}
                _ => return false,
            }
            let Some(event) = self.history.pop_front() else {
                return false;
            };
            let floor = self.floor;
            self.keys
                .update(&event.kv.key, |versions| versions.and_then(|v| v.pruned(floor)));
        }
        self.history
            .front()
            .is_some_and(|event| event.revision() <= self.floor)
    }

    /// Ends all watches with `error`.
    pub(crate) fn end(&mut self, error: Error, wakes: &mut Wakes) {
        self.ended.get_or_insert(error);
        self.hub.wake_all(wakes);
    }
}

/// Builds the answer to a range read from a frozen copy.
pub(crate) fn page(frozen: &Frozen, revision: Revision, limit: Option<u32>) -> Page {
    let limit = limit.map_or(usize::MAX, |n| n as usize);
    let mut page = Page {
        revision,
        kvs: Vec::new(),
        more: false,
        count: 0,
    };
    for kv in frozen.iter().filter_map(|(_, versions)| versions.at(revision)) {
        page.count += 1;
        if page.kvs.len() < limit {
            page.kvs.push(Arc::clone(kv));
        }
    }
    page.more = page.count > page.kvs.len() as u64;
    page
}

impl Shared {
    pub(crate) fn new(state: Mvcc, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(state),
            metrics,
        })
    }

    /// A range read of the published state.
    pub(crate) fn range(&self, keys: &KeyRange, at: ReadAt, limit: Option<u32>) -> Result<Page, Error> {
        self.metrics.reads.add(1);
        let (frozen, revision) = {
            let state = self.state.read();
            let revision = state.resolve(at)?;
            if let (Some(key), true) = (keys.single(), revision == state.revision) {
                let kvs: Vec<_> = state.get(key).into_iter().cloned().collect();
                return Ok(single_page(revision, kvs, limit));
            }
            (state.freeze(keys), revision)
        };
        Ok(page(&frozen, revision, limit))
    }

    /// Evaluates a transaction that only reads.
    pub(crate) fn read_txn(&self, txn: &Txn) -> Result<TxnOutcome, Error> {
        let state = self.state.read();
        state.resolve(ReadAt::Latest)?;
        Staged::on(&state).txn(txn).map(|(outcome, _)| outcome)
    }

    /// Forgets history up to the floor in small steps, so that writers get the lock in between.
    pub(crate) fn prune_all(&self) {
        while self.state.write().prune(1000) {}
    }

    /// Ends all watches.
    pub(crate) fn end(&self, error: Error) {
        let mut wakes = Wakes::default();
        self.state.write().end(error, &mut wakes);
        wakes.wake();
    }
}

fn single_page(revision: Revision, mut kvs: Vec<Arc<KeyValue>>, limit: Option<u32>) -> Page {
    let count = kvs.len() as u64;
    if limit == Some(0) {
        kvs.clear();
    }
    Page {
        revision,
        more: count > kvs.len() as u64,
        kvs,
        count,
    }
}
