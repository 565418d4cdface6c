//! Leases: keys that die together, never early.

use crate::Error;
use crate::store::{EventKind, KeyRange, LeaseId, Op, ReadAt, Revision, Txn};
use crate::testing::kit::Sut;
use crate::testing::{Bed, Subject};
use std::time::Duration;

pub(super) const TTL: Duration = Duration::from_secs(5);

pub(super) async fn attach(sut: &Sut<'_>, key: &str, id: LeaseId) -> Revision {
    let op = Op::Put {
        key: key.to_owned().into(),
        value: "leased".into(),
        lease: Some(id),
    };
    sut.txn(Txn::of([op])).await.revision
}

pub(super) async fn grant(sut: &Sut<'_>) -> LeaseId {
    sut.soon("a lease", sut.store().leases().grant(TTL))
        .await
        .expect("a lease is granted")
}

/// Revoking deletes all keys at once, visibly.
pub async fn keys_die_with_their_lease_in_one_revision(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let id = grant(&sut).await;
    attach(&sut, "/l/a", id).await;
    let before = attach(&sut, "/l/b", id).await;
    sut.put("/l/c", "free").await;
    assert_eq!(sut.get("/l/a").await.and_then(|kv| kv.lease), Some(id));
    sut.soon("the end of a lease", sut.store().leases().revoke(id))
        .await
        .expect("it is revoked");
    let now = sut.revision().await;
    assert_eq!(sut.state_at(ReadAt::Latest).await, ["/l/c=free"]);
    let events = sut.watch(KeyRange::prefix("/l/"), before).await.until(now).await;
    let deletions: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Delete).collect();
    assert_eq!(deletions.len(), 2);
    assert!(
        deletions.iter().all(|e| e.revision() == now && e.prev.is_some()),
        "{deletions:?}"
    );
    let gone = sut.store().leases().revoke(id).await.expect_err("it is gone");
    assert!(matches!(gone, Error::LeaseNotFound { .. }), "{gone:?}");
}

/// There until its time is over, gone soon after.
pub async fn it_never_runs_out_early(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let id = grant(&sut).await;
    let attached = attach(&sut, "/l/a", id).await;
    let mut watch = sut.watch(KeyRange::key("/l/a"), attached).await;
    sut.bed.env.clock.sleep(TTL * 9 / 10).await;
    assert!(sut.get("/l/a").await.is_some(), "a lease was ended early");
    assert!(sut.store().leases().time_to_live(id).await.expect("it lives") <= TTL / 5);
    let event = loop {
        if let Some(event) = watch.batch().await.expect("the watch goes on").events.pop() {
            break event;
        }
    };
    assert_eq!(event.kind, EventKind::Delete);
    assert_eq!(sut.get("/l/a").await, None);
    let gone = sut.store().leases().keep_alive(id).await.expect_err("it is gone");
    assert!(matches!(gone, Error::LeaseNotFound { .. }), "{gone:?}");
}

/// Kept alive, it lives.
pub async fn a_sign_of_life_starts_its_time_again(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let id = grant(&sut).await;
    attach(&sut, "/l/a", id).await;
    for _ in 0..3 {
        sut.bed.env.clock.sleep(TTL * 4 / 5).await;
        assert_eq!(sut.store().leases().keep_alive(id).await.expect("it lives"), TTL);
        assert!(sut.get("/l/a").await.is_some(), "a lease was ended early");
    }
    sut.bed.env.clock.sleep(TTL * 4 / 5).await;
    assert!(sut.get("/l/a").await.is_some(), "a lease was ended early");
}

/// A later put takes a key off its lease.
pub async fn only_attached_keys_die(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let (one, other) = (grant(&sut).await, grant(&sut).await);
    assert_ne!(one, other, "leases have names of their own");
    for key in ["/l/stays", "/l/free", "/l/moved", "/l/again"] {
        attach(&sut, key, one).await;
    }
    sut.put("/l/free", "free").await;
    attach(&sut, "/l/moved", other).await;
    sut.delete("/l/again").await;
    sut.put("/l/again", "new").await;
    sut.store().leases().revoke(one).await.expect("it is revoked");
    assert_eq!(
        sut.state_at(ReadAt::Latest).await,
        ["/l/again=new", "/l/free=free", "/l/moved=leased"]
    );
    sut.store().leases().revoke(other).await.expect("it is revoked");
    assert_eq!(
        sut.state_at(ReadAt::Latest).await,
        ["/l/again=new", "/l/free=free"]
    );
}

/// Each use of a lease that is not there says so.
pub async fn an_unknown_lease_is_refused(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let before = sut.put("/a", "1").await;
    let id = LeaseId(12345);
    let unknown = |error: Error| matches!(error, Error::LeaseNotFound { id: found } if found == id);
    let put = Op::Put {
        key: "/a".into(),
        value: "2".into(),
        lease: Some(id),
    };
    assert!(unknown(sut.refuse(Txn::of([put])).await));
    let leases = sut.store().leases();
    assert!(unknown(leases.keep_alive(id).await.expect_err("no such lease")));
    assert!(unknown(leases.revoke(id).await.expect_err("no such lease")));
    assert!(unknown(leases.time_to_live(id).await.expect_err("no such lease")));
    assert!(matches!(
        leases.grant(Duration::ZERO).await,
        Err(Error::Invalid { .. })
    ));
    assert_eq!(
        (sut.revision().await, sut.value("/a").await),
        (before, Some("1".into()))
    );
}
