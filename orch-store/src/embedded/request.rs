//! What the writer is asked, and what it decided about a group of requests.

use super::log::Sync;
use crate::error::Error;
use crate::mvcc::Effect;
use crate::store::{Durability, LeaseId, Op, Revision, Txn, TxnOutcome};
use std::time::Duration;
use tokio::sync::oneshot;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What can be asked of the writer.
pub(crate) enum Request {
    Txn(Txn, Reply<TxnOutcome>),
    Grant(Duration, Reply<LeaseId>),
    Revoke(LeaseId, Reply<()>),
    Compact(Revision, Reply<()>),
    /// Sync what was buffered, and note on disk that everything is synced.
    Settle,
    Close(Option<Reply<()>>),
}

/// An answer that waits for the disk.
pub(crate) enum Answer {
    Txn(Reply<TxnOutcome>, Result<TxnOutcome, Error>),
    Lease(Reply<LeaseId>, Result<LeaseId, Error>),
    Unit(Reply<()>, Result<(), Error>),
}

impl Answer {
    pub(crate) fn send(self) {
        // A caller that went away does not want its answer.
        match self {
            Self::Txn(to, answer) => drop(to.send(answer)),
            Self::Lease(to, answer) => drop(to.send(answer)),
            Self::Unit(to, answer) => drop(to.send(answer)),
        }
    }

    pub(crate) fn fail(self, error: Error) {
        match self {
            Self::Txn(to, _) => drop(to.send(Err(error))),
            Self::Lease(to, _) => drop(to.send(Err(error))),
            Self::Unit(to, _) => drop(to.send(Err(error))),
        }
    }
}

impl Request {
    pub(crate) fn fail(self, error: Error) {
        match self {
            Self::Txn(_, to) => drop(to.send(Err(error))),
            Self::Grant(_, to) => drop(to.send(Err(error))),
            Self::Revoke(_, to) | Self::Compact(_, to) | Self::Close(Some(to)) => drop(to.send(Err(error))),
            Self::Settle | Self::Close(None) => {}
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let Self::Txn(txn, _) = self else { return 0 };
        let size = |op: &Op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            _ => 0,
        };
        txn.success.iter().map(size).sum()
    }
}

/// The decisions on one group.
pub(crate) struct Plan {
    pub(crate) answers: Vec<Answer>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) transactions: u64,
    pub(crate) sync: Sync,
    pub(crate) settle: bool,
    pub(crate) close: Option<Option<Reply<()>>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            effects: Vec::new(),
            transactions: 0,
            sync: Sync::Later,
            settle: false,
            close: None,
        }
    }
}

impl Plan {
    pub(crate) fn add(&mut self, effect: Effect, durability: Durability) {
        if durability == Durability::Synced {
            self.sync = Sync::Now;
        }
        self.effects.push(effect);
    }
}
