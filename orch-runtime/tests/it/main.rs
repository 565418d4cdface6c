//! Integration tests of the node side.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod agent;
mod cluster;
mod conformance;
mod server;
