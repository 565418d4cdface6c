//! Forks of the memory store.

use crate::support::{in_virtual_time, one_thread, sleep};
use futures::StreamExt;
use orch_store::{KeyRange, MemStore, Op, ReadAt, Store, Txn};
use std::time::Duration;

#[test]
fn a_fork_goes_its_own_way() {
    in_virtual_time(async {
        let one = MemStore::new(one_thread(1));
        let lease = one
            .leases()
            .grant(Duration::from_secs(10))
            .await
            .expect("a lease");
        for n in 0..1000 {
            let lease = (n % 100 == 0).then_some(lease);
            let op = Op::Put {
                key: format!("/k/{n:04}").into(),
                value: "1".into(),
                lease,
            };
            one.txn(Txn::of([op])).await.expect("it writes");
        }
        let start = one.status().await.expect("a status");
        let other = one.fork(one_thread(2));
        assert_eq!(other.status().await.expect("a status"), start);
        let mut watch = other
            .watch(KeyRange::all(), start.revision)
            .await
            .expect("a watch");
        one.txn(Txn::of([Op::Delete(KeyRange::prefix("/k/00"))]))
            .await
            .expect("it writes");
        assert_eq!(
            other.status().await.expect("a status"),
            start,
            "the fork does not see it"
        );
        other
            .txn(Txn::of([Op::put("/only/here", "1")]))
            .await
            .expect("it writes");
        let page = one
            .range(KeyRange::prefix("/only"), ReadAt::Latest, None)
            .await
            .expect("a page");
        assert_eq!(page.count, 0);
        let mut events = Vec::new();
        while events.is_empty() {
            events = watch.next().await.expect("it goes on").expect("a batch").events;
        }
        assert_eq!(&events[0].kv.key[..], b"/only/here");
        let past = other
            .range(KeyRange::all(), ReadAt::Exact(orch_store::Revision(500)), None)
            .await
            .expect("a page");
        assert_eq!(past.count, 499, "the fork has the history");
        sleep(Duration::from_secs(20)).await;
        assert_eq!(one.status().await.expect("a status").keys, 891);
        assert_eq!(
            other.status().await.expect("a status").keys,
            991,
            "its lease runs out by itself"
        );
    });
}
