//! Integration tests of the node side.

mod conformance;
