//! Starting background work as a seam.

use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;

/// Starts tasks. Loops are futures; who owns the executor decides where they run.
pub trait Spawner: Send + Sync + 'static {
    /// Runs `task` in the background until it ends or the returned handle is aborted. `name` is for traces.
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) -> TaskHandle;
    /// Runs a blocking function on a thread meant for it. A simulated executor may run it in place.
    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>);
}

/// A running task. Dropping the handle leaves the task running.
pub struct TaskHandle {
    abort: Box<dyn Fn() + Send + Sync>,
}

impl TaskHandle {
    /// A handle that calls `abort` to end its task.
    pub fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            abort: Box::new(abort),
        }
    }
    /// Ends the task at its next await point. May repeat.
    pub fn abort(&self) {
        (self.abort)();
    }
}

impl std::fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskHandle")
    }
}

/// Spawns on the current tokio runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioSpawner;

#[expect(
    clippy::disallowed_methods,
    reason = "this is the seam's one implementation over tokio"
)]
impl Spawner for TokioSpawner {
    fn spawn(&self, _name: &str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let handle = tokio::spawn(task).abort_handle();
        TaskHandle::new(move || handle.abort())
    }
    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(task));
    }
}

/// Tells loops to stop: clone it into each, call [`Shutdown::trigger`] once.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// A signal that has not been given.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
    /// Gives the signal. May repeat.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
    /// Whether the signal was given.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }
    /// Completes when the signal is given; at once if it was.
    pub async fn wait(&self) {
        let mut seen = self.0.subscribe();
        // The sender lives in self, so waiting cannot fail.
        drop(seen.wait_for(|stop| *stop).await);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}
