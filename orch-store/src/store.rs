//! The store contract: bytes under keys, one global revision, nothing about kinds.
//!
//! What every implementation promises, and the test kit checks:
//!
//! - **One sequence.** Each transaction that changes something gets the next [`Revision`]; all its changes carry it.
//!   The sequence never goes back and never gives one number to two changes, across restarts and crashes.
//! - **Linearizable.** A transaction takes effect between its call and its answer; a [`ReadAt::Latest`] read sees
//!   everything answered before it was asked. Nothing can be read that a crash could still take away, except what was
//!   written with [`Durability::Buffered`].
//! - **History.** Reads and watches work at any revision from the compacted one on; below it they fail with
//!   [`Error::Compacted`], above the present one with [`Error::FutureRevision`]. They never answer with something else.
//! - **Watches** deliver each change after their start once, in order, with all changes of one revision in one batch.

use crate::error::Error;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

mod range;
mod txn;
mod watch;

pub use range::KeyRange;
pub use txn::{Compare, Condition, Op, OpResult, Txn, TxnOutcome};
pub use watch::{EventKind, Progress, Watch, WatchBatch, WatchEvent};

/// Longest allowed key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest allowed value, in bytes. etcd's default request limit, which clients know as "request is too large".
pub const VALUE_BYTES_MAX: usize = 1536 * 1024;
/// Largest sum of keys and values in one transaction, in bytes.
pub const TXN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most operations in one branch of a transaction. etcd's default (`--max-txn-ops`).
pub const TXN_OPS_MAX: usize = 128;

/// A point in the store's one history. 0 is before everything; a new store is at 1, like etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease. Never 0, never used twice in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A key with its value at one revision. Immutable and shared: reads, watches and history hold the same `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// The value, up to [`VALUE_BYTES_MAX`] bytes. Empty in the `kv` of a [`EventKind::Delete`] event.
    pub value: Bytes,
    /// The revision that created the key (after its last deletion, if any).
    pub create_revision: Revision,
    /// The revision of the last change.
    pub mod_revision: Revision,
    /// 1 at creation, one more at each change.
    pub version: u64,
    /// The lease that the key dies with.
    pub lease: Option<LeaseId>,
}

/// Which state a read sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    /// Everything answered before the read was asked (linearizable).
    Latest,
    /// Any state that is not older than this revision. A remote store may answer from a member at hand.
    AtLeast(Revision),
    /// The state right after this revision.
    Exact(Revision),
}

/// The answer to a range read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision whose state this is. Continue with [`ReadAt::Exact`] at it.
    pub revision: Revision,
    /// The found keys in byte order, at most as many as the limit.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Whether the limit cut the answer short. Continue with [`KeyRange::after`] the last key.
    pub more: bool,
    /// How many keys are in the whole range at that revision, returned or not.
    pub count: u64,
}

/// How sure a transaction must be of surviving before it is answered and seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// On stable storage (fdatasync, or a quorum's logs) before anybody sees it. etcd's promise.
    #[default]
    Synced,
    /// Handed to the operating system; synced a moment later. A killed process loses nothing, a power cut may lose
    /// the last moment's buffered transactions. Revisions still never go back: after such a loss everything up to a
    /// later revision is compacted, so that whoever saw the lost part reads anew.
    Buffered,
}

/// Where a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// The present revision.
    pub revision: Revision,
    /// The oldest revision that can be read, and after which a watch can start.
    pub compacted: Revision,
    /// How many keys there are.
    pub keys: u64,
    /// Size of the stored data in bytes: on disk if it is there, else in memory.
    pub size_bytes: u64,
}

/// Versioned keys and values behind one revision. See the [module](self) for what holds of all of it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Compares, then writes, atomically.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Invalid`], [`Error::LeaseNotFound`]: nothing was done.
    /// [`Error::DiskFull`], [`Error::Io`], [`Error::Unavailable`]: nothing was done, reads go on.
    /// [`Error::Uncertain`]: read before repeating.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the transaction: it happens wholly or not at all.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error>;

    /// Reads the keys of a range in byte order, at most `limit` of them (0 only counts).
    ///
    /// # Errors
    /// [`Error::Compacted`] below, [`Error::FutureRevision`] above what can be read.
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: Option<u32>) -> Result<Page, Error>;

    /// Follows every change in `keys` with a revision greater than `after`.
    ///
    /// The watch is in place when this returns: a later change cannot be missed. A watcher that falls behind what
    /// history keeps gets [`Error::Compacted`] and ends; it never slows others down.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::FutureRevision`] for `after`; both before the stream starts.
    async fn watch(&self, keys: KeyRange, after: Revision) -> Result<Watch, Error>;

    /// Forgets history below `keep_from`: the state at it stays readable and a watch can start after it. May repeat;
    /// what is already forgotten is fine. A store may forget more by itself to bound its size.
    ///
    /// # Errors
    /// [`Error::FutureRevision`].
    async fn compact(&self, keep_from: Revision) -> Result<(), Error>;

    /// The present revision, the oldest one, and sizes. As fresh as a [`ReadAt::Latest`] read.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Closed`].
    async fn status(&self) -> Result<StoreStatus, Error>;

    /// The store's leases.
    fn leases(&self) -> &dyn Leases;
}

/// Keys that die together when nobody keeps them alive. Time is the injected clock's.
#[async_trait]
pub trait Leases: Send + Sync {
    /// A new lease that runs out `ttl` after the last sign of life.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a zero `ttl`.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// Starts the lease's time again and returns its length. Never later than its end: a lease that ran out is gone.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error>;

    /// Ends the lease and deletes its keys in one revision.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn revoke(&self, id: LeaseId) -> Result<(), Error>;

    /// The time left.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn time_to_live(&self, id: LeaseId) -> Result<Duration, Error>;
}
