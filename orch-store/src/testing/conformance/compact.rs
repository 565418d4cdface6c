//! Compaction: history ends somewhere, clearly, and nothing else does.

use crate::Error;
use crate::store::{KeyRange, ReadAt, Revision};
use crate::testing::kit::Sut;
use crate::testing::{Bed, Subject};

/// The border is exact.
pub async fn below_it_is_refused_and_above_it_reads(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let mut states = Vec::new();
    for n in 0..10 {
        let revision = sut.put(&format!("/{}", n % 3), &n.to_string()).await;
        states.push((revision, sut.state_at(ReadAt::Latest).await));
    }
    let border = states[5].0;
    for _ in 0..2 {
        sut.store().compact(border).await.expect("it may repeat");
    }
    sut.store()
        .compact(states[2].0)
        .await
        .expect("what is forgotten already is fine");
    for (revision, state) in &states {
        if *revision >= border {
            assert_eq!(
                &sut.state_at(ReadAt::Exact(*revision)).await,
                state,
                "at {revision}"
            );
            continue;
        }
        match sut
            .try_range(KeyRange::all(), ReadAt::Exact(*revision), None)
            .await
        {
            Err(Error::Compacted { asked, oldest }) => assert_eq!((asked, oldest), (*revision, border)),
            other => panic!("{revision} is compacted, not {other:?}"),
        }
    }
    assert_eq!(sut.store().status().await.expect("a status").compacted, border);
    let (last, state) = states.last().expect("there are states");
    assert_eq!(
        &sut.state_at(ReadAt::AtLeast(states[0].0)).await,
        state,
        "only exact reads need history"
    );
    sut.store()
        .compact(*last)
        .await
        .expect("the present can be compacted");
    assert_eq!(&sut.state_at(ReadAt::Exact(*last)).await, state);
}

/// Compacting at every revision leaves the present as it is.
pub async fn no_key_is_lost_and_none_comes_back(subject: &dyn Subject, bed: Bed) {
    let mut sut = Sut::open(subject, bed).await;
    for n in 0..80u32 {
        let key = format!("/{}", n * 5 % 7);
        let revision = if n % 4 == 3 {
            sut.delete(&key).await
        } else {
            sut.put(&key, &n.to_string()).await
        };
        let before = sut.state_at(ReadAt::Latest).await;
        if n % 2 == 1 {
            sut.store()
                .compact(Revision(revision.0.saturating_sub(u64::from(n % 3))))
                .await
                .expect("it compacts");
        }
        assert_eq!(
            sut.state_at(ReadAt::Latest).await,
            before,
            "after compacting near {revision}"
        );
        if n % 20 == 19 && subject.is_durable() {
            sut.restart().await;
            assert_eq!(
                sut.state_at(ReadAt::Latest).await,
                before,
                "after compacting and a restart"
            );
        }
    }
}

/// A key whose deletion is the compacted revision itself is gone at it, and its later life is complete.
pub async fn a_deletion_at_the_compacted_revision_stays(subject: &dyn Subject, bed: Bed) {
    let mut sut = Sut::open(subject, bed).await;
    sut.put("/a", "1").await;
    sut.put("/b", "1").await;
    let deleted = sut.delete("/a").await;
    sut.store().compact(deleted).await.expect("it compacts");
    assert_eq!(sut.state_at(ReadAt::Exact(deleted)).await, ["/b=1"]);
    if subject.is_durable() {
        sut.restart().await;
        assert_eq!(
            sut.state_at(ReadAt::Latest).await,
            ["/b=1"],
            "a deletion was lost at compaction"
        );
    }
    let again = sut.put("/a", "2").await;
    let gone = sut.delete("/a").await;
    let events = sut.watch(KeyRange::all(), deleted).await.texts_until(gone).await;
    assert_eq!(
        events,
        [format!("{again} Put /a=2"), format!("{gone} Delete /a=")]
    );
    assert_eq!(sut.state_at(ReadAt::Exact(again)).await, ["/a=2", "/b=1"]);
}

/// Forgetting needs something that happened.
pub async fn the_future_cannot_be_compacted(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let current = sut.put("/a", "1").await;
    let error = sut
        .store()
        .compact(Revision(current.0 + 1))
        .await
        .expect_err("it is refused");
    assert!(matches!(error, Error::FutureRevision { .. }), "{error:?}");
}
