//! Transactions: what is asked, and what was done.

use super::{Durability, KeyRange, KeyValue, LeaseId, Page, Revision};
use bytes::Bytes;
use std::sync::Arc;

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
