//! A queue of keys to work on, with upstream's three promises (`k8s.io/client-go/util/workqueue`):
//!
//! - a key added several times before it is taken is handed out once;
//! - a key is never handed out to two workers at a time: added again while in work, it comes back after
//!   [`WorkQueue::done`];
//! - a key that fails comes back later and later: 5 ms, 10 ms … up to 1000 s.
//!
//! Delays run on the injected clock and need no task of their own: whoever waits for a key also waits for the next
//! delay to pass. Nothing is kept across a restart.

mod backoff;

pub use backoff::{Backoff, ItemBackoff};

use crate::{
    Env,
    clock::{Clock, Monotonic},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

struct State<T> {
    /// Keys that can be handed out, oldest first. Each is in `dirty` and not in `processing`.
    ready: VecDeque<T>,
    /// Keys that need work, in `ready` or waiting for their `done`.
    dirty: BTreeSet<T>,
    /// Keys in work.
    processing: BTreeSet<T>,
    /// Keys to be added later; the counter keeps those of equal time in order of their adding.
    delayed: BTreeMap<(Monotonic, u64), T>,
    /// Where in `delayed` a key is.
    due: BTreeMap<T, (Monotonic, u64)>,
    counter: u64,
    backoff: ItemBackoff<T>,
    closed: bool,
}

impl<T: Clone + Ord> State<T> {
    fn add(&mut self, key: T) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        if self.processing.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn promote_due(&mut self, now: Monotonic) {
        while let Some((at, _)) = self.delayed.keys().next().copied()
            && at <= now
        {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

/// The queue. Share it by `Arc`.
pub struct WorkQueue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    clock: Arc<dyn Clock>,
}

impl<T: Clone + Ord + Send> WorkQueue<T> {
    /// An empty queue with upstream's back-off (5 ms doubling to 1000 s).
    #[must_use]
    pub fn new(env: &Env) -> Arc<Self> {
        Self::with_backoff(env, Duration::from_millis(5), Duration::from_secs(1000))
    }

    /// An empty queue whose failed keys wait `base`, doubling up to `max`.
    #[must_use]
    pub fn with_backoff(env: &Env, base: Duration, max: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: BTreeSet::new(),
                processing: BTreeSet::new(),
                delayed: BTreeMap::new(),
                due: BTreeMap::new(),
                counter: 0,
                backoff: ItemBackoff::new(base, max),
                closed: false,
            }),
            wake: Notify::new(),
            clock: env.clock.clone(),
        })
    }

    /// Asks for work on `key`; a key that already waits is not added twice.
    pub fn add(&self, key: T) {
        if self.state.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Asks for work on `key` after `delay`. Of several delays of one key the earliest counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = self.clock.monotonic() + delay;
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if let Some(existing) = state.due.get(&key).copied() {
            if existing.0 <= at {
                return;
            }
            state.delayed.remove(&existing);
        }
        state.counter += 1;
        let slot = (at, state.counter);
        state.due.insert(key.clone(), slot);
        state.delayed.insert(slot, key);
        drop(state);
        // A waiting worker may have to wait shorter now.
        self.wake.notify_one();
    }

    /// Asks for work on `key` after its back-off, which grows with every call until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: T) {
        let delay = self.state.lock().backoff.next(&key);
        self.add_after(key, delay);
    }

    /// Resets the back-off of `key`: its work succeeded.
    pub fn forget(&self, key: &T) {
        self.state.lock().backoff.forget(key);
    }

    /// How often `key` failed since it was last forgotten.
    pub fn failures(&self, key: &T) -> u32 {
        self.state.lock().backoff.failures(key)
    }

    /// Waits for a key and takes it into work; [`WorkQueue::done`] must follow. `None` when the queue is closed and
    /// empty.
    ///
    /// # Cancel safety
    /// Dropping the future takes no key.
    pub async fn next(&self) -> Option<T> {
        loop {
            let woken = self.wake.notified();
            let next_due = {
                let mut state = self.state.lock();
                state.promote_due(self.clock.monotonic());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    drop(state);
                    // Closing wakes one at a time; pass it on.
                    self.wake.notify_one();
                    return None;
                }
                state.delayed.keys().next().map(|(at, _)| *at)
            };
            match next_due {
                None => woken.await,
                Some(at) => {
                    tokio::select! {
                        () = woken => {}
                        () = self.clock.sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Ends the work on `key`; if it was added meanwhile, it can be handed out again.
    pub fn done(&self, key: &T) {
        let mut state = self.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Closes the queue: nothing is added any more, waiting workers get the rest and then `None`. Delayed keys are
    /// dropped.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.delayed.clear();
        state.due.clear();
        drop(state);
        self.wake.notify_one();
    }

    /// How many keys can be handed out now (delayed ones and those in work not counted).
    pub fn len(&self) -> usize {
        let mut state = self.state.lock();
        state.promote_due(self.clock.monotonic());
        state.ready.len()
    }

    /// Whether no key can be handed out now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing is ready, in work or delayed.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.dirty.is_empty() && state.processing.is_empty() && state.delayed.is_empty()
    }
}

#[cfg(test)]
mod tests;
