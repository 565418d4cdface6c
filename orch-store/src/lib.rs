//! The cluster store: one trait with etcd's contract, several backends, a test kit.
//!
//! - [`Store`]: the contract, described in [`store`].
//! - [`mem::MemStore`]: in memory, forkable; for tests and simulation.
//! - [`embedded::EmbeddedStore`]: durable on local disk, one process; the default.
//! - [`testing`]: the test kit that any implementor runs with [`store_conformance!`].

pub mod embedded;
pub mod error;
mod leases;
pub mod mem;
pub mod metrics;
mod mvcc;
pub mod store;
pub mod testing;

pub use embedded::EmbeddedStore;
pub use error::Error;
pub use mem::MemStore;
pub use metrics::{Metrics, MetricsSnapshot};
pub use mvcc::HistoryLimits;
pub use store::{
    Compare, Condition, Durability, EventKind, KeyRange, KeyValue, LeaseId, Leases, Op, OpResult, Page,
    Progress, ReadAt, Revision, Store, StoreStatus, Txn, TxnOutcome, Watch, WatchBatch, WatchEvent,
};
