//! Stores that break one promise each, on purpose: the kit must fail them, by the case that names the promise.
//!
//! The flaws are classes of bugs that real stores, etcd among them, have had.

use super::{Bed, Subject};
use crate::store::{
    EventKind, KeyRange, KeyValue, LeaseId, Leases, Op, Page, Progress, ReadAt, Revision, Store, StoreStatus,
    Txn, TxnOutcome, Watch, WatchBatch,
};
use crate::{Error, MemStore};
use async_trait::async_trait;
use futures::StreamExt;
use orch_core::Env;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The last acknowledged write is gone after a restart.
    LosesLastWriteOnRestart,
    /// The revision starts lower after a restart, with all data there.
    RevisionGoesBackOnRestart,
    /// History is gone after a restart, but a watch of it is accepted and skips what it lacks.
    WatchSkipsHistoryOnRestart,
    /// Leases are gone after a restart, their keys stay for ever.
    ForgetsLeasesOnRestart,
    /// Now and then a watch leaves out an event.
    WatchLosesEvents,
    /// Now and then a watch delivers an event twice.
    WatchRepeatsEvents,
    /// A watch delivers the events of a batch in the wrong order.
    WatchReordersEvents,
    /// A watch starts one revision early.
    WatchStartsInThePast,
    /// A watch starts one revision late.
    WatchStartsLate,
    /// A watch from a future revision is accepted, and silent.
    WatchAcceptsTheFuture,
    /// A watch from a compacted revision is accepted, and starts later.
    WatchAcceptsTheCompacted,
    /// A watch cuts revisions in two.
    WatchSplitsRevisions,
    /// A watch sends no progress marks.
    WatchSendsNoMarks,
    /// Events do not hold the previous value.
    WatchForgetsPrevious,
    /// Reads answer from just before the last write.
    StaleRead,
    /// A read at a compacted revision answers with what is there now.
    CompactedReadsAsLatest,
    /// A deletion at the compacted revision is undone by the compaction once restarted.
    DeletionLostAtCompaction,
    /// Compaction loses a key that was not changed lately.
    KeyLostAtCompaction,
    /// Conditions on revisions are not checked.
    LosesUpdates,
    /// A transaction is done step by step.
    TransactionsAreNotAtomic,
    /// Leases end at half their time.
    LeaseEndsEarly,
    /// A sign of life is accepted but changes nothing.
    KeepAliveIsIgnored,
    /// Revoking a lease leaves its keys.
    RevokeLeavesKeys,
}

/// Each flaw with a case that must fail for it.
pub const FLAWS: &[(Flaw, &str)] = &[
    (Flaw::LosesLastWriteOnRestart, "data_and_revision_are_kept"),
    (Flaw::RevisionGoesBackOnRestart, "the_sequence_goes_on"),
    (
        Flaw::WatchSkipsHistoryOnRestart,
        "watches_lose_and_repeat_nothing",
    ),
    (Flaw::ForgetsLeasesOnRestart, "leases_are_kept_and_not_cut_short"),
    (Flaw::WatchLosesEvents, "every_change_comes_once_in_order"),
    (Flaw::WatchRepeatsEvents, "every_change_comes_once_in_order"),
    (Flaw::WatchReordersEvents, "it_starts_after_any_past_revision"),
    (Flaw::WatchStartsInThePast, "it_starts_after_any_past_revision"),
    (Flaw::WatchStartsLate, "it_starts_after_any_past_revision"),
    (Flaw::WatchAcceptsTheFuture, "a_future_start_is_refused"),
    (Flaw::WatchAcceptsTheCompacted, "a_compacted_start_is_refused"),
    (Flaw::WatchSplitsRevisions, "one_revision_is_never_split"),
    (Flaw::WatchSendsNoMarks, "marks_come_when_asked_for"),
    (Flaw::WatchForgetsPrevious, "events_tell_what_was_and_what_is"),
    (Flaw::StaleRead, "an_acknowledged_write_is_read"),
    (Flaw::StaleRead, "histories_are_linearizable"),
    (
        Flaw::CompactedReadsAsLatest,
        "below_it_is_refused_and_above_it_reads",
    ),
    (
        Flaw::DeletionLostAtCompaction,
        "a_deletion_at_the_compacted_revision_stays",
    ),
    (Flaw::KeyLostAtCompaction, "no_key_is_lost_and_none_comes_back"),
    (Flaw::LosesUpdates, "no_update_is_lost"),
    (
        Flaw::TransactionsAreNotAtomic,
        "all_changes_of_one_transaction_share_a_revision",
    ),
    (Flaw::LeaseEndsEarly, "it_never_runs_out_early"),
    (Flaw::KeepAliveIsIgnored, "a_sign_of_life_starts_its_time_again"),
    (
        Flaw::RevokeLeavesKeys,
        "keys_die_with_their_lease_in_one_revision",
    ),
];

/// A memory store that "restarts" by forking, with one flaw. Without a flaw it passes the kit.
#[derive(Debug, Default)]
pub struct Broken {
    flaw: Option<Flaw>,
    last: Mutex<Option<Arc<Flawed>>>,
}

impl Broken {
    /// A subject with this flaw.
    #[must_use]
    pub fn with(flaw: Option<Flaw>) -> Self {
        Self {
            flaw,
            last: Mutex::new(None),
        }
    }
}

#[async_trait]
impl Subject for Broken {
    async fn open(&self, bed: &Bed) -> Result<Arc<dyn Store>, Error> {
        let last = self.last.lock().take();
        let mem = match last {
            None => MemStore::new(bed.env.clone()),
            Some(last) => last.reopened(&bed.env).await?,
        };
        let store = Arc::new(Flawed {
            flaw: self.flaw,
            mem,
            env: bed.env.clone(),
            past: Mutex::default(),
        });
        *self.last.lock() = Some(Arc::clone(&store));
        Ok(store)
    }
}

#[derive(Debug)]
struct Flawed {
    flaw: Option<Flaw>,
    mem: MemStore,
    env: Env,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// The store before its last write.
    before: Option<MemStore>,
    /// Keys that a flawed compaction will bring back.
    undead: Vec<Arc<KeyValue>>,
    leases: BTreeMap<LeaseId, Duration>,
}

impl Flawed {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    async fn all(&self) -> Result<Vec<Arc<KeyValue>>, Error> {
        Ok(self.mem.range(KeyRange::all(), ReadAt::Latest, None).await?.kvs)
    }

    async fn reopened(&self, env: &Env) -> Result<MemStore, Error> {
        match self.flaw {
            Some(Flaw::LosesLastWriteOnRestart) => {
                let before = self.past.lock().before.as_ref().map(|mem| mem.fork(env.clone()));
                return Ok(before.unwrap_or_else(|| self.mem.fork(env.clone())));
            }
            Some(Flaw::RevisionGoesBackOnRestart | Flaw::ForgetsLeasesOnRestart) => {
                let fresh = MemStore::new(env.clone());
                for kv in self.all().await? {
                    fresh
                        .txn(Txn::of([Op::put(kv.key.clone(), kv.value.clone())]))
                        .await?;
                }
                return Ok(fresh);
            }
            _ => {}
        }
        let fork = self.mem.fork(env.clone());
        let undead = std::mem::take(&mut self.past.lock().undead);
        for kv in undead {
            fork.txn(Txn::of([Op::put(kv.key.clone(), kv.value.clone())]))
                .await?;
        }
        if self.is(Flaw::WatchSkipsHistoryOnRestart) {
            let now = fork.status().await?.revision;
            fork.compact(now).await?;
        }
        Ok(fork)
    }

    fn bend(&self, mut batch: WatchBatch, n: usize) -> Vec<WatchBatch> {
        match self.flaw {
            Some(Flaw::WatchLosesEvents) if n % 5 == 2 => {
                batch.events.pop();
            }
            Some(Flaw::WatchRepeatsEvents) if n % 5 == 2 => {
                let again = batch.events.last().cloned();
                batch.events.extend(again);
            }
            Some(Flaw::WatchReordersEvents) => batch.events.reverse(),
            Some(Flaw::WatchSendsNoMarks) if batch.events.is_empty() => return Vec::new(),
            Some(Flaw::WatchSplitsRevisions) if batch.events.len() > 1 => {
                let rest = batch.events.split_off(batch.events.len() / 2 + 1);
                let revision = rest
                    .first()
                    .map_or(batch.revision, |e| Revision(e.revision().0 - 1));
                let first = WatchBatch {
                    revision: revision.max(Revision(1)),
                    events: batch.events,
                };
                return vec![
                    first,
                    WatchBatch {
                        revision: batch.revision,
                        events: rest,
                    },
                ];
            }
            Some(Flaw::WatchForgetsPrevious) => {
                for event in &mut batch.events {
                    Arc::make_mut(event).prev = None;
                }
            }
            _ => {}
        }
        vec![batch]
    }
}

#[async_trait]
impl Store for Flawed {
    async fn txn(&self, mut txn: Txn) -> Result<TxnOutcome, Error> {
        if self.is(Flaw::LosesUpdates)
            && txn
                .compare
                .iter()
                .all(|c| c.is != crate::Condition::ModRevision(Revision(0)))
        {
            txn.compare.clear();
        }
        if !txn.is_read_only() {
            let before = self.mem.fork(self.env.clone());
            self.past.lock().before = Some(before);
        }
        if self.is(Flaw::TransactionsAreNotAtomic) && txn.compare.is_empty() && txn.success.len() > 1 {
            let mut outcome = TxnOutcome {
                revision: Revision(0),
                succeeded: true,
                results: Vec::new(),
            };
            for op in txn.success {
                let one = self.mem.txn(Txn::of([op])).await?;
                outcome.revision = one.revision;
                outcome.results.extend(one.results);
            }
            return Ok(outcome);
        }
        self.mem.txn(txn).await
    }

    async fn range(&self, keys: KeyRange, at: ReadAt, limit: Option<u32>) -> Result<Page, Error> {
        let stale = self
            .past
            .lock()
            .before
            .as_ref()
            .map(|mem| mem.fork(self.env.clone()));
        if let (true, ReadAt::Latest, Some(stale)) = (self.is(Flaw::StaleRead), at, stale) {
            return stale.range(keys, at, limit).await;
        }
        match self.mem.range(keys.clone(), at, limit).await {
            Err(Error::Compacted { .. }) if self.is(Flaw::CompactedReadsAsLatest) => {
                self.mem.range(keys, ReadAt::Latest, limit).await
            }
            answer => answer,
        }
    }

    async fn watch(&self, keys: KeyRange, mut after: Revision) -> Result<Watch, Error> {
        let status = self.mem.status().await?;
        match self.flaw {
            Some(Flaw::WatchStartsInThePast) => after.0 = after.0.saturating_sub(1).max(status.compacted.0),
            Some(Flaw::WatchStartsLate) => after.0 = (after.0 + 1).min(status.revision.0),
            Some(Flaw::WatchAcceptsTheFuture) => after = after.min(status.revision),
            Some(Flaw::WatchAcceptsTheCompacted | Flaw::WatchSkipsHistoryOnRestart) => {
                after = after.max(status.compacted);
            }
            _ => {}
        }
        let watch = self.mem.watch(keys, after).await?;
        let progress = watch.progress();
        let bent = Self {
            flaw: self.flaw,
            mem: MemStore::new(self.env.clone()),
            env: self.env.clone(),
            past: Mutex::default(),
        };
        let batches = watch.enumerate().flat_map(move |(n, batch)| {
            let batches: Vec<_> = match batch {
                Ok(batch) => bent.bend(batch, n).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            futures::stream::iter(batches)
        });
        Ok(Watch::new(
            batches.boxed(),
            Progress::new(move || progress.request()),
        ))
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), Error> {
        if self.is(Flaw::DeletionLostAtCompaction) {
            let watch = self
                .mem
                .watch(KeyRange::all(), Revision(keep_from.0.saturating_sub(1)))
                .await;
            if let Ok(mut watch) = watch
                && let Some(Ok(batch)) = watch.next().await
            {
                let gone = batch
                    .events
                    .iter()
                    .filter(|e| e.kind == EventKind::Delete && e.revision() == keep_from);
                self.past
                    .lock()
                    .undead
                    .extend(gone.filter_map(|e| e.prev.clone()));
            }
        }
        if self.is(Flaw::KeyLostAtCompaction)
            && let Some(oldest) = self.all().await?.into_iter().min_by_key(|kv| kv.mod_revision)
        {
            self.mem.txn(Txn::of([Op::delete(oldest.key.clone())])).await?;
        }
        self.mem.compact(keep_from).await
    }

    async fn status(&self) -> Result<StoreStatus, Error> {
        self.mem.status().await
    }

    fn leases(&self) -> &dyn Leases {
        self
    }
}

#[async_trait]
impl Leases for Flawed {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let real = if self.is(Flaw::LeaseEndsEarly) {
            ttl / 2
        } else {
            ttl
        };
        let id = self.mem.leases().grant(real).await?;
        self.past.lock().leases.insert(id, ttl);
        Ok(id)
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        if self.is(Flaw::KeepAliveIsIgnored) {
            self.mem.leases().time_to_live(id).await?;
            return self
                .past
                .lock()
                .leases
                .get(&id)
                .copied()
                .ok_or(Error::LeaseNotFound { id });
        }
        self.mem.leases().keep_alive(id).await
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        if self.is(Flaw::RevokeLeavesKeys) {
            return self.mem.leases().time_to_live(id).await.map(drop);
        }
        self.mem.leases().revoke(id).await
    }

    async fn time_to_live(&self, id: LeaseId) -> Result<Duration, Error> {
        self.mem.leases().time_to_live(id).await
    }
}
