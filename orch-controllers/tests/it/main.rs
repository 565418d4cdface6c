//! The controllers over an in-memory API server in virtual time, with a stand-in for scheduler and node agents.
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

mod cluster;
mod jobs;
mod lifecycle;
mod nodes;
mod workloads;
