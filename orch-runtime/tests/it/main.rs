//! Integration tests of the node side.

mod agent;
mod cluster;
mod conformance;
