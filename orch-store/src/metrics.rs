//! Counters of a store, read without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One number that threads add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    fn raise(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }
    /// The present number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the sync latency buckets, in microseconds; one more bucket holds everything above.
pub const SYNC_BUCKETS_US: [u64; 10] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 250_000];

/// What a store counts, from its opening on.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Range reads and read-only transactions.
    pub reads: Counter,
    /// Transactions that changed something.
    pub writes: Counter,
    /// Transactions whose compares did not hold.
    pub conflicts: Counter,
    /// Groups of transactions that were written together.
    pub batches: Counter,
    /// Most transactions in one group.
    pub batch_size_max: Counter,
    /// Bytes written to the log.
    pub log_bytes: Counter,
    /// Syncs of the log.
    pub syncs: Counter,
    /// Time spent in them, in microseconds.
    pub sync_us: Counter,
    /// The longest of them, in microseconds.
    pub sync_us_max: Counter,
    /// Syncs by latency: [`SYNC_BUCKETS_US`], then the rest.
    pub sync_buckets: [Counter; SYNC_BUCKETS_US.len() + 1],
    /// Failed writes and syncs of the log.
    pub disk_errors: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// Changes delivered to watchers.
    pub watch_events: Counter,
    /// Leases that ran out.
    pub leases_expired: Counter,
}

/// All of a store's numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetricsSnapshot {
    /// The present revision.
    pub revision: u64,
    /// The compacted revision.
    pub compacted: u64,
    /// Present keys.
    pub keys: u64,
    /// Bytes of present keys and values.
    pub live_bytes: u64,
    /// Changes kept for watchers.
    pub history_events: u64,
    /// Memory that keeping them costs, in bytes.
    pub history_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Running watches.
    pub watchers: u64,
    /// Present leases.
    pub leases: u64,
    /// See [`Metrics::reads`].
    pub reads: u64,
    /// See [`Metrics::writes`].
    pub writes: u64,
    /// See [`Metrics::conflicts`].
    pub conflicts: u64,
    /// See [`Metrics::batches`].
    pub batches: u64,
    /// See [`Metrics::batch_size_max`].
    pub batch_size_max: u64,
    /// See [`Metrics::log_bytes`].
    pub log_bytes: u64,
    /// See [`Metrics::syncs`].
    pub syncs: u64,
    /// See [`Metrics::sync_us`].
    pub sync_us: u64,
    /// See [`Metrics::sync_us_max`].
    pub sync_us_max: u64,
    /// See [`Metrics::sync_buckets`]. Not cumulative.
    pub sync_buckets: [u64; SYNC_BUCKETS_US.len() + 1],
    /// See [`Metrics::disk_errors`].
    pub disk_errors: u64,
    /// See [`Metrics::checkpoints`].
    pub checkpoints: u64,
    /// See [`Metrics::watch_events`].
    pub watch_events: u64,
    /// See [`Metrics::leases_expired`].
    pub leases_expired: u64,
}

impl Metrics {
    pub(crate) fn batch(&self, transactions: u64, bytes: u64) {
        self.batches.add(1);
        self.batch_size_max.raise(transactions);
        self.writes.add(transactions);
        self.log_bytes.add(bytes);
    }

    pub(crate) fn sync(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.syncs.add(1);
        self.sync_us.add(us);
        self.sync_us_max.raise(us);
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(counter) = self.sync_buckets.get(bucket) {
            counter.add(1);
        }
    }

    /// The counters, with the state's own numbers left at zero.
    pub(crate) fn snapshot(&self) -> MetricsSnapshot {
        let mut sync_buckets = [0; SYNC_BUCKETS_US.len() + 1];
        for (to, from) in sync_buckets.iter_mut().zip(&self.sync_buckets) {
            *to = from.get();
        }
        MetricsSnapshot {
            reads: self.reads.get(),
            writes: self.writes.get(),
            conflicts: self.conflicts.get(),
            batches: self.batches.get(),
            batch_size_max: self.batch_size_max.get(),
            log_bytes: self.log_bytes.get(),
            syncs: self.syncs.get(),
            sync_us: self.sync_us.get(),
            sync_us_max: self.sync_us_max.get(),
            sync_buckets,
            disk_errors: self.disk_errors.get(),
            checkpoints: self.checkpoints.get(),
            watch_events: self.watch_events.get(),
            leases_expired: self.leases_expired.get(),
            ..MetricsSnapshot::default()
        }
    }
}

impl crate::mvcc::Shared {
    /// The counters with the state's numbers; the size on disk is left at zero.
    pub(crate) fn metrics_snapshot(&self) -> MetricsSnapshot {
        let state = self.state.read();
        MetricsSnapshot {
            revision: state.revision.0,
            compacted: state.floor.0,
            keys: state.keys_live,
            live_bytes: state.bytes_live,
            history_events: state.history_events() as u64,
            history_bytes: state.history_bytes() as u64,
            watchers: state.watchers() as u64,
            leases: state.leases.len() as u64,
            ..self.metrics.snapshot()
        }
    }
}
