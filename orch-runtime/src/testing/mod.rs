//! Test kits of the seams that this crate owns.

pub mod conformance;
