//! Watches: every change after the start, once, in order.

use crate::Error;
use crate::store::{EventKind, KeyRange, Op, ReadAt, Revision, Txn};
use crate::testing::kit::{Sut, event_text, text};
use crate::testing::{Bed, Subject};
use std::time::Duration;

/// Writes `n` changes over a few keys; returns each as `revision kind key=value`.
async fn changes(sut: &Sut<'_>, n: u32) -> Vec<(Revision, String)> {
    let mut made = Vec::new();
    for n in 0..n {
        let key = format!("/w/{}", n * 7 % 5);
        if n % 4 == 3 && sut.get(&key).await.is_some() {
            let revision = sut.delete(&key).await;
            made.push((revision, format!("{revision} Delete {key}=")));
        } else {
            let revision = sut.put(&key, &n.to_string()).await;
            made.push((revision, format!("{revision} Put {key}={n}")));
        }
    }
    made
}

fn after(made: &[(Revision, String)], revision: Revision) -> Vec<String> {
    made.iter()
        .filter(|(r, _)| *r > revision)
        .map(|(_, text)| text.clone())
        .collect()
}

/// While it is watched.
pub async fn every_change_comes_once_in_order(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let mut watch = sut.watch(KeyRange::prefix("/w/"), start).await;
    let mut seen = Vec::new();
    let mut made = Vec::new();
    for round in 1..20 {
        made.extend(changes(&sut, round).await);
        let last = made.last().map_or(start, |(r, _)| *r);
        seen.extend(watch.texts_until(last).await);
        assert_eq!(seen, after(&made, start), "lost, repeated or out of order");
    }
}

/// From each revision of the past: exactly what came after it.
pub async fn it_starts_after_any_past_revision(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let made = changes(&sut, 40).await;
    let last = made.last().map_or(start, |(r, _)| *r);
    for from in start.0..=last.0 {
        let mut watch = sut.watch(KeyRange::prefix("/w/"), Revision(from)).await;
        assert_eq!(
            watch.texts_until(last).await,
            after(&made, Revision(from)),
            "from {from}"
        );
    }
}

/// A change right after the call cannot be missed, read or not.
pub async fn it_is_in_place_when_it_returns(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    for n in 0..20 {
        let before = sut.revision().await;
        let mut watch = sut.watch(KeyRange::prefix("/w/"), before).await;
        let revision = sut.put("/w/a", &n.to_string()).await;
        assert_eq!(
            watch.texts_until(revision).await,
            [format!("{revision} Put /w/a={n}")]
        );
    }
}

/// Neighbouring keys do not leak in.
pub async fn only_its_range_is_seen(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let ranges = [
        (KeyRange::prefix("/w/"), vec!["/w/", "/w/a", "/w/a/b", "/w/b"]),
        (KeyRange::key("/w/a"), vec!["/w/a"]),
        (KeyRange::between("/w/a", "/w/b"), vec!["/w/a", "/w/a/b"]),
        (
            KeyRange::all(),
            vec!["/v", "/w", "/w/", "/w/a", "/w/a/b", "/w/b", "/w0"],
        ),
    ];
    let mut live = Vec::new();
    for (range, _) in &ranges {
        live.push(sut.watch(range.clone(), start).await);
    }
    let mut last = start;
    for key in ["/v", "/w", "/w/", "/w/a", "/w/a/b", "/w/b", "/w0"] {
        last = sut.put(key, "").await;
    }
    for ((range, expected), mut live) in ranges.into_iter().zip(live) {
        let mut late = sut.watch(range.clone(), start).await;
        for watch in [&mut live, &mut late] {
            let events = watch.until(last).await;
            let keys: Vec<_> = events
                .iter()
                .map(|e| String::from_utf8_lossy(&e.kv.key).into_owned())
                .collect();
            assert_eq!(keys, expected, "{range:?}");
        }
    }
}

/// The key before and after.
pub async fn events_tell_what_was_and_what_is(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    sut.put("/w/a", "1").await;
    let first = sut.get("/w/a").await;
    sut.put("/w/a", "2").await;
    let second = sut.get("/w/a").await;
    let last = sut.delete("/w/a").await;
    let events = sut.watch(KeyRange::key("/w/a"), start).await.until(last).await;
    let [create, update, delete] = events.as_slice() else {
        panic!("three events, not {events:?}")
    };
    assert_eq!(
        (create.kind, Some(&create.kv), &create.prev),
        (EventKind::Put, first.as_ref(), &None)
    );
    assert_eq!(
        (update.kind, Some(&update.kv), &update.prev),
        (EventKind::Put, second.as_ref(), &first)
    );
    assert_eq!(
        (delete.kind, text(&delete.kv), &delete.prev),
        (EventKind::Delete, "/w/a=".into(), &second)
    );
    assert_eq!(delete.revision(), last);
}

/// All changes of a transaction come together.
pub async fn one_revision_is_never_split(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let mut last = start;
    for round in 0..60 {
        let ops: Vec<Op> = (0..100)
            .map(|n| Op::put(format!("/w/{n:03}"), round.to_string()))
            .collect();
        last = sut.txn(Txn::of(ops)).await.revision;
    }
    let mut watch = sut.watch(KeyRange::all(), start).await;
    let mut seen = 0;
    while watch.revision < last {
        let batch = watch.batch().await.expect("the watch goes on");
        seen += batch.events.len();
        assert_eq!(batch.events.len() % 100, 0, "a batch cuts a revision in two");
    }
    assert_eq!(seen, 6000);
}

/// No start in the future.
pub async fn a_future_start_is_refused(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let current = sut.put("/w/a", "1").await;
    let error = sut
        .store()
        .watch(KeyRange::all(), Revision(current.0 + 1))
        .await
        .expect_err("it is refused");
    assert!(matches!(error, Error::FutureRevision { .. }), "{error:?}");
    sut.store()
        .watch(KeyRange::all(), current)
        .await
        .expect("the present is a start");
}

/// No start below the compacted revision; at it, complete.
pub async fn a_compacted_start_is_refused(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let made = changes(&sut, 20).await;
    let border = made[10].0;
    sut.store().compact(border).await.expect("it compacts");
    let below = Revision(border.0 - 1);
    match sut.store().watch(KeyRange::all(), below).await {
        Err(Error::Compacted { asked, oldest }) => assert_eq!((asked, oldest), (below, border)),
        other => panic!("{below} is compacted, not {other:?}"),
    }
    let last = made[19].0;
    assert_eq!(
        sut.watch(KeyRange::all(), border).await.texts_until(last).await,
        after(&made, border)
    );
}

/// Progress: at the start, and whenever asked, however quiet the range.
pub async fn marks_come_when_asked_for(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.put("/other", "1").await;
    let mut watch = sut.watch(KeyRange::prefix("/w/"), start).await;
    let first = watch.batch().await.expect("a mark");
    assert!(
        first.events.is_empty() && first.revision >= start,
        "a new watch says that it has caught up: {first:?}"
    );
    for n in 0..10 {
        let now = sut.put("/other", &n.to_string()).await;
        watch.watch.progress().request();
        let mark = watch.batch().await.expect("a mark");
        assert!(
            mark.events.is_empty() && mark.revision >= now,
            "a mark at {now} or later, not {mark:?}"
        );
    }
    let now = sut.put("/w/a", "1").await;
    watch.watch.progress().request();
    let events = watch.texts_until(now).await;
    assert_eq!(
        events,
        [format!("{now} Put /w/a=1")],
        "a mark never overtakes a change"
    );
    let unasked = sut.within(Duration::from_millis(200), watch.batch()).await;
    if let Some(batch) = unasked {
        assert!(
            batch.expect("the watch goes on").events.is_empty(),
            "nothing happened"
        );
    }
}

/// Whoever notes the revision of the last batch can go on from it.
pub async fn resuming_after_any_batch_loses_and_repeats_nothing(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let (mut made, mut seen, mut at) = (Vec::new(), Vec::new(), start);
    for round in 0..12 {
        made.extend(changes(&sut, round % 5 + 1).await);
        let mut watch = sut.watch(KeyRange::prefix("/w/"), at).await;
        let batch = watch.batch().await.expect("a batch");
        seen.extend(batch.events.iter().map(|e| event_text(e)));
        at = batch.revision;
        assert_eq!(
            seen,
            made.iter()
                .filter(|(r, _)| *r <= at)
                .map(|(_, t)| t.clone())
                .collect::<Vec<_>>()
        );
    }
}

/// A stalled watcher loses its place, not the others'.
pub async fn one_that_falls_behind_is_cut_off_alone(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let start = sut.revision().await;
    let mut stalled = sut.watch(KeyRange::prefix("/w/"), start).await;
    let mut healthy = sut.watch(KeyRange::prefix("/w/"), start).await;
    let made = changes(&sut, 30).await;
    let last = made.last().map_or(start, |(r, _)| *r);
    assert_eq!(healthy.texts_until(last).await, after(&made, start));
    sut.store().compact(last).await.expect("it compacts");
    let mut seen = Vec::new();
    let error = loop {
        match stalled.batch().await {
            Ok(batch) => seen.extend(batch.events.iter().map(|e| event_text(e))),
            Err(error) => break Some(error),
        }
        if seen.len() >= made.len() {
            break None; // A store may have delivered into a buffer of its own: then nothing may be missing.
        }
    };
    match error {
        Some(Error::Compacted { .. }) => {
            assert!(after(&made, start).starts_with(&seen), "a gap before the end");
        }
        Some(other) => panic!("a watcher that fell behind is told so, not {other:?}"),
        None => assert_eq!(seen, after(&made, start)),
    }
    let next = sut.put("/w/a", "next").await;
    assert_eq!(healthy.texts_until(next).await, [format!("{next} Put /w/a=next")]);
    let state = sut.range(KeyRange::prefix("/w/"), ReadAt::Latest, None).await;
    let later = sut.put("/w/a", "later").await;
    let mut again = sut.watch(KeyRange::prefix("/w/"), state.revision).await;
    assert_eq!(
        again.texts_until(later).await,
        [format!("{later} Put /w/a=later")],
        "reading anew and going on works"
    );
}
