//! Transactions: compare, then write, atomically.

use crate::Error;
use crate::store::{
    Compare, Condition, KEY_BYTES_MAX, KeyRange, Op, OpResult, ReadAt, Revision, TXN_OPS_MAX, Txn,
    VALUE_BYTES_MAX,
};
use crate::testing::kit::{Sut, bytes, text};
use crate::testing::{Bed, Subject};

/// Each change takes the next revision; the key's numbers follow it.
pub async fn creates_updates_and_deletes_with_growing_revisions(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    assert!(start >= Revision(1), "a new store is at revision 1 or later");
    let created = sut.txn(Txn::create("/a", "1")).await;
    assert!(created.succeeded, "an absent key can be created");
    let kv = sut.get("/a").await.expect("the key is there");
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (created.revision, created.revision, 1)
    );
    assert_eq!(
        created.revision,
        Revision(start.0 + 1),
        "one change, one revision"
    );
    assert_eq!(created.put(), Some(&kv), "the answer holds what was put");

    let again = sut.txn(Txn::create("/a", "2")).await;
    assert!(!again.succeeded, "a present key cannot be created");
    assert_eq!(again.found(), Some(&kv), "the answer holds what is there");

    let updated = sut.txn(Txn::update("/a", kv.mod_revision, "2")).await;
    assert!(updated.succeeded, "an update at the seen revision succeeds");
    assert_eq!(updated.revision, Revision(created.revision.0 + 1));
    let now = sut.get("/a").await.expect("the key is there");
    assert_eq!(
        (now.create_revision, now.mod_revision, now.version),
        (created.revision, updated.revision, 2)
    );
    match updated.results.as_slice() {
        [OpResult::Put { prev, .. }] => {
            assert_eq!(prev.as_ref(), Some(&kv), "the answer holds what was there");
        }
        other => panic!("one put, one result, not {other:?}"),
    }
    assert!(
        !sut.txn(Txn::update("/a", kv.mod_revision, "3")).await.succeeded,
        "a lost race is seen"
    );
    assert!(
        !sut.txn(Txn::delete("/a", kv.mod_revision)).await.succeeded,
        "a lost race is seen"
    );

    let deleted = sut.txn(Txn::delete("/a", now.mod_revision)).await;
    assert!(deleted.succeeded);
    assert_eq!(deleted.results, [OpResult::Delete(vec![now])]);
    assert_eq!(
        deleted.revision,
        Revision(updated.revision.0 + 1),
        "a deletion takes a revision"
    );
    assert_eq!(sut.get("/a").await, None);
    assert_eq!(sut.revision().await, deleted.revision);
}

/// Conditions on present and absent keys.
pub async fn each_condition_holds_exactly_when_it_says(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let created = sut.put("/a", "x").await;
    let changed = sut.put("/a", "y").await;
    let table = [
        ("/a", Condition::ModRevision(changed), true),
        ("/a", Condition::ModRevision(created), false),
        ("/a", Condition::ModRevision(Revision(0)), false),
        ("/a", Condition::CreateRevision(created), true),
        ("/a", Condition::CreateRevision(changed), false),
        ("/a", Condition::Version(2), true),
        ("/a", Condition::Version(0), false),
        ("/a", Condition::Value("y".into()), true),
        ("/a", Condition::Value("x".into()), false),
        ("/a", Condition::Exists, true),
        ("/b", Condition::ModRevision(Revision(0)), true),
        ("/b", Condition::CreateRevision(Revision(0)), true),
        ("/b", Condition::Version(0), true),
        ("/b", Condition::Value("".into()), false),
        ("/b", Condition::Exists, false),
    ];
    for (key, is, holds) in table {
        let name = format!("{key} {is:?}");
        let txn = Txn::of([Op::get("/a")]).when(Compare { key: key.into(), is });
        assert_eq!(sut.txn(txn).await.succeeded, holds, "{name}");
    }
    let both = Txn::of([Op::put("/c", "1")])
        .when(Compare::absent("/b"))
        .when(Compare::absent("/a"));
    let outcome = sut.txn(both.or_else([Op::put("/d", "1")])).await;
    assert!(!outcome.succeeded, "all conditions must hold");
    assert_eq!(
        (sut.value("/c").await, sut.value("/d").await),
        (None, Some("1".into())),
        "one branch is taken"
    );
}

/// All or nothing, and at once.
pub async fn all_changes_of_one_transaction_share_a_revision(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    sut.put("/b/1", "old").await;
    let before = sut.put("/b/2", "old").await;
    let txn = Txn::of([
        Op::put("/a", "1"),
        Op::Delete(KeyRange::prefix("/b/")),
        Op::put("/c", "1"),
    ]);
    let outcome = sut.txn(txn).await;
    assert_eq!(outcome.revision, Revision(before.0 + 1));
    assert_eq!(
        sut.state_at(ReadAt::Exact(before)).await,
        ["/b/1=old", "/b/2=old"]
    );
    let page = sut.range(KeyRange::all(), ReadAt::Latest, None).await;
    assert_eq!(
        page.kvs.iter().map(|kv| text(kv)).collect::<Vec<_>>(),
        ["/a=1", "/c=1"]
    );
    assert!(
        page.kvs.iter().all(|kv| kv.mod_revision == outcome.revision),
        "one revision for all"
    );
}

/// Within a transaction, in order.
pub async fn steps_see_the_steps_before_them(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    sut.put("/a", "old").await;
    let all = || Op::Get {
        keys: KeyRange::all(),
        limit: None,
    };
    let outcome = sut
        .txn(Txn::of([
            all(),
            Op::delete("/a"),
            all(),
            Op::put("/b", "new"),
            all(),
        ]))
        .await;
    let seen = |i: usize| match &outcome.results[i] {
        OpResult::Get(page) => page.kvs.iter().map(|kv| text(kv)).collect::<Vec<_>>(),
        other => panic!("a read has a page, not {other:?}"),
    };
    assert_eq!(
        (seen(0), seen(2), seen(4)),
        (vec!["/a=old".to_owned()], vec![], vec!["/b=new".to_owned()])
    );
}

/// Reads, failed compares and deletions of nothing.
pub async fn what_changes_nothing_keeps_the_revision(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let revision = sut.put("/a", "1").await;
    assert_eq!(sut.delete("/nothing").await, revision);
    assert_eq!(sut.txn(Txn::of([Op::get("/a")])).await.revision, revision);
    assert_eq!(sut.txn(Txn::create("/a", "2")).await.revision, revision);
    assert_eq!(sut.txn(Txn::default()).await.revision, revision);
    assert_eq!(sut.revision().await, revision);
    assert_eq!(
        sut.put("/a", "1").await,
        Revision(revision.0 + 1),
        "an equal value is a change all the same"
    );
}

/// Delete, then create.
pub async fn a_recreated_key_starts_anew(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    sut.put("/a", "1").await;
    sut.put("/a", "2").await;
    sut.delete("/a").await;
    let revision = sut.txn(Txn::create("/a", "3")).await.revision;
    let kv = sut.get("/a").await.expect("it is back");
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (revision, revision, 1)
    );
    assert_eq!(text(&kv), "/a=3");
}

/// Limits and nonsense.
pub async fn bad_input_is_refused_and_changes_nothing(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let before = sut.put("/a", "1").await;
    let too_large = |error: Error| matches!(error, Error::TooLarge { .. });
    let invalid = |error: Error| matches!(error, Error::Invalid { .. });
    assert!(too_large(
        sut.refuse(Txn::of([Op::put(bytes(KEY_BYTES_MAX + 1), "")])).await
    ));
    assert!(too_large(
        sut.refuse(Txn::of([Op::put("/b", bytes(VALUE_BYTES_MAX + 1))]))
            .await
    ));
    let many: Vec<Op> = (0..=TXN_OPS_MAX).map(|n| Op::put(format!("/{n}"), "")).collect();
    assert!(too_large(sut.refuse(Txn::of(many)).await));
    assert!(invalid(sut.refuse(Txn::of([Op::put("", "1")])).await));
    assert!(invalid(
        sut.refuse(Txn::of([Op::put("/b", "1"), Op::put("/b", "2")]))
            .await
    ));
    assert!(invalid(
        sut.refuse(Txn::of([Op::put("/b", "1"), Op::Delete(KeyRange::prefix("/"))]))
            .await
    ));
    assert_eq!(sut.state_at(ReadAt::Latest).await, ["/a=1"]);
    assert_eq!(sut.revision().await, before);
    let largest = Txn::of([Op::put(bytes(KEY_BYTES_MAX), bytes(VALUE_BYTES_MAX))]);
    assert!(
        sut.txn(largest).await.succeeded,
        "the limits themselves are allowed"
    );
}
