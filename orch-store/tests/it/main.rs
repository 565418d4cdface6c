//! The store's tests: the kit on every backend, the kit on broken stores, crashes.

mod conformance;
