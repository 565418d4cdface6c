//! The store's tests: the kit on every backend, the kit on broken stores, models, faults, crashes, kills.

mod broken;
mod conformance;
mod crash;
mod damage;
mod executor;
mod faults;
mod fork;
mod kill;
mod model;
mod support;
