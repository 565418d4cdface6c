//! Reads: which keys, how many, at which revision.

use crate::Error;
use crate::store::{KeyRange, ReadAt, Revision};
use crate::testing::kit::{Sut, text};
use crate::testing::{Bed, Subject};

/// Byte order, lower end in, upper end out.
pub async fn keys_come_in_order_within_the_range(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    for key in ["/b", "/a/2", "/a", "/a/10", "/a/1", "/a0", "/A"] {
        sut.put(key, "").await;
    }
    let table: [(KeyRange, &[&str]); 6] = [
        (
            KeyRange::all(),
            &["/A=", "/a=", "/a/1=", "/a/10=", "/a/2=", "/a0=", "/b="],
        ),
        (KeyRange::prefix("/a/"), &["/a/1=", "/a/10=", "/a/2="]),
        (KeyRange::key("/a"), &["/a="]),
        (KeyRange::between("/a/10", "/b"), &["/a/10=", "/a/2=", "/a0="]),
        (KeyRange::between("/b", "/a"), &[]),
        (KeyRange::prefix("/c"), &[]),
    ];
    for (range, expected) in table {
        let page = sut.range(range.clone(), ReadAt::Latest, None).await;
        assert_eq!(
            page.kvs.iter().map(|kv| text(kv)).collect::<Vec<_>>(),
            expected,
            "{range:?}"
        );
        assert_eq!(
            (page.count, page.more),
            (expected.len() as u64, false),
            "{range:?}"
        );
        let none = sut.range(range.clone(), ReadAt::Latest, Some(0)).await;
        assert_eq!(
            (none.count, none.kvs.len(), none.more),
            (expected.len() as u64, 0, !expected.is_empty())
        );
    }
}

/// Page by page at one revision, while others write.
pub async fn a_limited_read_continues_at_its_revision(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    for n in 0..25 {
        sut.put(&format!("/a/{n:02}"), "old").await;
    }
    let all = KeyRange::prefix("/a/");
    let mut page = sut.range(all.clone(), ReadAt::Latest, Some(10)).await;
    let revision = page.revision;
    let mut found: Vec<String> = page.kvs.iter().map(|kv| text(kv)).collect();
    assert_eq!((found.len(), page.count, page.more), (10, 25, true));
    while page.more {
        sut.delete("/a/20").await;
        sut.put("/a/11", "new").await;
        sut.put("/a/99", "new").await;
        let rest = all.after(&page.kvs.last().expect("a page has keys").key);
        page = sut.range(rest, ReadAt::Exact(revision), Some(10)).await;
        assert_eq!(page.revision, revision, "a read at a revision says so");
        found.extend(page.kvs.iter().map(|kv| text(kv)));
        assert_eq!(page.more, found.len() < 25);
    }
    let expected: Vec<String> = (0..25).map(|n| format!("/a/{n:02}=old")).collect();
    assert_eq!(found, expected);
}

/// Every revision's state stays readable.
pub async fn a_past_revision_reads_as_it_was(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let mut states = vec![(sut.revision().await, sut.state_at(ReadAt::Latest).await)];
    for n in 0..60u32 {
        let key = format!("/{}", n * 7 % 5);
        let revision = if n % 3 == 2 {
            sut.delete(&key).await
        } else {
            sut.put(&key, &n.to_string()).await
        };
        states.push((revision, sut.state_at(ReadAt::Latest).await));
    }
    for (revision, state) in &states {
        assert_eq!(
            &sut.state_at(ReadAt::Exact(*revision)).await,
            state,
            "at {revision}"
        );
    }
    let (last, state) = states.last().expect("there are states");
    assert_eq!(
        &sut.state_at(ReadAt::AtLeast(Revision(2))).await,
        state,
        "a local store answers with the newest"
    );
    assert_eq!(&sut.state_at(ReadAt::AtLeast(*last)).await, state);
}

/// Nothing is answered for what has not happened.
pub async fn a_future_revision_is_refused(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    let current = sut.put("/a", "1").await;
    let asked = Revision(current.0 + 1);
    for at in [ReadAt::Exact(asked), ReadAt::AtLeast(asked)] {
        match sut.try_range(KeyRange::all(), at, None).await {
            Err(Error::FutureRevision { asked: a, current: c }) => assert_eq!((a, c), (asked, current)),
            other => panic!("{at:?} is in the future, not {other:?}"),
        }
    }
}

/// No stale read: what was answered is seen by whoever asks later.
pub async fn an_acknowledged_write_is_read(subject: &dyn Subject, bed: Bed) {
    let sut = Sut::open(subject, bed).await;
    for n in 0..100 {
        let revision = sut.put("/a", &n.to_string()).await;
        let page = sut.range(KeyRange::key("/a"), ReadAt::Latest, None).await;
        assert!(
            page.revision >= revision,
            "a stale read: at {} after {revision} was acknowledged",
            page.revision
        );
        assert_eq!(
            page.kvs.first().map(|kv| text(kv)),
            Some(format!("/a={n}")),
            "a stale read"
        );
        assert!(sut.revision().await >= revision, "a stale revision");
    }
}
