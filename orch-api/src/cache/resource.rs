//! The cache of one resource: its objects in key order, and its recent changes.

use super::pending::{Pending, at_revision, decode};
use bytes::Bytes;
use orch_core::{Object, clock::Monotonic};
use orch_store::{EventKind, KeyValue};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::watch;

/// Changes kept at least.
const HISTORY_MIN: usize = 100;
/// Changes kept at most.
const HISTORY_MAX: usize = 20_000;
/// How long changes are kept between the two.
const HISTORY_AGE: Duration = Duration::from_secs(75);

/// One object with its revision as a number.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The object.
    pub(crate) object: Arc<Object>,
    /// Its resource version.
    pub(crate) revision: u64,
}

/// One change of one object.
pub(crate) struct Change {
    /// Key of the object below the resource's prefix: `namespace/name` or `name`.
    pub(crate) key: Arc<str>,
    /// Revision of the change.
    pub(crate) revision: u64,
    /// The object after it; `None` if it was deleted.
    pub(crate) object: Option<Arc<Object>>,
    /// The object before it; `None` if it was created.
    pub(crate) prev: Option<Arc<Object>>,
    gone: OnceLock<Arc<Object>>,
    at: Monotonic,
}

impl Change {
    /// The object's last state under the revision at which it went (or ceased to be selected).
    pub(crate) fn gone(&self) -> Option<Arc<Object>> {
        let prev = self.prev.as_ref()?;
        let make = || {
            Arc::new(Object::from_value(at_revision(
                prev.value().clone(),
                self.revision,
            )))
        };
        Some(self.gone.get_or_init(make).clone())
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Arc<str>, Entry>,
    history: VecDeque<Arc<Change>>,
    /// Index of the first change in `history`; grows as old ones are dropped.
    first: u64,
    /// All changes after this revision are in `history`.
    complete_after: u64,
    /// Revision of the last change.
    last: u64,
}

/// The objects and recent changes of one resource.
pub(crate) struct Cache {
    prefix: String,
    state: RwLock<State>,
    pending: Mutex<HashMap<Bytes, Vec<Arc<Pending>>>>,
    head: watch::Sender<u64>,
}

impl Cache {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            state: RwLock::default(),
            pending: Mutex::default(),
            head: watch::channel(0).0,
        }
    }

    /// The store prefix, with a slash at its end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Replaces everything by what the store held at `revision`. History is lost: whoever watches is cut off.
    pub(super) fn load(&self, kvs: &[Arc<KeyValue>], revision: u64) {
        let mut state = self.state.write();
        let mut old = std::mem::take(&mut state.objects);
        for kv in kvs {
            let Some(key) = self.key_of(&kv.key) else { continue };
            let kept = old.remove(key).filter(|e| e.revision == kv.mod_revision.0);
            let entry = kept.or_else(|| {
                let object = decode(&kv.value, kv.mod_revision.0)?;
                Some(Entry {
                    object,
                    revision: kv.mod_revision.0,
                })
            });
            match entry {
                Some(entry) => drop(state.objects.insert(key.into(), entry)),
                None => tracing::error!(key = %String::from_utf8_lossy(&kv.key), "stored object is not JSON"),
            }
        }
        // A gap in the indices makes every cursor notice that it was overtaken.
        state.first += state.history.len() as u64 + 1;
        state.history.clear();
        state.complete_after = revision;
        state.last = revision;
        self.head.send_replace(state.first);
        drop(state);
        self.pending.lock().clear();
    }

    /// Forgets all changes up to `revision` at least.
    pub(super) fn forget(&self, revision: u64) {
        let mut state = self.state.write();
        state.first += state.history.len() as u64;
        state.history.clear();
        state.complete_after = revision.max(state.last);
    }

    fn key_of<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key).ok()?.strip_prefix(self.prefix.as_str())
    }

    /// Takes over changes, which must come in the order of their revisions.
    pub(super) fn apply(&self, changes: &[Arc<orch_store::WatchEvent>], now: Monotonic) {
        let mut decoded = Vec::with_capacity(changes.len());
        for event in changes {
            let Some(key) = self.key_of(&event.kv.key) else {
                continue;
            };
            let object = match event.kind {
                EventKind::Delete => None,
                EventKind::Put => match self.object_of(&event.kv) {
                    Some(object) => Some(object),
                    None => {
                        tracing::error!(key, "stored object is not JSON");
                        continue;
                    }
                },
            };
            decoded.push((key, event.kv.mod_revision.0, object));
        }
        let mut state = self.state.write();
        for (key, revision, object) in decoded {
            let (key, prev): (Arc<str>, _) = match state.objects.remove_entry(key) {
                Some((key, entry)) => (key, Some(entry.object)),
                None => (key.into(), None),
            };
            state.last = revision;
            if object.is_none() && prev.is_none() {
                continue;
            }
            if let Some(object) = &object {
                state.objects.insert(
                    key.clone(),
                    Entry {
                        object: object.clone(),
                        revision,
                    },
                );
            }
            state.history.push_back(Arc::new(Change {
                key,
                revision,
                object,
                prev,
                gone: OnceLock::new(),
                at: now,
            }));
        }
        while state.history.len() > HISTORY_MIN {
            let expired = state.history.len() > HISTORY_MAX
                || state
                    .history
                    .front()
                    .is_some_and(|c| now.since(c.at) > HISTORY_AGE);
            if !expired {
                break;
            }
            if let Some(change) = state.history.pop_front() {
                state.complete_after = change.revision;
                state.first += 1;
            }
        }
        let head = state.first + state.history.len() as u64;
        drop(state);
        self.head.send_replace(head);
    }

    /// The decoded form of a stored value: the writer's own, or parsed now.
    fn object_of(&self, kv: &KeyValue) -> Option<Arc<Object>> {
        let revision = kv.mod_revision.0;
        let mut written = None;
        let mut pending = self.pending.lock();
        if let Some(list) = pending.get_mut(&kv.key) {
            // A store that copies values hands back equal ones.
            let same = list.iter().position(|p| p.is(&kv.value));
            let same = same.or_else(|| list.iter().position(|p| p.bytes() == &kv.value));
            written = same.map(|at| list.remove(at));
            list.retain(|p| !p.is_over(revision));
            if list.is_empty() {
                pending.remove(&kv.key);
            }
        }
        drop(pending);
        match written {
            Some(pending) => Some(pending.object(revision)),
            None => decode(&kv.value, revision),
        }
    }

    /// The object of a key-value that was read from the store, shared with the cache if it has this revision.
    pub(crate) fn object_at(&self, kv: &KeyValue) -> Option<Arc<Object>> {
        let key = self.key_of(&kv.key)?;
        match self.get(key) {
            Some(entry) if entry.revision == kv.mod_revision.0 => Some(entry.object),
            _ => {
                let pending = self.pending.lock();
                let written = pending
                    .get(&kv.key)
                    .and_then(|l| l.iter().find(|p| p.is(&kv.value)).cloned());
                drop(pending);
                match written {
                    Some(pending) => Some(pending.object(kv.mod_revision.0)),
                    None => decode(&kv.value, kv.mod_revision.0),
                }
            }
        }
    }

    /// Announces a write of `pending` under the full store key.
    pub(crate) fn announce(&self, key: &Bytes, pending: &Arc<Pending>) {
        self.pending
            .lock()
            .entry(key.clone())
            .or_default()
            .push(pending.clone());
    }

    /// Takes an announcement back: the write did not happen.
    pub(crate) fn withdraw(&self, key: &Bytes, pending: &Arc<Pending>) {
        let mut held = self.pending.lock();
        if let Some(list) = held.get_mut(key) {
            list.retain(|p| !Arc::ptr_eq(p, pending));
            if list.is_empty() {
                held.remove(key);
            }
        }
    }

    /// The object under a key below the prefix, as far as the cache has come.
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.state.read().objects.get(key).cloned()
    }

    /// Revision of the last change.
    pub(crate) fn last_change(&self) -> u64 {
        self.state.read().last
    }

    /// The objects whose keys begin with `prefix` and lie behind `after`, in key order, at most `limit`; and the
    /// revision at which that holds, given that the caches were complete up to `complete` before this call.
    pub(crate) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        complete: u64,
        mut keep: impl FnMut(&Arc<Object>) -> bool,
        limit: usize,
    ) -> Listed {
        let state = self.state.read();
        let mut listed = Listed {
            revision: complete.max(state.last),
            ..Listed::default()
        };
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        for (key, entry) in state.objects.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            if listed.objects.len() == limit {
                listed.more = true;
                listed.remaining += 1;
                continue;
            }
            if keep(&entry.object) {
                listed.objects.push(entry.object.clone());
                listed.last_key = Some(key.clone());
            }
        }
        listed
    }

    /// Everything below `prefix` now, and the place in history from which its changes follow.
    pub(super) fn snapshot(&self, prefix: &str, complete: u64) -> (Listed, u64) {
        // The listing and the place must be of one moment, so both are taken under one lock.
        let state = self.state.read();
        let from = state
            .objects
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let objects = from
            .take_while(|(k, _)| k.starts_with(prefix))
            .map(|(_, e)| e.object.clone())
            .collect();
        let listed = Listed {
            objects,
            revision: complete.max(state.last),
            ..Listed::default()
        };
        (listed, state.first + state.history.len() as u64)
    }

    /// The place in history behind `revision`, or the oldest revision that can be asked for.
    pub(super) fn place_after(&self, revision: u64) -> Result<u64, u64> {
        let state = self.state.read();
        if revision < state.complete_after {
            return Err(state.complete_after);
        }
        let skip = state.history.partition_point(|c| c.revision <= revision);
        Ok(state.first + skip as u64)
    }

    /// Up to `max` changes from place `next` on; `None` if history has been forgotten beyond it.
    pub(super) fn changes(&self, next: u64, max: usize) -> Option<Vec<Arc<Change>>> {
        let state = self.state.read();
        let skip = next.checked_sub(state.first)?;
        let skip = usize::try_from(skip).ok()?;
        Some(state.history.iter().skip(skip).take(max).cloned().collect())
    }

    /// Told of every change; the value is the place behind the last one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }
}

/// What [`Cache::range`] found.
#[derive(Default)]
pub(crate) struct Listed {
    /// The objects.
    pub(crate) objects: Vec<Arc<Object>>,
    /// The revision at which they are all there is.
    pub(crate) revision: u64,
    /// Whether the limit cut it short.
    pub(crate) more: bool,
    /// How many keys lie behind the cut.
    pub(crate) remaining: usize,
    /// Key of the last object.
    pub(crate) last_key: Option<Arc<str>>,
}
