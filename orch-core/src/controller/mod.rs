//! The control-loop kit: reconcilers, the runner that drives them, the maps from watch events to keys, events.
//!
//! A reconciler gets a key, never an event, and works from what it observes then; it may be called at any time, any
//! number of times, for objects that are gone. It keeps nothing between calls but caches whose loss costs only time.

pub mod events;
mod owner;
mod runner;

pub use events::EventRecorder;
pub use owner::{controller_of, is_controlled_by, owner_reference};
pub use runner::Controller;

use crate::{ObjectKey, Status};
use async_trait::async_trait;
use std::time::Duration;

/// What is to happen with a key after a successful reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    AwaitChange,
    /// Reconcile again after this time, or earlier if something changes.
    After(Duration),
}

/// Why a reconcile did not succeed, cut by what the runner does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or could not be reached: again with back-off (quietly for a conflict).
    #[error(transparent)]
    Api(#[from] Status),
    /// The world is not as it must be for this work (a dependency is missing): again with back-off.
    #[error("{0}")]
    NotYet(String),
    /// The object itself is wrong and only a change of it can help: not tried again until then.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Whether trying again without a change of the object can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Invalid(_))
    }
}

/// Makes one object's world as the object wants it.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// Observes, plans, applies. Never called for the same key twice at a time.
    ///
    /// # Cancel safety
    /// Dropping the future leaves any prefix of the writes done; the next call completes them.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error>;
}
