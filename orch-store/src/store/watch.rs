//! Watches: changes in order, and progress marks.

use super::{KeyValue, Revision};
use crate::error::Error;
use futures::stream::{BoxStream, Stream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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
