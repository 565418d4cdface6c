//! A disk that fails while the store is in use: writes say so, reads go on, and it heals.

use crate::support::{in_virtual_time, one_thread, put, sleep, tiny};
use futures::StreamExt;
use orch_core::rng::{Rng, SeededRng};
use orch_store::embedded::Options;
use orch_store::testing::{Fault, FaultDisk};
use orch_store::{Durability, EmbeddedStore, Error, KeyRange, Op, ReadAt, Revision, Store, Txn};
use std::sync::Arc;
use std::time::Duration;

fn open(disk: &FaultDisk, options: Options) -> EmbeddedStore {
    EmbeddedStore::open_on(Arc::new(disk.clone()), options, one_thread(1)).expect("it opens")
}

#[test]
fn writes_fail_clearly_reads_go_on_and_it_heals() {
    for fault in [Fault::Writes, Fault::Syncs, Fault::All, Fault::Room(0)] {
        in_virtual_time(async {
            let disk = FaultDisk::default();
            let store = open(
                &disk,
                Options {
                    grow_bytes: 0,
                    ..Options::default()
                },
            );
            let good = put(&store, "/a", "1").await.expect("it writes");
            let mut watch = store.watch(KeyRange::all(), good).await.expect("a watch");
            let room = if let Fault::Room(_) = fault {
                Fault::Room(disk.used())
            } else {
                fault
            };
            disk.fail_after(0, room);
            for _ in 0..3 {
                let error = put(&store, "/a", "2").await.expect_err("the disk fails");
                let clear = match fault {
                    Fault::Room(_) => matches!(error, Error::DiskFull { .. }),
                    Fault::Writes => matches!(error, Error::Io { action: "write", .. }),
                    _ => matches!(error, Error::Uncertain { .. } | Error::Io { .. }),
                };
                assert!(clear, "{fault:?}: {error:?}");
                let page = store
                    .range(KeyRange::all(), ReadAt::Latest, None)
                    .await
                    .expect("reads go on");
                assert_eq!(
                    (page.revision, page.kvs.len()),
                    (good, 1),
                    "{fault:?}: nothing happened"
                );
                assert_eq!(&page.kvs[0].value[..], b"1");
            }
            disk.heal();
            let next = put(&store, "/a", "3").await.expect("it writes again");
            assert_eq!(next, Revision(good.0 + 1), "{fault:?}: no revision is skipped");
            let mut seen = Vec::new();
            while seen.is_empty() {
                seen = watch
                    .next()
                    .await
                    .expect("the watch goes on")
                    .expect("a batch")
                    .events;
            }
            assert_eq!(
                &seen[0].kv.value[..],
                b"3",
                "{fault:?}: watchers see what happened only"
            );
            let killed = disk.after_kill();
            drop(store);
            for disk in [disk, killed] {
                let store = open(&disk, Options::default());
                let page = store
                    .range(KeyRange::all(), ReadAt::Latest, None)
                    .await
                    .expect("a page");
                assert_eq!(
                    (page.revision, &page.kvs[0].value[..]),
                    (next, &b"3"[..]),
                    "{fault:?}: after a restart"
                );
            }
        });
    }
}

#[test]
fn buffered_writes_survive_a_failed_sync() {
    in_virtual_time(async {
        let disk = FaultDisk::default();
        let store = open(&disk, Options::default());
        let buffered = |n: u32| Txn::of([Op::put(format!("/e/{n}"), "v")]).durability(Durability::Buffered);
        store.txn(buffered(0)).await.expect("the reservation is synced");
        disk.fail_after(0, Fault::Syncs);
        store
            .txn(buffered(1))
            .await
            .expect("a buffered write needs no sync");
        assert!(put(&store, "/a", "1").await.is_err(), "a synced one does");
        disk.heal();
        sleep(Duration::from_secs(2)).await;
        // The failed sync lost what was handed over: only writing it again makes it durable.
        let rng = SeededRng::new(1);
        for _ in 0..20 {
            let mut replay = disk.replay();
            replay.advance_to(disk.calls());
            let cut = replay.power_cut(&rng);
            let store = open(&cut, Options::default());
            assert_eq!(
                store.status().await.expect("a status").keys,
                2,
                "a published write was lost"
            );
        }
    });
}

#[test]
fn random_faults_never_lose_an_acknowledged_write() {
    for seed in 0..40 {
        in_virtual_time(async {
            let disk = FaultDisk::default();
            let store = open(&disk, tiny());
            let rng = SeededRng::new(seed);
            let rng: &dyn Rng = &rng;
            let mut last = std::collections::BTreeMap::new();
            for n in 0..120u32 {
                match rng.below(6) {
                    0 => disk.fail_after(
                        rng.below(4),
                        [Fault::Writes, Fault::Syncs, Fault::All][rng.below(3) as usize],
                    ),
                    1 => disk.fail_after(0, Fault::Room(disk.used() + rng.below(3000))),
                    2 | 3 => disk.heal(),
                    _ => {}
                }
                let key = format!("/k/{}", rng.below(10));
                let value = format!("{n}{}", "x".repeat(rng.below(900) as usize));
                if put(&store, &key, &value).await.is_ok() {
                    last.insert(key, value);
                }
                if rng.below(10) == 0 {
                    sleep(Duration::from_millis(100)).await;
                }
                let page = store
                    .range(KeyRange::all(), ReadAt::Latest, None)
                    .await
                    .expect("reads go on");
                assert_eq!(page.kvs.len(), last.len());
            }
            let text = |page: orch_store::Page| -> std::collections::BTreeMap<String, String> {
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                page.kvs
                    .iter()
                    .map(|kv| (text(&kv.key), text(&kv.value)))
                    .collect()
            };
            let page = store
                .range(KeyRange::all(), ReadAt::Latest, None)
                .await
                .expect("a page");
            assert_eq!(text(page), last);
            disk.heal();
            put(&store, "/end", "1").await.expect("it heals");
            last.insert("/end".into(), "1".into());
            let killed = disk.after_kill();
            drop(store);
            for disk in [disk, killed] {
                let store = open(&disk, tiny());
                let page = store
                    .range(KeyRange::all(), ReadAt::Latest, None)
                    .await
                    .expect("a page");
                assert_eq!(text(page), last, "seed {seed}");
            }
        });
    }
}

#[test]
fn closing_ends_watches_and_refuses_the_rest() {
    in_virtual_time(async {
        let disk = FaultDisk::default();
        let store = open(&disk, Options::default());
        let revision = put(&store, "/a", "1").await.expect("it writes");
        let mut watch = store.watch(KeyRange::all(), revision).await.expect("a watch");
        store.close().await;
        store.close().await;
        assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
        assert!(watch.next().await.is_none());
        assert!(matches!(put(&store, "/a", "2").await, Err(Error::Closed)));
        assert!(matches!(
            store.range(KeyRange::all(), ReadAt::Latest, None).await,
            Err(Error::Closed)
        ));
        assert!(matches!(
            store.watch(KeyRange::all(), revision).await,
            Err(Error::Closed)
        ));
        assert!(matches!(
            store.leases().grant(Duration::from_secs(1)).await,
            Err(Error::Closed)
        ));
    });
}

#[test]
fn old_log_is_given_back() {
    in_virtual_time(async {
        let disk = FaultDisk::default();
        let store = open(&disk, tiny());
        let mut most = 0;
        for n in 0..1500u32 {
            put(&store, &format!("/k/{}", n % 20), &"x".repeat(300))
                .await
                .expect("it writes");
            most = most.max(disk.used());
        }
        let metrics = store.metrics();
        assert!(metrics.checkpoints > 5, "{metrics:?}");
        assert!(
            most < 100_000,
            "the disk never holds much more than the state: {most}"
        );
        assert!(
            metrics.disk_bytes.abs_diff(disk.used()) < 3000,
            "{} of {}",
            metrics.disk_bytes,
            disk.used()
        );
        assert_eq!((metrics.writes, metrics.keys, metrics.revision), (1500, 20, 1501));
        assert!(
            metrics.history_events <= 30 && metrics.syncs >= 1500,
            "{metrics:?}"
        );
    });
}
