//! A watch: a cursor over the shared history.

use super::hub::Watcher;
use super::{Mvcc, Shared};
use crate::error::Error;
use crate::store::{KeyRange, Progress, Revision, Watch, WatchBatch};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// Most changes in one batch, give or take the rest of a revision.
const BATCH_MAX: usize = 1000;
/// Most changes looked at before others get the thread.
const LOOK_MAX: usize = 8192;

/// Starts a watch.
pub(crate) fn watch(shared: &Arc<Shared>, keys: KeyRange, after: Revision) -> Result<Watch, Error> {
    let watcher = {
        let mut state = shared.state.write();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        if after > state.revision {
            return Err(Error::FutureRevision {
                asked: after,
                current: state.revision,
            });
        }
        if after < state.floor {
            return Err(Error::Compacted {
                asked: after,
                oldest: state.floor,
            });
        }
        let pending = if after < state.revision { after.0 + 1 } else { 0 };
        let watcher = Arc::new(Watcher::new(keys, pending));
        state.hub.add(Arc::clone(&watcher));
        watcher
    };
    let asked = Arc::clone(&watcher);
    let progress = Progress::new(move || {
        asked.progress.store(true, Ordering::Release);
        asked.waker.wake();
    });
    // The first answer comes even if there is nothing to deliver: it says that the watch has caught up.
    watcher.progress.store(true, Ordering::Release);
    let cursor = Cursor {
        shared: Arc::clone(shared),
        watcher,
        done: false,
    };
    Ok(Watch::new(Box::pin(cursor), progress))
}

struct Cursor {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    done: bool,
}

/// What one look at the history gave.
enum Look {
    Batch(WatchBatch),
    /// Only changes of other keys so far, and more to look at.
    GoOn,
    Nothing,
    End(Error),
}

impl Cursor {
    /// Reads on from the first undelivered change. Under the read lock: nothing is published meanwhile, so a request
    /// for progress that is taken back here was answered with everything published before it.
    fn look(&self, state: &Mvcc) -> Look {
        if let Some(error) = &state.ended {
            return Look::End(error.clone());
        }
        let from = self.watcher.pending.load(Ordering::Relaxed);
        let mut batch = WatchBatch {
            revision: state.revision,
            events: Vec::new(),
        };
        if from != 0 {
            if from <= state.floor.0 {
                let asked = Revision(from - 1);
                return Look::End(Error::Compacted {
                    asked,
                    oldest: state.floor,
                });
            }
            let mut last = Revision(from);
            for (looked, event) in state.history.since(last).enumerate() {
                if event.revision() != last && (looked >= LOOK_MAX || batch.events.len() >= BATCH_MAX) {
                    batch.revision = last;
                    break;
                }
                last = event.revision();
                if self.watcher.range.contains(&event.kv.key) {
                    batch.events.push(Arc::clone(event));
                }
            }
        }
        if batch.revision < state.revision {
            self.watcher
                .pending
                .store(batch.revision.0 + 1, Ordering::Relaxed);
            return if batch.events.is_empty() {
                Look::GoOn
            } else {
                Look::Batch(batch)
            };
        }
        self.watcher.pending.store(0, Ordering::Relaxed);
        let asked = self.watcher.progress.swap(false, Ordering::AcqRel);
        if asked || !batch.events.is_empty() {
            Look::Batch(batch)
        } else {
            Look::Nothing
        }
    }
}

impl Stream for Cursor {
    type Item = Result<WatchBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.watcher.waker.register(cx.waker());
        let look = self.look(&self.shared.state.read());
        match look {
            Look::Batch(batch) => {
                self.shared.metrics.watch_events.add(batch.events.len() as u64);
                Poll::Ready(Some(Ok(batch)))
            }
            Look::GoOn => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Look::Nothing => Poll::Pending,
            Look::End(error) => {
                self.done = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.shared.state.write().hub.remove(&self.watcher);
    }
}
