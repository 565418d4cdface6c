//! The test kit: any implementation of [`Store`] runs it with one macro.
//!
//! ```ignore
//! // tests/it/main.rs; tokio with the features "rt" and "test-util" is needed
//! orch_store::store_conformance! { mine, MySubject }            // in virtual time
//! orch_store::store_conformance! { real_time: mine, MySubject } // for what talks to other processes
//! ```
//!
//! `MySubject` is an expression that implements [`Subject`]: how to open the store, how to end it. Each case becomes a
//! `#[test]` named after the promise it checks. The kit is itself tested against [`broken`] stores, each of which must
//! fail the case that names what it breaks.

pub mod broken;
pub mod conformance;
mod fault_disk;
mod history;
mod kit;

pub use fault_disk::{Fault, FaultDisk, Replay};
pub use history::{History, Recorder};
pub use kit::{Bed, Embedded, Memory, Subject};

use crate::store::Store;

/// Makes a module of tests that hold a store to the contract. See [`crate::testing`].
#[macro_export]
macro_rules! store_conformance {
    (real_time: $name:ident, $subject:expr) => {
        $crate::__conformance_cases! { $name, $subject, real_time }
    };
    ($name:ident, $subject:expr) => {
        $crate::__conformance_cases! { $name, $subject, virtual_time }
    };
}
