//! Object model, client seam, informers, work queue, and the clock, randomness and spawn seams that every
//! Orch crate stands on.
//!
//! Nothing here does I/O except [`clock::SystemClock`] (timers) and [`spawn::TokioSpawner`]: the rest is data,
//! pure rules and the traits that the other crates meet at.

pub mod client;
pub mod clock;
pub mod controller;
pub mod informer;
pub mod intstr;
pub mod lease;
pub mod node;
pub mod object;
pub mod quantity;
pub mod resource;
pub mod rng;
pub mod selector;
pub mod spawn;
pub mod status;
pub mod testing;
pub mod user;
pub mod validate;
pub mod workqueue;

pub use client::{Api, ApiClient};
pub use object::Object;
pub use resource::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, ObjectKey};
pub use status::{Status, StatusReason};
pub use user::UserInfo;

use std::sync::Arc;

/// The three handles through which library code reaches the outside: time, randomness, spawning.
///
/// A whole cluster built on one `Env` with a virtual clock, a seeded generator and a single-threaded executor is
/// deterministic: the same seed gives the same event log.
#[derive(Clone)]
pub struct Env {
    /// Wall and monotonic time.
    pub clock: Arc<dyn clock::Clock>,
    /// Random numbers: UIDs, name suffixes, jitter.
    pub rng: Arc<dyn rng::Rng>,
    /// Starts background loops.
    pub spawner: Arc<dyn spawn::Spawner>,
}

impl Env {
    /// The real machine's handles: system clock, system random source, the current tokio runtime.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(clock::SystemClock::new()),
            rng: Arc::new(rng::SystemRng),
            spawner: Arc::new(spawn::TokioSpawner),
        }
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}
