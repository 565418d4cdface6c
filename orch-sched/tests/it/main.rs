//! Decisions, invariants under churn, and the scheduler against an API server.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop; it runs in real time"
)]
mod decisions;
mod running;
mod simulated;
