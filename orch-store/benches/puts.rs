//! Durable puts: rate, CPU and latency of the embedded store, beside what the disk can sync and beside redb under the
//! same kind of group commit. Run with `cargo bench -p orch-store --bench puts [-- SECONDS [DIR]]`.
//!
//! CPU is the whole process's user and system time, so it includes the executor and the writers themselves.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use orch_core::Env;
use orch_store::{EmbeddedStore, KeyRange, Op, ReadAt, Revision, Store, Txn};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const VALUE: usize = 1024;

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the process's numbers");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

struct Run {
    done: u64,
    took: Duration,
    cpu: Duration,
    latencies_us: Vec<u64>,
}

impl Run {
    fn print(mut self, name: &str) {
        self.latencies_us.sort_unstable();
        let at = |q: f64| {
            let last = self.latencies_us.len().saturating_sub(1);
            self.latencies_us
                .get((last as f64 * q) as usize)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{name:<28} {:>9.0}/s   CPU {:>6.1} µs each   p50 {:>6} µs   p99 {:>6} µs   max {:>7} µs",
            self.done as f64 / self.took.as_secs_f64(),
            self.cpu.as_secs_f64() * 1e6 / self.done.max(1) as f64,
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
}

/// Lets `writers` tasks repeat `work` for a while.
async fn drive<F: Future<Output = ()> + Send + 'static>(
    writers: u64,
    seconds: u64,
    work: impl Fn(u64, u64) -> F + Clone + Send + 'static,
) -> Run {
    let stop = Arc::new(AtomicBool::new(false));
    let (start, before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (stop, work) = (Arc::clone(&stop), work.clone());
            tokio::spawn(run_one(writer, stop, work))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await.expect("a writer ends"));
    }
    Run {
        done: latencies_us.len() as u64,
        took: start.elapsed(),
        cpu: cpu() - before,
        latencies_us,
    }
}

async fn run_one<F: Future<Output = ()>>(
    writer: u64,
    stop: Arc<AtomicBool>,
    work: impl Fn(u64, u64) -> F,
) -> Vec<u64> {
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        work(writer, latencies.len() as u64).await;
        latencies.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    latencies
}

fn value() -> Vec<u8> {
    (0..VALUE).map(|n| (n * 7 % 251) as u8).collect()
}

async fn embedded(dir: &Path, writers: u64, seconds: u64) {
    let dir = dir.join(format!("embedded-{writers}"));
    let _absent = std::fs::remove_dir_all(&dir);
    let store = Arc::new(EmbeddedStore::open(&dir, Env::system()).await.expect("it opens"));
    let value = bytes::Bytes::from(value());
    let on = Arc::clone(&store);
    let run = drive(writers, seconds, move |writer, n| {
        let (store, value) = (Arc::clone(&on), value.clone());
        async move {
            let key = format!("/registry/configmaps/default/{writer}-{n}");
            assert!(
                store
                    .txn(Txn::create(key, value))
                    .await
                    .expect("it writes")
                    .succeeded
            );
        }
    })
    .await;
    run.print(&format!("embedded, {writers} writers"));
    let metrics = store.metrics();
    println!(
        "{:>28} {:.1} per sync, mean sync {} µs, {} MB on disk",
        "",
        metrics.writes as f64 / metrics.syncs.max(1) as f64,
        metrics.sync_us / metrics.syncs.max(1),
        metrics.disk_bytes >> 20,
    );
    store.close().await;
    drop(store);
    let start = Instant::now();
    let store = EmbeddedStore::open(&dir, Env::system()).await.expect("it opens");
    let keys = store.status().await.expect("a status").keys;
    println!(
        "{:>28} opened again with {keys} keys in {} ms",
        "",
        start.elapsed().as_millis()
    );
    store.close().await;
    let _gone = std::fs::remove_dir_all(&dir);
}

/// Reads, and one write seen by many watchers.
async fn reads_and_watches(dir: &Path) {
    let dir = dir.join("reads");
    let _absent = std::fs::remove_dir_all(&dir);
    let store = Arc::new(EmbeddedStore::open(&dir, Env::system()).await.expect("it opens"));
    let value = bytes::Bytes::from(value());
    for n in 0..100 {
        let ops: Vec<Op> = (0..100)
            .map(|m| Op::put(format!("/k/{n:02}{m:02}"), value.clone()))
            .collect();
        store.txn(Txn::of(ops)).await.expect("it writes");
    }
    let start = Instant::now();
    for n in 0..200_000u32 {
        let key = format!("/k/{:04}", n * 7 % 10_000);
        assert_eq!(
            store
                .range(KeyRange::key(key), ReadAt::Latest, None)
                .await
                .expect("a page")
                .count,
            1
        );
    }
    println!(
        "{:<28} {:.2} µs each",
        "point read of 10,000 keys",
        start.elapsed().as_secs_f64() * 1e6 / 200_000.0
    );
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(
            store
                .range(KeyRange::prefix("/k/"), ReadAt::Latest, None)
                .await
                .expect("a page")
                .kvs
                .len(),
            10_000
        );
    }
    println!(
        "{:<28} {:.0} µs each",
        "range of 10,000 keys",
        start.elapsed().as_secs_f64() * 1e6 / 100.0
    );
    let after = store.status().await.expect("a status").revision;
    let (seen, epoch) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let last = Arc::new(AtomicU64::new(0));
    for _ in 0..1000 {
        let mut watch = store
            .watch(KeyRange::prefix("/k/"), after)
            .await
            .expect("a watch");
        let (seen, last) = (Arc::clone(&seen), Arc::clone(&last));
        tokio::spawn(async move {
            while let Some(Ok(batch)) = futures::StreamExt::next(&mut watch).await {
                seen.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
                let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
                last.fetch_max(now, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut took = Vec::new();
    for n in 1..=200u64 {
        store
            .txn(Txn::of([Op::put("/k/0000", value.clone())]))
            .await
            .expect("it writes");
        let answered = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        while seen.load(Ordering::Relaxed) < n * 1000 {
            tokio::task::yield_now().await;
        }
        took.push(last.load(Ordering::Relaxed).saturating_sub(answered) / 1000);
    }
    took.sort_unstable();
    println!(
        "{:<28} p50 {} µs, p99 {} µs after the answer",
        "1,000 watchers see a write", took[100], took[197]
    );
    assert!(store.compact(Revision(1)).await.is_ok());
    store.close().await;
    let _gone = std::fs::remove_dir_all(&dir);
}

/// redb with everything that waits in one transaction: the same group commit over a library.
async fn redb(dir: &Path, writers: u64, seconds: u64) {
    const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("kv");
    type Put = (String, tokio::sync::oneshot::Sender<()>);
    let path = dir.join(format!("redb-{writers}"));
    let _absent = std::fs::remove_file(&path);
    let db = redb::Database::create(&path).expect("a database");
    let (queue, puts) = std::sync::mpsc::channel::<Put>();
    let worker = std::thread::spawn(move || {
        let value = value();
        while let Ok(first) = puts.recv() {
            let mut group = vec![first];
            group.extend(puts.try_iter().take(1023));
            let write = db.begin_write().expect("a transaction");
            {
                let mut table = write.open_table(TABLE).expect("a table");
                for (key, _) in &group {
                    table.insert(key.as_bytes(), value.as_slice()).expect("an insert");
                }
            }
            write.commit().expect("a commit");
            for (_, reply) in group {
                let _gone = reply.send(());
            }
        }
    });
    let run = drive(writers, seconds, move |writer, n| {
        let queue = queue.clone();
        async move {
            let (reply, done) = tokio::sync::oneshot::channel();
            let key = format!("/registry/configmaps/default/{writer}-{n}");
            queue.send((key, reply)).expect("the worker lives");
            done.await.expect("an answer");
        }
    })
    .await;
    run.print(&format!("redb 4.6, {writers} writers"));
    worker.join().expect("the worker ends");
    let _gone = std::fs::remove_file(&path);
}

/// What the disk itself does: appending and syncing one kilobyte.
fn disk(dir: &Path, seconds: u64) {
    let path = dir.join("disk");
    let file: File = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .expect("a file");
    let data = value();
    let (start, before) = (Instant::now(), cpu());
    let mut latencies_us = Vec::new();
    while start.elapsed() < Duration::from_secs(seconds) {
        let began = Instant::now();
        file.write_all_at(&data, latencies_us.len() as u64 * data.len() as u64)
            .expect("a write");
        file.sync_data().expect("a sync");
        latencies_us.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let done = latencies_us.len() as u64;
    Run {
        done,
        took: start.elapsed(),
        cpu: cpu() - before,
        latencies_us,
    }
    .print("disk: append and fdatasync");
    let _gone = std::fs::remove_file(&path);
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let seconds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let dir = args
        .next()
        .map_or_else(std::env::temp_dir, Into::into)
        .join(format!("orch-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        println!("durable creates of {VALUE} bytes");
        disk(&dir, seconds);
        for writers in [1, 16, 64] {
            embedded(&dir, writers, seconds).await;
            redb(&dir, writers, seconds).await;
        }
        reads_and_watches(&dir).await;
    });
    let _gone = std::fs::remove_dir_all(&dir);
}
