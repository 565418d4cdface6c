//! `kill -9` of a real process under load, and an auditor that holds every write that was acknowledged to it.

use orch_core::Env;
use orch_store::embedded::{Options, check};
use orch_store::testing::Bed;
use orch_store::{EmbeddedStore, KeyRange, Op, ReadAt, Revision, Store, Txn};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIR: &str = "ORCH_STORE_KILL_DIR";

fn options() -> Options {
    // Rotations and checkpoints all the time.
    Options {
        segment_bytes: 200_000,
        checkpoint_bytes: 400_000,
        ..Options::default()
    }
}

/// Not a test by itself: the process that is killed. It prints `revision key value` once a write is acknowledged.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = Arc::new(
            EmbeddedStore::open_with(dir, options(), Env::system())
                .await
                .expect("it opens"),
        );
        let start = store.status().await.expect("a status").revision;
        let writers = (0..8u32).map(|writer| {
            let store = Arc::clone(&store);
            async move {
                for n in 0.. {
                    let key = format!("/k/{writer}/{}", n % 50);
                    let value = format!("{start}.{n}.{}", "x".repeat(200 + n % 700));
                    let txn = Txn::of([Op::put(key.clone(), value.clone())]);
                    let revision = store.txn(txn).await.expect("it writes").revision;
                    let line = format!("\n=> {revision} {key} {value} <=\n");
                    std::io::stdout()
                        .lock()
                        .write_all(line.as_bytes())
                        .expect("the auditor listens");
                    if n % 500 == 499 && writer == 0 {
                        store
                            .compact(Revision(revision.0 - 100))
                            .await
                            .expect("it compacts");
                    }
                }
            }
        });
        futures::future::join_all(writers).await;
    });
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let bed = Bed::real_time();
    let rounds = std::env::var("ORCH_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4);
    let mut held: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut last = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(DIR, &bed.dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut seen = 0;
        let mut rest = Vec::new();
        let mut line = String::new();
        // Let it work for a while, longer each round, then kill it in the middle of it.
        while seen < 300 + round * 211 && lines.read_line(&mut line).expect("output") > 0 {
            seen += usize::from(hold(&line, &mut held, &mut last));
            line.clear();
        }
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        lines.read_to_end(&mut rest).expect("output");
        for line in String::from_utf8_lossy(&rest).lines() {
            hold(line, &mut held, &mut last);
        }
        assert!(seen > 0, "the child worked");
        audit(&bed, &held, last);
    }
}

/// Notes an acknowledged write. The last line may be cut short.
fn hold(line: &str, held: &mut BTreeMap<String, (u64, String)>, last: &mut u64) -> bool {
    let Some(line) = line
        .trim_end()
        .strip_prefix("=> ")
        .and_then(|l| l.strip_suffix(" <="))
    else {
        return false;
    };
    let mut words = line.split(' ');
    let (Some(Ok(revision)), Some(key), Some(value)) =
        (words.next().map(str::parse), words.next(), words.next())
    else {
        return false;
    };
    *last = (*last).max(revision);
    let newest = held.entry(key.to_owned()).or_insert((0, String::new()));
    if revision > newest.0 {
        *newest = (revision, value.to_owned());
    }
    true
}

fn audit(bed: &Bed, held: &BTreeMap<String, (u64, String)>, last: u64) {
    let report = check(&bed.dir).expect("a check");
    assert!(report.is_ok(), "{report:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = EmbeddedStore::open_with(&bed.dir, options(), Env::system())
            .await
            .expect("it opens");
        let now = store.status().await.expect("a status").revision;
        assert!(now.0 >= last, "the revision went back from {last} to {now}");
        let page = store
            .range(KeyRange::prefix("/k/"), ReadAt::Latest, None)
            .await
            .expect("a page");
        let found: BTreeMap<_, _> = page.kvs.iter().map(|kv| (kv.key.clone(), kv)).collect();
        for (key, (revision, value)) in held {
            let kv = found
                .get(key.as_bytes())
                .unwrap_or_else(|| panic!("{key}, acknowledged at {revision}, is lost"));
            assert!(
                kv.mod_revision.0 >= *revision,
                "{key} went back from {revision} to {}",
                kv.mod_revision
            );
            if kv.mod_revision.0 == *revision {
                assert_eq!(&kv.value[..], value.as_bytes(), "{key} at {revision}");
            }
        }
        store.close().await;
    });
}
