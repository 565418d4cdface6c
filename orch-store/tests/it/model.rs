//! The embedded store against the memory store, step by step, with restarts in between.

use crate::support::{in_virtual_time, one_thread, sleep, tiny};
use futures::StreamExt;
use orch_store::testing::FaultDisk;
use orch_store::{
    Compare, Condition, Durability, EmbeddedStore, HistoryLimits, KeyRange, LeaseId, MemStore, Op, ReadAt,
    Revision, Store, Txn, WatchEvent,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Txn(Txn, Option<u8>),
    Range(KeyRange, Option<u64>, Option<u32>),
    Watch(KeyRange, u64),
    Compact(u64),
    Grant,
    Revoke(u8),
    Sleep,
    Restart,
}

fn key() -> impl Strategy<Value = String> {
    (0u8..8).prop_map(|n| format!("/k/{n}"))
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::key),
        Just(KeyRange::all()),
        (key(), key()).prop_map(|(a, b)| KeyRange::between(a, b)),
        key().prop_map(KeyRange::prefix),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), 0usize..300).prop_map(|(k, n)| Op::put(k, vec![b'v'; n])),
        2 => key().prop_map(Op::delete),
        1 => range().prop_map(Op::Delete),
        1 => (range(), proptest::option::of(0u32..4)).prop_map(|(keys, limit)| Op::Get { keys, limit }),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let condition = prop_oneof![
        (0u64..60).prop_map(|r| Condition::ModRevision(Revision(r))),
        (0u64..60).prop_map(|r| Condition::CreateRevision(Revision(r))),
        (0u64..4).prop_map(Condition::Version),
        Just(Condition::Exists),
        (0usize..3).prop_map(|n| Condition::Value(vec![b'v'; n].into())),
    ];
    (key(), condition).prop_map(|(key, is)| Compare { key: key.into(), is })
}

fn step() -> impl Strategy<Value = Step> {
    let txn = (
        prop::collection::vec(compare(), 0..2),
        prop::collection::vec(op(), 0..4),
        prop::collection::vec(op(), 0..3),
        any::<bool>(),
    );
    let txn = txn.prop_map(|(compare, success, failure, buffered)| {
        let durability = if buffered {
            Durability::Buffered
        } else {
            Durability::Synced
        };
        Txn {
            compare,
            success,
            failure,
            durability,
        }
    });
    prop_oneof![
        12 => (txn, proptest::option::of(any::<u8>())).prop_map(|(txn, lease)| Step::Txn(txn, lease)),
        3 => (range(), proptest::option::of(0u64..20), proptest::option::of(0u32..5))
            .prop_map(|(r, back, limit)| Step::Range(r, back, limit)),
        2 => (range(), 0u64..30).prop_map(|(r, back)| Step::Watch(r, back)),
        1 => (0u64..10).prop_map(Step::Compact),
        1 => Just(Step::Grant),
        1 => any::<u8>().prop_map(Step::Revoke),
        1 => Just(Step::Sleep),
        1 => Just(Step::Restart),
    ]
}

async fn watched(store: &dyn Store, keys: KeyRange, after: Revision) -> Result<Vec<Arc<WatchEvent>>, String> {
    let now = store.status().await.expect("a status").revision;
    let mut watch = store.watch(keys, after).await.map_err(|e| e.to_string())?;
    let (mut events, mut at) = (Vec::new(), Revision(0));
    while at < now {
        watch.progress().request();
        let batch = watch
            .next()
            .await
            .expect("the watch goes on")
            .map_err(|e| e.to_string())?;
        events.extend(batch.events);
        at = batch.revision;
    }
    Ok(events)
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let disk = FaultDisk::default();
    let history = HistoryLimits::default();
    let options = orch_store::embedded::Options { history, ..tiny() };
    let open =
        |seed| EmbeddedStore::open_on(Arc::new(disk.clone()), options, one_thread(seed)).expect("it opens");
    let (model, mut store) = (MemStore::new(one_thread(5)), open(6));
    let mut leases: Vec<(LeaseId, LeaseId)> = Vec::new();
    for (n, step) in steps.into_iter().enumerate() {
        let now = model.status().await.expect("a status");
        match step {
            Step::Txn(mut txn, lease) => {
                // The names differ, so leases are compared by place.
                let lease = lease
                    .filter(|_| !leases.is_empty())
                    .map(|n| leases[usize::from(n) % leases.len()]);
                let mut twin = txn.clone();
                for (txn, lease) in [(&mut txn, lease.map(|l| l.0)), (&mut twin, lease.map(|l| l.1))] {
                    for op in &mut txn.success {
                        if let Op::Put { lease: to, .. } = op {
                            *to = lease;
                        }
                    }
                }
                same(&model.txn(txn).await, &store.txn(twin).await, &leases)?;
            }
            Step::Range(keys, back, limit) => {
                let at = back.map_or(ReadAt::Latest, |b| {
                    ReadAt::Exact(Revision(now.revision.0.saturating_sub(b)))
                });
                let (ours, theirs) = (
                    model.range(keys.clone(), at, limit).await,
                    store.range(keys, at, limit).await,
                );
                same(
                    &ours.map_err(|e| e.to_string()),
                    &theirs.map_err(|e| e.to_string()),
                    &leases,
                )?;
            }
            Step::Watch(keys, back) => {
                let after = Revision(now.revision.0.saturating_sub(back));
                let ours = watched(&model, keys.clone(), after).await;
                same(&ours, &watched(&store, keys, after).await, &leases)?;
            }
            Step::Compact(back) => {
                let floor = Revision(now.revision.0.saturating_sub(back));
                model.compact(floor).await.expect("it compacts");
                store.compact(floor).await.expect("it compacts");
            }
            Step::Grant => {
                let ttl = Duration::from_secs(1_000_000);
                leases.push((
                    model.leases().grant(ttl).await.expect("a lease"),
                    store.leases().grant(ttl).await.expect("a lease"),
                ));
            }
            Step::Revoke(_) if leases.is_empty() => {}
            Step::Revoke(which) => {
                let (ours, theirs) = leases[usize::from(which) % leases.len()];
                let (ours, theirs) = (
                    model.leases().revoke(ours).await,
                    store.leases().revoke(theirs).await,
                );
                prop_assert_eq!(ours.is_ok(), theirs.is_ok());
            }
            Step::Sleep => sleep(Duration::from_millis(100)).await,
            Step::Restart => {
                drop(store);
                store = open(100 + n as u64);
            }
        }
        let (ours, theirs) = (
            model.status().await.expect("a status"),
            store.status().await.expect("a status"),
        );
        prop_assert_eq!(
            (ours.revision, ours.keys, ours.compacted),
            (theirs.revision, theirs.keys, theirs.compacted)
        );
    }
    Ok(())
}

/// Compares what two stores said, taking the names of the same lease for equal.
fn same(
    ours: &impl std::fmt::Debug,
    theirs: &impl std::fmt::Debug,
    leases: &[(LeaseId, LeaseId)],
) -> Result<(), TestCaseError> {
    let strip = |text: String| {
        leases.iter().enumerate().fold(text, |text, (n, (a, b))| {
            text.replace(&format!("{a:?}"), &n.to_string())
                .replace(&format!("{b:?}"), &n.to_string())
        })
    };
    prop_assert_eq!(strip(format!("{ours:?}")), strip(format!("{theirs:?}")));
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn embedded_does_what_memory_does(steps in prop::collection::vec(step(), 1..90)) {
        in_virtual_time(run(steps))?;
    }
}
