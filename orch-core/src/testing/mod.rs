//! Test kit: a virtual environment, an API server in memory, faults, object builders, and the conformance suite of
//! the client seam.

pub mod builders;
pub mod conformance;
mod fake;
mod fault;

pub use fake::{FakeApi, merge_patch};
pub use fault::{FaultClient, Faults};

use crate::{Env, clock::SimClock, rng::SeededRng, spawn::TokioSpawner};
use std::sync::Arc;

/// Virtual time from 2026-01-01T00:00:00Z and randomness from `seed`. Call it on a tokio runtime started paused.
#[must_use]
pub fn sim_env(seed: u64) -> Env {
    let epoch = jiff::Timestamp::from_second(1_767_225_600).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Env {
        clock: Arc::new(SimClock::starting_at(epoch)),
        rng: Arc::new(SeededRng::new(seed)),
        spawner: Arc::new(TokioSpawner),
    }
}
