//! The kit tested: each broken store fails the case that names what it breaks, and the same store unbroken passes all.

use orch_store::testing::broken::{Broken, FLAWS, Flaw};
use std::panic::{AssertUnwindSafe, catch_unwind};

std::thread_local! {
    static FLAW: std::cell::Cell<Option<Flaw>> = const { std::cell::Cell::new(None) };
}

// As tests of their own, on threads where no flaw is set, these pass.
orch_store::store_conformance! { unbroken, Broken::with(FLAW.get()) }

#[test]
fn each_flaw_fails_its_case() {
    let mut wrong = Vec::new();
    for (flaw, name) in FLAWS {
        let (_, case) = unbroken::CASES
            .iter()
            .find(|(n, _)| n == name)
            .expect("the case exists");
        FLAW.set(Some(*flaw));
        if catch_unwind(AssertUnwindSafe(case)).is_ok() {
            wrong.push(format!("{flaw:?} passes {name}"));
        }
        FLAW.set(None);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
