//! Decisions, invariants under churn, and the scheduler against an API server.
mod decisions;
mod running;
mod simulated;
