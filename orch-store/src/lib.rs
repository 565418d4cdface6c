//! The cluster store: one trait with etcd's contract, several backends, a test kit.

pub mod error;
pub mod store;

pub use error::Error;
pub use store::{
    Compare, Condition, Durability, EventKind, KeyRange, KeyValue, LeaseId, Leases, Op, OpResult, Page,
    Progress, ReadAt, Revision, Store, StoreStatus, Txn, TxnOutcome, Watch, WatchBatch, WatchEvent,
};
