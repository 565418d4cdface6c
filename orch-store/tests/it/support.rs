//! What the tests share: deterministic surroundings, a scripted load, short cuts.

use futures::future::BoxFuture;
use orch_core::Env;
use orch_core::clock::SimClock;
use orch_core::rng::SeededRng;
use orch_core::spawn::{Spawner, TaskHandle, TokioSpawner};
use orch_store::embedded::Options;
use orch_store::{EmbeddedStore, Error, HistoryLimits, Op, Revision, Store, Txn};
use std::future::Future;
use std::sync::Arc;

/// Runs blocking jobs as tasks: one thread, one order, and requests made together are one group.
#[derive(Debug)]
pub(crate) struct OneThread;

impl Spawner for OneThread {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) -> TaskHandle {
        TokioSpawner.spawn(name, task)
    }
    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>) {
        drop(TokioSpawner.spawn("blocking", Box::pin(async move { task() })));
    }
}

/// A deterministic environment; needs a runtime of [`in_virtual_time`].
pub(crate) fn one_thread(seed: u64) -> Env {
    let clock = SimClock::starting_at(jiff::Timestamp::UNIX_EPOCH);
    Env {
        clock: Arc::new(clock),
        rng: Arc::new(SeededRng::new(seed)),
        spawner: Arc::new(OneThread),
    }
}

pub(crate) fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// Lets virtual time pass.
pub(crate) async fn sleep(time: std::time::Duration) {
    one_thread(0).clock.sleep(time).await;
}

/// Small files, so that a short load sees rotations and checkpoints.
pub(crate) fn tiny() -> Options {
    let history = HistoryLimits {
        events_max: 25,
        bytes_max: 20_000,
    };
    Options {
        history,
        segment_bytes: 6000,
        grow_bytes: 1024,
        checkpoint_bytes: 8000,
        ..Options::default()
    }
}

pub(crate) async fn put(store: &EmbeddedStore, key: &str, value: &str) -> Result<Revision, Error> {
    store
        .txn(Txn::of([Op::put(key.to_owned(), value.to_owned())]))
        .await
        .map(|o| o.revision)
}
