//! A concurrent history and its check.
//!
//! The store itself says in which order things happened: by revision. So the check need not search for an order: it
//! replays the one claimed, and compares every answer with it, and the order with the times at which operations began
//! and ended.

use super::Store;
use crate::store::{EventKind, KeyRange, KeyValue, Op, OpResult, ReadAt, Revision, Txn, WatchEvent};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One operation with its answer, between two ticks of a common counter.
#[derive(Debug, Clone)]
struct Operation {
    began: u64,
    ended: u64,
    revision: Revision,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A transaction that put these.
    Wrote(Vec<(Bytes, Bytes)>),
    /// A transaction whose compare failed, with what it found.
    Refused { key: Bytes, expected: Revision },
    Read {
        key: Bytes,
        found: Option<Arc<KeyValue>>,
    },
}

/// What concurrent clients did and saw.
#[derive(Debug, Clone, Default)]
pub struct History {
    operations: Vec<Operation>,
}

/// Lets clients work on a store and writes down what they see.
#[derive(Debug, Default)]
pub struct Recorder {
    tick: AtomicU64,
    start: Mutex<Option<Revision>>,
    history: Mutex<History>,
}

impl Recorder {
    /// The revision before the first recorded operation.
    pub fn start(&self) -> Revision {
        self.start.lock().unwrap_or_default()
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        self.history.lock().clone()
    }

    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    fn record(&self, began: u64, revision: Revision, kind: Kind) {
        let ended = self.tick();
        self.history.lock().operations.push(Operation {
            began,
            ended,
            revision,
            kind,
        });
    }

    /// One client: `n` operations on a few shared keys. Operations that fail are not recorded, and panic.
    pub async fn work(&self, store: &Arc<dyn Store>, client: u32, n: u32) {
        let status = store.status().await.expect("a status");
        self.start.lock().get_or_insert(status.revision);
        let mut seen: BTreeMap<u32, Revision> = BTreeMap::new();
        for step in 0..n {
            let on = (client * 7 + step * 5) % 3;
            let key = Bytes::from(format!("/h/{on}"));
            let value = Bytes::from(format!("{client}.{step}"));
            if (client + step).is_multiple_of(3) {
                super::kit::pause().await;
            }
            let began = self.tick();
            match (client + step) % 4 {
                0 => {
                    let page = store
                        .range(KeyRange::key(key.clone()), ReadAt::Latest, None)
                        .await
                        .expect("a page");
                    let found = page.kvs.first().cloned();
                    seen.insert(on, found.as_ref().map_or(Revision(0), |kv| kv.mod_revision));
                    self.record(began, page.revision, Kind::Read { key, found });
                }
                1 => {
                    let outcome = store
                        .txn(Txn::of([Op::put(key.clone(), value.clone())]))
                        .await
                        .expect("an outcome");
                    seen.insert(on, outcome.revision);
                    self.record(began, outcome.revision, Kind::Wrote(vec![(key, value)]));
                }
                2 => {
                    let expected = seen.get(&on).copied().unwrap_or_default();
                    let txn = Txn::update(key.clone(), expected, value.clone());
                    let outcome = store.txn(txn).await.expect("an outcome");
                    let kind = if outcome.succeeded {
                        seen.insert(on, outcome.revision);
                        Kind::Wrote(vec![(key, value)])
                    } else {
                        seen.insert(on, outcome.found().map_or(Revision(0), |kv| kv.mod_revision));
                        Kind::Refused { key, expected }
                    };
                    self.record(began, outcome.revision, kind);
                }
                _ => {
                    let other = Bytes::from(format!("/h/{}", (on + 1) % 3));
                    let ops = [
                        Op::put(key.clone(), value.clone()),
                        Op::put(other.clone(), value.clone()),
                    ];
                    let outcome = store.txn(Txn::of(ops)).await.expect("an outcome");
                    assert!(outcome.results.iter().all(|r| matches!(r, OpResult::Put { .. })));
                    self.record(
                        began,
                        outcome.revision,
                        Kind::Wrote(vec![(key, value.clone()), (other, value)]),
                    );
                }
            }
        }
    }
}

impl History {
    /// Checks that the order of revisions, as `events` after `start` have it, explains every answer.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, start: Revision, events: &[Arc<WatchEvent>]) -> Result<(), String> {
        self.check_times()?;
        self.check_writes(start, events)?;
        let mut versions: BTreeMap<&[u8], Vec<&WatchEvent>> = BTreeMap::new();
        for event in events {
            versions.entry(&event.kv.key).or_default().push(event);
        }
        let at = |key: &[u8], revision: Revision| {
            let all = versions.get(key).map(Vec::as_slice).unwrap_or_default();
            let n = all.partition_point(|e| e.revision() <= revision);
            n.checked_sub(1)
                .map(|i| all[i])
                .filter(|e| e.kind == EventKind::Put)
                .map(|e| Arc::clone(&e.kv))
        };
        for operation in &self.operations {
            match &operation.kind {
                Kind::Read { key, found } if *found != at(key, operation.revision) => {
                    return Err(format!("a read does not fit its revision: {operation:?}"));
                }
                Kind::Refused { key, expected } => {
                    let there = at(key, operation.revision).map_or(Revision(0), |kv| kv.mod_revision);
                    if there == *expected {
                        return Err(format!("a compare failed that should hold: {operation:?}"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What ended before something else began has no later revision; a later write has a greater one.
    fn check_times(&self) -> Result<(), String> {
        let mut by_end: Vec<_> = self.operations.iter().collect();
        by_end.sort_by_key(|o| o.ended);
        let mut by_begin = by_end.clone();
        by_begin.sort_by_key(|o| o.began);
        let mut ended = by_end.into_iter().peekable();
        let mut newest = Revision(0);
        for operation in by_begin {
            while let Some(earlier) = ended.next_if(|e| e.ended < operation.began) {
                newest = newest.max(earlier.revision);
            }
            let wrote = matches!(operation.kind, Kind::Wrote(_));
            if operation.revision < newest || wrote && operation.revision == newest {
                return Err(format!(
                    "an answer from before {newest}, which was acknowledged earlier: {operation:?}"
                ));
            }
        }
        Ok(())
    }

    /// Each acknowledged write is in the history once, and nothing else is.
    fn check_writes(&self, start: Revision, events: &[Arc<WatchEvent>]) -> Result<(), String> {
        let mut acknowledged = BTreeMap::new();
        for operation in &self.operations {
            let Kind::Wrote(puts) = &operation.kind else {
                continue;
            };
            if acknowledged.insert(operation.revision, puts).is_some() {
                return Err(format!("two writes got revision {}", operation.revision));
            }
        }
        let mut happened: BTreeMap<Revision, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        for event in events.iter().filter(|e| e.revision() > start) {
            let put = (event.kv.key.clone(), event.kv.value.clone());
            happened.entry(event.revision()).or_default().push(put);
        }
        for (revision, puts) in acknowledged {
            match happened.remove(&revision) {
                Some(found) if found == *puts => {}
                found => {
                    return Err(format!(
                        "{revision} was acknowledged as {puts:?}, history has {found:?}"
                    ));
                }
            }
        }
        match happened.into_iter().next() {
            Some((revision, found)) => Err(format!("nobody wrote {found:?} at {revision}")),
            None => Ok(()),
        }
    }
}
