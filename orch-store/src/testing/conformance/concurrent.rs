//! Many at once.

use crate::store::{KeyRange, Op, ReadAt, Txn};
use crate::testing::history::Recorder;
use crate::testing::kit::{Sut, pause};
use crate::testing::{Bed, Subject};
use futures::future::join_all;
use std::sync::Arc;

/// Compare-and-swap counters.
pub async fn no_update_is_lost(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    sut.put("/n", "0").await;
    let workers = (0..8).map(|_| async {
        for _ in 0..25 {
            loop {
                let seen = sut.get("/n").await.expect("the counter is there");
                let n: u32 = String::from_utf8_lossy(&seen.value).parse().expect("a number");
                let next = (n + 1).to_string();
                pause().await;
                if sut
                    .txn(Txn::update("/n", seen.mod_revision, next))
                    .await
                    .succeeded
                {
                    break;
                }
            }
        }
    });
    sut.soon("the counting", join_all(workers)).await;
    let end = sut.get("/n").await.expect("the counter is there");
    assert_eq!(&end.value[..], b"200", "an update was lost");
    assert_eq!(end.version, 201);
}

/// Whatever runs at once, there is one order that explains every answer and agrees with time.
pub async fn histories_are_linearizable(subject: &dyn Subject, bed: Bed) {
    let mut sut = Sut::open(subject, bed).await;
    let recorder = Arc::new(Recorder::default());
    for round in 0..3 {
        let start = sut.state_at(ReadAt::Latest).await.len();
        let store = Arc::clone(sut.store());
        let workers = (0..6u32).map(|worker| recorder.work(&store, worker + 10 * round, 40));
        sut.soon("the work", join_all(workers)).await;
        assert!(sut.state_at(ReadAt::Latest).await.len() >= start.min(1));
        drop(store);
        if subject.is_durable() {
            sut.restart().await;
        } else {
            break;
        }
    }
    let start = recorder.start();
    let mut all = sut.watch(KeyRange::all(), start).await;
    let events = all.until(sut.revision().await).await;
    recorder
        .history()
        .check(start, &events)
        .expect("the history is linearizable");
}

/// What watchers saw is what writers were answered.
pub async fn watchers_agree_with_the_writers(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let mut watchers = Vec::new();
    for _ in 0..5 {
        watchers.push(sut.watch(KeyRange::prefix("/w/"), start).await);
    }
    let writers = (0..4).map(|w| {
        let sut = &sut;
        async move {
            let mut made = Vec::new();
            for n in 0..40 {
                let revision = sut
                    .txn(Txn::of([Op::put(format!("/w/{w}"), n.to_string())]))
                    .await
                    .revision;
                made.push((revision, format!("{revision} Put /w/{w}={n}")));
            }
            made
        }
    });
    let mut made: Vec<_> = sut
        .soon("the writing", join_all(writers))
        .await
        .into_iter()
        .flatten()
        .collect();
    made.sort();
    let last = made.last().map_or(start, |(r, _)| *r);
    let made: Vec<String> = made.into_iter().map(|(_, text)| text).collect();
    for mut watch in watchers {
        assert_eq!(watch.texts_until(last).await, made);
    }
}
