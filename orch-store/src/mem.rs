//! The store in memory: nothing survives it. For tests and simulation, and the model that durable stores are compared
//! with.

use crate::error::Error;
use crate::leases::{Deadlines, Expire};
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::mvcc::{self, Effect, HistoryLimits, Mvcc, Shared, Staged, Wakes};
use crate::store::{
    KeyRange, LeaseId, Leases, Page, ReadAt, Revision, Store, StoreStatus, Txn, TxnOutcome, Watch,
};
use async_trait::async_trait;
use orch_core::Env;
use std::sync::Arc;
use std::time::Duration;

/// A store in memory with the whole contract but durability.
#[derive(Debug)]
pub struct MemStore {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    env: Env,
    deadlines: Deadlines,
}

impl MemStore {
    /// An empty store. `env` gives lease names and times.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self::with_history(env, HistoryLimits::default())
    }

    /// An empty store that keeps this much history.
    #[must_use]
    pub fn with_history(env: Env, limits: HistoryLimits) -> Self {
        Self::over(env, Mvcc::new(limits))
    }

    fn over(env: Env, state: Mvcc) -> Self {
        let shared = Shared::new(state, Arc::new(Metrics::default()));
        let deadlines = Deadlines::new(env.clone());
        Self {
            core: Arc::new(Core {
                shared,
                env,
                deadlines,
            }),
        }
    }

    /// A second store that starts with this one's whole state and history and then goes its own way.
    ///
    /// Costs a pointer for every hundred or so keys; keys and values stay shared. Watches are not taken over; leases
    /// are, and start their time again. The fork draws time and lease names from `env`.
    #[must_use]
    pub fn fork(&self, env: Env) -> Self {
        let fork = Self::over(env, self.core.shared.state.read().fork());
        for (id, ttl) in self.core.deadlines.all() {
            fork.core.deadlines.start(&fork.core, id, ttl);
        }
        fork
    }

    /// The store's numbers.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.core.shared.metrics_snapshot()
    }
}

impl Drop for MemStore {
    fn drop(&mut self) {
        self.core.deadlines.stop();
        self.core.shared.end(Error::Closed);
    }
}

impl Core {
    /// Evaluates and applies one request under the lock; watchers are woken outside it.
    fn change<T>(
        &self,
        evaluate: impl FnOnce(&mut Staged<'_>) -> Result<(T, Option<Effect>), Error>,
    ) -> Result<T, Error> {
        let mut wakes = Wakes::default();
        let answer = {
            let mut state = self.shared.state.write();
            let (answer, effect) = evaluate(&mut Staged::on(&state))?;
            if let Some(effect) = effect {
                if !effect.events.is_empty() {
                    self.shared.metrics.batch(1, 0);
                }
                state.apply(&effect, &mut wakes);
            }
            answer
        };
        wakes.wake();
        Ok(answer)
    }

    fn end_lease(&self, id: LeaseId) -> Result<(), Error> {
        self.change(|staged| Ok(((), Some(staged.revoke(id)?))))
    }
}

#[async_trait]
impl Store for MemStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        mvcc::validate(&txn)?;
        self.core.deadlines.check_txn(&txn)?;
        let outcome = self.core.change(|staged| staged.txn(&txn))?;
        self.core
            .shared
            .metrics
            .conflicts
            .add(u64::from(!outcome.succeeded));
        Ok(outcome)
    }

    async fn range(&self, keys: KeyRange, at: ReadAt, limit: Option<u32>) -> Result<Page, Error> {
        self.core.shared.range(&keys, at, limit)
    }

    async fn watch(&self, keys: KeyRange, after: Revision) -> Result<Watch, Error> {
        mvcc::watch(&self.core.shared, keys, after)
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), Error> {
        self.core
            .change(|staged| Ok(((), Some(staged.compact(keep_from)?))))?;
        self.core.shared.prune_all();
        Ok(())
    }

    async fn status(&self) -> Result<StoreStatus, Error> {
        let state = self.core.shared.state.read();
        Ok(StoreStatus {
            revision: state.revision,
            compacted: state.floor,
            keys: state.keys_live,
            size_bytes: state.bytes_live + state.history_bytes() as u64,
        })
    }

    fn leases(&self) -> &dyn Leases {
        self
    }
}

#[async_trait]
impl Leases for MemStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        if ttl.is_zero() {
            return Err(Error::invalid("a lease must last longer than nothing"));
        }
        let id = self.core.change(|staged| {
            let id = staged.free_lease(&*self.core.env.rng);
            Ok((id, Some(staged.grant(id, ttl))))
        })?;
        self.core.deadlines.start(&self.core, id, ttl);
        Ok(id)
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        self.core.deadlines.keep_alive(id)
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.core.end_lease(id)?;
        self.core.deadlines.forget(id);
        Ok(())
    }

    async fn time_to_live(&self, id: LeaseId) -> Result<Duration, Error> {
        self.core.deadlines.time_to_live(id)
    }
}

#[async_trait]
impl Expire for Core {
    fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    async fn expire(&self, id: LeaseId) -> Result<(), Error> {
        self.end_lease(id)?;
        self.shared.metrics.leases_expired.add(1);
        Ok(())
    }
}
