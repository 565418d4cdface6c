//! Restarts: what was acknowledged is there, what was numbered stays numbered. Stores that promise no durability pass.

use super::lease::{TTL, attach, grant};
use crate::Error;
use crate::store::{KeyRange, ReadAt, Revision};
use crate::testing::kit::Sut;
use crate::testing::{Bed, Subject};

/// Everything acknowledged.
pub async fn data_and_revision_are_kept(subject: &dyn Subject, bed: Bed) {
    if !subject.is_durable() {
        return;
    }
    let mut sut = Sut::open(subject, bed).await;
    for n in 0..120u32 {
        let key = format!("/{}", n * 11 % 17);
        let acknowledged = if n % 5 == 4 {
            sut.delete(&key).await
        } else {
            sut.put(&key, &n.to_string()).await
        };
        if n % 7 == 0 {
            let before = sut.range(KeyRange::all(), ReadAt::Latest, None).await;
            sut.restart().await;
            let after = sut.range(KeyRange::all(), ReadAt::Latest, None).await;
            assert!(
                after.revision >= acknowledged,
                "an acknowledged write was lost: {} < {acknowledged}",
                after.revision
            );
            assert_eq!(after, before, "a restart changes nothing");
        }
    }
}

/// No revision is used twice, none goes back.
pub async fn the_sequence_goes_on(subject: &dyn Subject, bed: Bed) {
    if !subject.is_durable() {
        return;
    }
    let mut sut = Sut::open(subject, bed).await;
    let mut last = sut.revision().await;
    for n in 0..10 {
        let next = sut.put("/a", &n.to_string()).await;
        assert!(next > last, "revision {next} after {last}");
        last = sut.delete("/a").await;
        sut.restart().await;
        let now = sut.revision().await;
        assert!(now >= last, "the revision went back from {last} to {now}");
    }
}

/// Past states, and the border below which there are none.
pub async fn history_and_compaction_are_kept(subject: &dyn Subject, bed: Bed) {
    if !subject.is_durable() {
        return;
    }
    let mut sut = Sut::open(subject, bed).await;
    let mut states = Vec::new();
    for n in 0..30u32 {
        let revision = sut.put(&format!("/{}", n % 4), &n.to_string()).await;
        states.push((revision, sut.state_at(ReadAt::Latest).await));
    }
    let border = states[12].0;
    sut.store().compact(border).await.expect("it compacts");
    sut.restart().await;
    for (revision, state) in &states {
        let read = sut
            .try_range(KeyRange::all(), ReadAt::Exact(*revision), None)
            .await;
        match read {
            Ok(page) => {
                assert!(*revision >= border, "{revision} was compacted before the restart");
                let page: Vec<_> = page.kvs.iter().map(|kv| crate::testing::kit::text(kv)).collect();
                assert_eq!(&page, state, "at {revision}");
            }
            Err(Error::Compacted { .. }) => {
                assert!(*revision < border, "{revision} was readable before the restart");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// A watcher that resumes after the last revision it saw sees the rest exactly.
pub async fn watches_lose_and_repeat_nothing(subject: &dyn Subject, bed: Bed) {
    if !subject.is_durable() {
        return;
    }
    let mut sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let (mut made, mut seen, mut at) = (Vec::new(), Vec::new(), start);
    for round in 0..8u32 {
        for n in 0..5 {
            let revision = sut.put(&format!("/w/{}", (round + n) % 3), &n.to_string()).await;
            made.push(format!("{revision} Put /w/{}={n}", (round + n) % 3));
            if n == 2 {
                let mut watch = sut.watch(KeyRange::prefix("/w/"), at).await;
                seen.extend(watch.texts_until(revision).await);
                at = watch.revision;
            }
        }
        sut.restart().await;
        let now = sut.revision().await;
        if round % 2 == 1 {
            let mut watch = sut.watch(KeyRange::prefix("/w/"), at).await;
            seen.extend(watch.texts_until(now).await);
            at = watch.revision;
            assert_eq!(seen, made, "lost or repeated across a restart");
        }
    }
    let all = sut
        .watch(KeyRange::prefix("/w/"), start)
        .await
        .texts_until(Revision(start.0 + 40))
        .await;
    assert_eq!(all, made, "the whole history is still there");
}

/// Time starts again at most.
pub async fn leases_are_kept_and_not_cut_short(subject: &dyn Subject, bed: Bed) {
    if !subject.is_durable() {
        return;
    }
    let mut sut = Sut::open(subject, bed).await;
    let id = grant(&sut).await;
    attach(&sut, "/l/a", id).await;
    sut.bed.env.clock.sleep(TTL / 2).await;
    assert_eq!(sut.store().leases().keep_alive(id).await.expect("it lives"), TTL);
    sut.restart().await;
    sut.bed.env.clock.sleep(TTL * 4 / 5).await;
    assert!(sut.get("/l/a").await.is_some(), "a lease was ended early");
    assert_eq!(sut.store().leases().keep_alive(id).await.expect("it lives"), TTL);
    sut.bed.env.clock.sleep(TTL * 2).await;
    assert_eq!(sut.get("/l/a").await, None, "it runs out after a restart too");
}

/// The attachment survives.
pub async fn lease_keys_still_die_with_it(subject: &dyn Subject, bed: Bed) {
    if !subject.is_durable() {
        return;
    }
    let mut sut = Sut::open(subject, bed).await;
    let (one, ended) = (grant(&sut).await, grant(&sut).await);
    attach(&sut, "/l/a", one).await;
    attach(&sut, "/l/b", ended).await;
    sut.store().leases().revoke(ended).await.expect("it is revoked");
    sut.put("/l/c", "free").await;
    sut.restart().await;
    assert!(matches!(
        sut.store().leases().keep_alive(ended).await,
        Err(Error::LeaseNotFound { .. })
    ));
    assert_eq!(sut.state_at(ReadAt::Latest).await, ["/l/a=leased", "/l/c=free"]);
    sut.store().leases().revoke(one).await.expect("it is revoked");
    assert_eq!(sut.state_at(ReadAt::Latest).await, ["/l/c=free"]);
}
