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
use futures::stream::{BoxStream, Stream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

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

/// A set of neighbouring keys in byte order: from `start` up to, not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The first key that can be in it.
    pub start: Bytes,
    /// The first key after it; `None` for no upper end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Exactly one key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let end = Some(successor(&start));
        Self { start, end }
    }

    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        let end = end.last_mut().map(|last| *last += 1).map(|()| Bytes::from(end));
        Self { start, end }
    }

    /// From `start` up to, not including, `end`.
    #[must_use]
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: None,
        }
    }

    /// The part of this range behind `key`: where a limited read goes on.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let next = successor(key);
        Self {
            start: next.max(self.start.clone()),
            end: self.end.clone(),
        }
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        *key >= *self.start && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// The key, if the range holds exactly one.
    #[must_use]
    pub fn single(&self) -> Option<&Bytes> {
        let end = self.end.as_ref()?;
        let one = end.len() == self.start.len() + 1 && end.last() == Some(&0) && end.starts_with(&self.start);
        one.then_some(&self.start)
    }

    /// Whether some key can be in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.end.as_ref().is_none_or(|end| other.start < *end)
            && other.end.as_ref().is_none_or(|end| self.start < *end)
    }
}

fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
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

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What must hold of it.
    pub is: Condition,
}

/// What a [`Compare`] demands. An absent key has revisions and version 0 and no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Last changed at exactly this revision; `Revision(0)` demands absence.
    ModRevision(Revision),
    /// Created at exactly this revision; `Revision(0)` demands absence.
    CreateRevision(Revision),
    /// Has exactly this version; 0 demands absence.
    Version(u64),
    /// Is present with exactly this value.
    Value(Bytes),
    /// Is present.
    Exists,
}

impl Compare {
    /// `key` was last changed at `revision` (0: it is absent).
    #[must_use]
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self {
            key: key.into(),
            is: Condition::ModRevision(revision),
        }
    }
    /// `key` is absent.
    #[must_use]
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self::mod_revision(key, Revision(0))
    }
    /// Whether the condition holds of what is there.
    #[must_use]
    pub fn holds(&self, found: Option<&KeyValue>) -> bool {
        match &self.is {
            Condition::ModRevision(r) => found.map_or(Revision(0), |kv| kv.mod_revision) == *r,
            Condition::CreateRevision(r) => found.map_or(Revision(0), |kv| kv.create_revision) == *r,
            Condition::Version(v) => found.map_or(0, |kv| kv.version) == *v,
            Condition::Value(value) => found.is_some_and(|kv| kv.value == *value),
            Condition::Exists => found.is_some(),
        }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates or replaces a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease it dies with; replaces the one it had.
        lease: Option<LeaseId>,
    },
    /// Deletes every key in the range; none is fine.
    Delete(KeyRange),
    /// Reads, seeing the steps before it. `limit` 0 only counts.
    Get {
        /// Which keys.
        keys: KeyRange,
        /// The most to return.
        limit: Option<u32>,
    },
}

impl Op {
    /// A put without a lease.
    #[must_use]
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        }
    }
    /// The deletion of one key.
    #[must_use]
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete(KeyRange::key(key))
    }
    /// The reading of one key.
    #[must_use]
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get {
            keys: KeyRange::key(key),
            limit: None,
        }
    }
}

/// Compare, then write: one atomic step. If all compares hold, `success` is done, else `failure`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// The conditions; none always hold.
    pub compare: Vec<Compare>,
    /// Steps when all hold. No key may be written by two of them.
    pub success: Vec<Op>,
    /// Steps when one does not. No key may be written by two of them.
    pub failure: Vec<Op>,
    /// How sure it must be. A property of the transaction, since its changes live or die together.
    pub durability: Durability,
}

impl Txn {
    /// A transaction of unconditional steps.
    #[must_use]
    pub fn of(success: impl Into<Vec<Op>>) -> Self {
        Self {
            success: success.into(),
            ..Self::default()
        }
    }
    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compare.push(compare);
        self
    }
    /// Sets the steps for when a condition does not hold.
    #[must_use]
    pub fn or_else(mut self, failure: impl Into<Vec<Op>>) -> Self {
        self.failure = failure.into();
        self
    }
    /// Sets the durability.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
    /// Creates `key`; if it exists, reads it instead.
    #[must_use]
    pub fn create(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        let get = Op::get(key.clone());
        Self::of([Op::put(key.clone(), value)])
            .when(Compare::absent(key))
            .or_else([get])
    }
    /// Replaces `key` if it is still at `seen`; else reads it instead.
    #[must_use]
    pub fn update(key: impl Into<Bytes>, seen: Revision, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        let get = Op::get(key.clone());
        Self::of([Op::put(key.clone(), value)])
            .when(Compare::mod_revision(key, seen))
            .or_else([get])
    }
    /// Deletes `key` if it is still at `seen`; else reads it instead.
    #[must_use]
    pub fn delete(key: impl Into<Bytes>, seen: Revision) -> Self {
        let key = key.into();
        let get = Op::get(key.clone());
        Self::of([Op::delete(key.clone())])
            .when(Compare::mod_revision(key, seen))
            .or_else([get])
    }
    /// Whether neither branch can change anything.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .all(|op| matches!(op, Op::Get { .. }))
    }
}

/// What one step of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// The key was put.
    Put {
        /// What is there now.
        kv: Arc<KeyValue>,
        /// What was there before.
        prev: Option<Arc<KeyValue>>,
    },
    /// These were deleted, as they were.
    Delete(Vec<Arc<KeyValue>>),
    /// What was read.
    Get(Page),
}

/// The answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnOutcome {
    /// The transaction's revision; the store's present one if it changed nothing.
    pub revision: Revision,
    /// Whether all compares held, so which branch was taken.
    pub succeeded: bool,
    /// One result for each step of that branch.
    pub results: Vec<OpResult>,
}

impl TxnOutcome {
    /// The first key-value that a [`OpResult::Get`] of the taken branch found: what [`Txn::create`],
    /// [`Txn::update`] and [`Txn::delete`] ran into.
    #[must_use]
    pub fn found(&self) -> Option<&Arc<KeyValue>> {
        self.results.iter().find_map(|r| match r {
            OpResult::Get(page) => page.kvs.first(),
            _ => None,
        })
    }
    /// The key-value that the first put made.
    #[must_use]
    pub fn put(&self) -> Option<&Arc<KeyValue>> {
        self.results.iter().find_map(|r| match r {
            OpResult::Put { kv, .. } => Some(kv),
            _ => None,
        })
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Created (`prev` is none) or replaced.
    Put,
    /// Deleted, by request or by its lease.
    Delete,
}

/// One change of one key. Shared: every watcher gets the same `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// The key after it. For a deletion: the key, no value, versions 0, `mod_revision` of the deletion.
    pub kv: Arc<KeyValue>,
    /// The key before it, if there was one.
    pub prev: Option<Arc<KeyValue>>,
}

impl WatchEvent {
    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision
    }
}

/// Changes in order. Without events it is a progress mark.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchBatch {
    /// With this batch, everything up to and including this revision has been delivered. Grows from batch to batch,
    /// except that a progress mark may repeat it. Watching again after it loses and repeats nothing.
    pub revision: Revision,
    /// The changes since the batch before, by revision; those of one revision are never split over batches.
    pub events: Vec<Arc<WatchEvent>>,
}

/// A running watch: a stream of batches, ended by its first error. Dropping it ends the watch.
///
/// Each watch begins with the changes between its start and the present, then one progress mark if it had none to
/// deliver; later marks come when asked for with [`Watch::progress`].
pub struct Watch {
    batches: BoxStream<'static, Result<WatchBatch, Error>>,
    progress: Progress,
}

/// Asks one watch for a progress mark. Cheap to clone; usable from any task while another reads the watch.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn() + Send + Sync>);

impl Progress {
    /// Calls `ask` for each request.
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Makes the watch deliver, soon, a batch (a mark if there are no changes) whose revision is at least the
    /// store's revision at this call. May repeat; requests merge. Nothing happens if the watch has ended.
    ///
    /// This is how a cache that follows one watch proves that it is as fresh as the store.
    pub fn request(&self) {
        (self.0)();
    }
}

impl Watch {
    /// A watch over `batches`, whose marks are asked for through `progress`.
    #[must_use]
    pub fn new(batches: BoxStream<'static, Result<WatchBatch, Error>>, progress: Progress) -> Self {
        Self { batches, progress }
    }

    /// The handle that asks this watch for progress marks.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |range: KeyRange, inside: &[&str], outside: &[&str]| {
            for key in inside {
                assert!(range.contains(key.as_bytes()), "{range:?} has {key}");
            }
            for key in outside {
                assert!(!range.contains(key.as_bytes()), "{range:?} has not {key}");
            }
        };
        check(KeyRange::key("a"), &["a"], &["", "a\0", "b", "aa"]);
        check(
            KeyRange::prefix("a/"),
            &["a/", "a/b", "a/\u{10ffff}"],
            &["a", "a0", "b"],
        );
        check(KeyRange::prefix(""), &["", "a"], &[]);
        check(
            KeyRange::prefix("a/").after(b"a/b"),
            &["a/b\0", "a/c"],
            &["a/b", "a/", "a0"],
        );
        check(KeyRange::between("b", "a"), &[], &["a", "b"]);
        assert!(KeyRange::prefix(vec![0xff, 0xff]).contains(&[0xff, 0xff, 1]));
        assert_eq!(KeyRange::prefix(vec![0xff, 0xff]).end, None);
        assert_eq!(
            KeyRange::prefix(vec![1, 0xff]).end,
            Some(Bytes::from_static(&[2]))
        );
        assert_eq!(KeyRange::key("x").single(), Some(&Bytes::from("x")));
        assert_eq!(KeyRange::prefix("x").single(), None);
        assert!(KeyRange::key("a").overlaps(&KeyRange::prefix("a")));
        assert!(!KeyRange::key("a").overlaps(&KeyRange::key("b")));
        assert!(!KeyRange::key("a").overlaps(&KeyRange::between("a", "a")));
    }
}
