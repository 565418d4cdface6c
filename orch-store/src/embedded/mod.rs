//! The durable store for one process: everything in memory, every change in a log on local disk.
//!
//! - An acknowledged write is on stable storage (fdatasync); all writes that wait at the same time share one sync.
//! - Nothing is readable before it is on stable storage, except [`crate::Durability::Buffered`] transactions.
//! - Every byte is covered by a checksum. Damage is found at opening and named; nothing is served then.
//! - Old log is replaced by a state file in the background ([`checkpoint`]).
//! - One process at a time: the directory is locked.
//!
//! See `docs/store.md` for the format, the guarantees under each kind of failure, and measurements.

mod backup;
mod checkpoint;
pub mod disk;
mod engine;
mod format;
mod log;
mod reader;
mod recover;
mod request;
mod state_file;

pub use backup::{
    CheckReport, RestoreOptions, SnapshotInfo, check, check_disk, restore, restore_disk, verify_snapshot,
};
pub use disk::{DirDisk, Disk, DiskFile};

use crate::error::Error;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::mvcc::{self, HistoryLimits, Shared};
use crate::store::{
    KeyRange, LeaseId, Leases, Page, ReadAt, Revision, Store, StoreStatus, Txn, TxnOutcome, Watch,
};
use async_trait::async_trait;
use disk::Files;
use engine::{Engine, Parts};
use format::RecordRef;
use log::{Log, Sync};
use orch_core::Env;
use recover::recover;
use request::Request;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How an embedded store works. The defaults suit a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How much history is kept.
    pub history: HistoryLimits,
    /// Size at which a new segment of the log is begun, in bytes.
    pub segment_bytes: u64,
    /// Step in which a segment claims space from the file system, in bytes.
    pub grow_bytes: u64,
    /// How much superfluous log is worth a checkpoint, in bytes.
    pub checkpoint_bytes: u64,
    /// How long buffered transactions may wait for their sync.
    pub settle_after: Duration,
    /// Most requests in one group.
    pub group_max: usize,
    /// Most bytes of values in one group (a larger transaction is a group of its own).
    pub group_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: HistoryLimits::default(),
            segment_bytes: 32 << 20,
            grow_bytes: 256 << 10,
            checkpoint_bytes: 64 << 20,
            settle_after: Duration::from_millis(50),
            group_max: 1024,
            group_bytes_max: 4 << 20,
        }
    }
}

/// An open embedded store. Dropping it closes it, as [`EmbeddedStore::close`] does, but blocks while it syncs.
pub struct EmbeddedStore {
    engine: Arc<Engine>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, or makes one there. Reading it in happens on the spawner's blocking threads.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Corrupt`], [`Error::NewerFormat`], [`Error::Io`]; the files are as they were then.
    pub async fn open(dir: impl AsRef<Path>, env: Env) -> Result<Self, Error> {
        Self::open_with(dir, Options::default(), env).await
    }

    /// Opens the store in `dir` with other than the usual options.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub async fn open_with(dir: impl AsRef<Path>, options: Options, env: Env) -> Result<Self, Error> {
        let disk = Arc::new(DirDisk::new(dir.as_ref()));
        let (reply, opened) = oneshot::channel();
        let (on, spawner) = (env.clone(), Arc::clone(&env.spawner));
        spawner.spawn_blocking(Box::new(move || {
            let _gone = reply.send(open_engine(disk, options, on));
        }));
        let ended = |_| {
            Err(Error::Unavailable {
                reason: "the store's executor ended".into(),
            })
        };
        Ok(Self::start(opened.await.unwrap_or_else(ended)?))
    }

    /// Opens the store on any [`Disk`], blocking. Must run where the environment's spawner can be used.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_on(disk: Arc<dyn Disk>, options: Options, env: Env) -> Result<Self, Error> {
        open_engine(disk, options, env).map(Self::start)
    }

    /// Starts what runs beside the writer: leases start their time again.
    fn start(engine: Arc<Engine>) -> Self {
        let state = engine.shared.state.read();
        let leases: Vec<_> = state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        drop(state);
        for (id, ttl) in leases {
            engine.deadlines.start(&engine, id, ttl);
        }
        Self { engine }
    }

    /// Does what is queued, syncs everything, ends all watches with [`Error::Closed`] and releases the directory. May
    /// repeat.
    ///
    /// # Cancel safety
    /// The closing goes on.
    pub async fn close(&self) {
        // An error says that it is closed already, or that the executor ended and it was closed in place.
        let _closed = self.engine.ask(|reply| Request::Close(Some(reply))).await;
    }

    /// The store's numbers.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        MetricsSnapshot {
            disk_bytes: self.engine.disk_bytes(),
            ..self.engine.shared.metrics_snapshot()
        }
    }

    /// Writes the present state to a file of its own while the store goes on. An old file of that name is replaced,
    /// only by a whole one.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`], [`Error::Closed`].
    pub async fn snapshot(&self, to: impl Into<PathBuf>) -> Result<SnapshotInfo, Error> {
        let (to, engine) = (to.into(), Arc::clone(&self.engine));
        let (reply, done) = oneshot::channel();
        self.engine.env.spawner.spawn_blocking(Box::new(move || {
            let _gone = reply.send(backup::snapshot(&engine, &to));
        }));
        done.await.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                reason: "the store's executor ended".into(),
            })
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.engine.close_now();
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("dir", &self.engine.files.0.path(""))
            .finish_non_exhaustive()
    }
}

fn open_engine(disk: Arc<dyn Disk>, options: Options, env: Env) -> Result<Arc<Engine>, Error> {
    let lock = disk.lock()?;
    let boot = disk.boot_id();
    let files = Files(disk);
    let mut found = recover(&files, options.history)?;
    for name in &found.litter {
        files.0.remove(name).map_err(files.fail("remove", name))?;
    }
    if found.segments.is_empty() {
        found.end.store = env.rng.next_u64();
        found.last_salt = env.rng.next_u64();
        let (segment, _) = Log::make_segment(
            &files,
            found.end.store,
            found.end.seq + 1,
            found.state.revision,
            found.last_salt,
        )?;
        found.segments.push(segment);
    }
    let metrics = Arc::new(Metrics::default());
    let Some(last) = found.segments.last() else {
        return Err(Error::invalid("a log has a segment"));
    };
    let mut log = Log::resume(
        &files,
        last,
        found.last_salt,
        found.end,
        options.grow_bytes,
        &metrics,
        &env.clock,
    )?;
    // Also makes durable what a killed process handed to the system only.
    log.cut()?;
    if found.torn_bytes > 0 {
        tracing::info!(file = %files.0.path(&last.name).display(), bytes = found.torn_bytes, "cut off the unused or unfinished end of the log");
    }
    if let Some((until, before)) = found.reserved
        && boot != Some(before)
        && until > found.state.revision
    {
        // Somebody may have seen buffered transactions that are gone. Their revisions are not used again, and whoever
        // saw them finds everything up to here compacted.
        tracing::warn!(revision = %found.state.revision, %until, "buffered transactions may have been lost; history restarts");
        log.stage(until, [RecordRef::Jump(until)]);
        log.write(Sync::Now)?;
        found.state.jump(until);
    }
    let parts = Parts {
        shared: Shared::new(found.state, metrics),
        log,
        segments: found.segments,
        state_bytes: found.state_bytes,
        store: found.end.store,
        reserved: Revision(0),
        boot: boot.unwrap_or_default(),
        lock,
    };
    Ok(Engine::new(files, options, env, parts))
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        mvcc::validate(&txn)?;
        self.engine.deadlines.check_txn(&txn)?;
        if txn.is_read_only() {
            self.engine.shared.metrics.reads.add(1);
            return self.engine.shared.read_txn(&txn);
        }
        self.engine.ask(|reply| Request::Txn(txn, reply)).await
    }

    async fn range(&self, keys: KeyRange, at: ReadAt, limit: Option<u32>) -> Result<Page, Error> {
        self.engine.shared.range(&keys, at, limit)
    }

    async fn watch(&self, keys: KeyRange, after: Revision) -> Result<Watch, Error> {
        mvcc::watch(&self.engine.shared, keys, after)
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), Error> {
        self.engine
            .ask(|reply| Request::Compact(keep_from, reply))
            .await?;
        self.engine.shared.prune_all();
        Ok(())
    }

    async fn status(&self) -> Result<StoreStatus, Error> {
        let size_bytes = self.engine.disk_bytes();
        let state = self.engine.shared.state.read();
        let revision = state.resolve(ReadAt::Latest)?;
        Ok(StoreStatus {
            revision,
            compacted: state.floor,
            keys: state.keys_live,
            size_bytes,
        })
    }

    fn leases(&self) -> &dyn Leases {
        self
    }
}

#[async_trait]
impl Leases for EmbeddedStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        if ttl.is_zero() {
            return Err(Error::invalid("a lease must last longer than nothing"));
        }
        let id = self.engine.ask(|reply| Request::Grant(ttl, reply)).await?;
        self.engine.deadlines.start(&self.engine, id, ttl);
        Ok(id)
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        self.engine.deadlines.keep_alive(id)
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.engine.ask(|reply| Request::Revoke(id, reply)).await?;
        self.engine.deadlines.forget(id);
        Ok(())
    }

    async fn time_to_live(&self, id: LeaseId) -> Result<Duration, Error> {
        self.engine.deadlines.time_to_live(id)
    }
}
