//! Executors that come and go under a store.

use crate::support::{in_virtual_time, one_thread, put};
use orch_core::Env;
use orch_store::embedded::Options;
use orch_store::testing::{Bed, FaultDisk};
use orch_store::{EmbeddedStore, Op, Store, Txn};
use std::sync::Arc;

#[test]
fn dropping_a_store_whose_job_has_not_begun_does_its_work() {
    let disk = FaultDisk::default();
    in_virtual_time(async {
        let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Options::default(), one_thread(1))
            .expect("it opens");
        // Asked once, so that the job is due, then given up: the transaction happens all the same.
        let mut asked = Box::pin(store.txn(Txn::of([Op::put("/a", "1")])));
        assert!(futures::poll!(&mut asked).is_pending());
        drop(asked);
        drop(store);
    });
    in_virtual_time(async {
        let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Options::default(), one_thread(1))
            .expect("it opens");
        assert_eq!(store.status().await.expect("a status").keys, 1);
    });
}

#[test]
fn a_store_outlives_its_executor() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let first = runtime();
    let bed = first.block_on(async { Bed::real_time() });
    let store = first.block_on(async {
        let store = EmbeddedStore::open(&bed.dir, Env::system())
            .await
            .expect("it opens");
        put(&store, "/a", "1").await.expect("it writes");
        store
    });
    drop(first);
    // Requests run on whatever runtime they are made on.
    runtime().block_on(async {
        put(&store, "/b", "1").await.expect("it writes");
    });
    drop(store);
    runtime().block_on(async {
        let store = EmbeddedStore::open(&bed.dir, Env::system())
            .await
            .expect("it opens");
        assert_eq!(store.status().await.expect("a status").keys, 2);
    });
}
