//! The controllers over an in-memory API server in virtual time, with a stand-in for scheduler and node agents.

mod cluster;
mod lifecycle;
mod nodes;
mod workloads;
