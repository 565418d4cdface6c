//! When leases run out. Which leases exist is part of the state; their deadlines are not, and start anew on opening
//! a store: a lease may live longer across a restart, never shorter.

use crate::error::Error;
use crate::store::{LeaseId, Op, Txn};
use async_trait::async_trait;
use futures::future::{Either, select};
use orch_core::Env;
use orch_core::clock::Monotonic;
use orch_core::spawn::TaskHandle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long to wait before trying again to end a lease when the store could not.
const RETRY: Duration = Duration::from_secs(1);

/// The deadlines of a store's leases.
pub(crate) struct Deadlines {
    env: Env,
    table: Mutex<Table>,
    earlier: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    leases: BTreeMap<LeaseId, Deadline>,
    /// The loop that ends leases; there is one only while there are leases.
    task: Option<TaskHandle>,
}

#[derive(Clone, Copy)]
struct Deadline {
    ttl: Duration,
    at: Monotonic,
    /// It ran out and is being ended: no sign of life saves it any more.
    ending: bool,
}

/// A store whose leases run out.
#[async_trait]
pub(crate) trait Expire: Send + Sync + 'static {
    fn deadlines(&self) -> &Deadlines;
    /// Deletes the lease's keys and the lease.
    async fn expire(&self, id: LeaseId) -> Result<(), Error>;
}

impl Deadlines {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            env,
            table: Mutex::default(),
            earlier: Arc::default(),
        }
    }

    /// Counts `ttl` from now and makes sure that somebody watches it.
    pub(crate) fn start<S: Expire>(&self, owner: &Arc<S>, id: LeaseId, ttl: Duration) {
        let at = self.env.clock.monotonic() + ttl;
        let mut table = self.table.lock();
        table.leases.insert(
            id,
            Deadline {
                ttl,
                at,
                ending: false,
            },
        );
        if table.task.is_none() {
            let run = run(Arc::downgrade(owner), Arc::clone(&self.earlier), self.env.clone());
            table.task = Some(self.env.spawner.spawn("store-leases", Box::pin(run)));
        }
        drop(table);
        self.earlier.notify_one();
    }

    pub(crate) fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        let now = self.env.clock.monotonic();
        match self.table.lock().leases.get_mut(&id) {
            Some(lease) if !lease.ending && now < lease.at => {
                lease.at = now + lease.ttl;
                Ok(lease.ttl)
            }
            _ => Err(Error::LeaseNotFound { id }),
        }
    }

    pub(crate) fn time_to_live(&self, id: LeaseId) -> Result<Duration, Error> {
        let now = self.env.clock.monotonic();
        match self.table.lock().leases.get(&id) {
            Some(lease) if !lease.ending && now < lease.at => Ok(lease.at.since(now)),
            _ => Err(Error::LeaseNotFound { id }),
        }
    }

    /// Checks that the leases that keys are to be attached to have not run out, whether they were ended already or
    /// not.
    pub(crate) fn check_txn(&self, txn: &Txn) -> Result<(), Error> {
        for op in txn.success.iter().chain(&txn.failure) {
            if let Op::Put { lease: Some(id), .. } = op {
                self.time_to_live(*id)?;
            }
        }
        Ok(())
    }

    pub(crate) fn forget(&self, id: LeaseId) {
        self.table.lock().leases.remove(&id);
    }

    /// Stops ending leases: the store is closing.
    pub(crate) fn stop(&self) {
        let mut table = self.table.lock();
        table.leases.clear();
        if let Some(task) = table.task.take() {
            task.abort();
        }
    }

    /// A copy of all deadlines, for a fork of the store.
    pub(crate) fn all(&self) -> Vec<(LeaseId, Duration)> {
        self.table
            .lock()
            .leases
            .iter()
            .map(|(id, lease)| (*id, lease.ttl))
            .collect()
    }

    /// The next deadline; without leases the loop ends.
    fn next(&self) -> Option<Monotonic> {
        let mut table = self.table.lock();
        let next = table.leases.values().map(|lease| lease.at).min();
        if next.is_none() {
            table.task = None;
        }
        next
    }

    /// The leases that ran out, now doomed.
    fn take_expired(&self) -> Vec<LeaseId> {
        let now = self.env.clock.monotonic();
        let mut table = self.table.lock();
        let expired = table.leases.iter_mut().filter(|(_, lease)| lease.at <= now);
        expired
            .map(|(id, lease)| {
                lease.ending = true;
                *id
            })
            .collect()
    }
}

async fn run<S: Expire>(owner: Weak<S>, earlier: Arc<Notify>, env: Env) {
    loop {
        // Between deadlines only a weak handle is held, so that leases do not keep a dropped store open.
        let Some(next) = owner.upgrade().and_then(|store| store.deadlines().next()) else {
            return;
        };
        if env.clock.monotonic() < next {
            let changed = pin!(earlier.notified());
            if let Either::Right(_) = select(env.clock.sleep_until(next), changed).await {
                continue;
            }
        }
        let Some(store) = owner.upgrade() else { return };
        for id in store.deadlines().take_expired() {
            match store.expire(id).await {
                Ok(()) | Err(Error::LeaseNotFound { .. }) => store.deadlines().forget(id),
                Err(error) => {
                    tracing::warn!(lease = %id, %error, "a lease that ran out could not be ended yet");
                    let mut table = store.deadlines().table.lock();
                    if let Some(lease) = table.leases.get_mut(&id) {
                        lease.at = env.clock.monotonic() + RETRY;
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deadlines")
    }
}
