//! Power cuts and kills at every call that changes the disk, under a load that uses everything.
//!
//! The load runs once on a disk that keeps a trace; then, for each point of the trace, disks are made as a crash there
//! could have left them, and opened. `ORCH_CRASH_POINTS` sets how many crashes a run tries.

use crate::support::{in_virtual_time, one_thread, sleep, tiny};
use futures::StreamExt;
use futures::future::join_all;
use orch_core::rng::{Rng, SeededRng};
use orch_store::testing::{Fault, FaultDisk};
use orch_store::{
    Durability, EmbeddedStore, Error, EventKind, KeyRange, KeyValue, LeaseId, Op, ReadAt, Revision, Store,
    Txn, Watch, WatchEvent,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

type State = BTreeMap<Vec<u8>, Arc<KeyValue>>;

/// What the load did and was told, with the number of disk calls before each answer.
#[derive(Default)]
struct Truth {
    events: Vec<Arc<WatchEvent>>,
    /// The revision and whether it was answered as synced.
    answers: Vec<(usize, Revision, Durability)>,
    floors: Vec<(usize, Revision)>,
    granted: Vec<(usize, LeaseId)>,
    revoked: BTreeMap<LeaseId, (usize, usize)>,
    start: Revision,
}

/// One of the load's groups of requests, made at the same time.
enum Act {
    Txns(Vec<Txn>),
    Compact(u64),
    Grant,
    Revoke(usize),
    Sleep,
}

fn act(rng: &dyn Rng, leases: &[LeaseId]) -> Act {
    match rng.below(20) {
        0 => Act::Compact(rng.below(12)),
        1 | 2 => Act::Grant,
        3 if !leases.is_empty() => Act::Revoke(rng.below(leases.len() as u64) as usize),
        4 => Act::Sleep,
        _ => Act::Txns((0..=rng.below(4)).map(|_| txn(rng, leases)).collect()),
    }
}

fn txn(rng: &dyn Rng, leases: &[LeaseId]) -> Txn {
    let buffered = rng.below(5) == 0;
    let first = rng.below(12);
    let ops: Vec<Op> = (0..=rng.below(3))
        .map(|n| {
            let key = format!("/k/{}", (first + n) % 12);
            if rng.below(4) == 0 {
                return Op::delete(key);
            }
            let mut value = vec![0; rng.below(1500) as usize];
            rng.fill(&mut value);
            let lease = (rng.below(4) == 0 && !leases.is_empty())
                .then(|| leases[rng.below(leases.len() as u64) as usize]);
            Op::Put {
                key: key.into(),
                value: value.into(),
                lease,
            }
        })
        .collect();
    Txn::of(ops).durability(if buffered {
        Durability::Buffered
    } else {
        Durability::Synced
    })
}

async fn collect(watch: &mut Watch, upto: Revision, events: &mut Vec<Arc<WatchEvent>>) {
    let mut at = Revision(0);
    while at < upto {
        watch.progress().request();
        let batch = watch
            .next()
            .await
            .expect("the watch goes on")
            .expect("the watcher keeps up");
        at = batch.revision;
        events.extend(batch.events);
    }
}

async fn load(disk: &FaultDisk, seed: u64, acts: usize) -> Truth {
    let rng = SeededRng::new(seed);
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), tiny(), one_thread(seed)).expect("it opens");
    let start = store.status().await.expect("a status").revision;
    let mut watch = store.watch(KeyRange::all(), start).await.expect("a watch");
    let mut truth = Truth {
        start,
        ..Truth::default()
    };
    let mut leases: Vec<LeaseId> = Vec::new();
    for _ in 0..acts {
        match act(&rng, &leases) {
            Act::Txns(txns) => {
                let work = txns.into_iter().map(|txn| {
                    let (store, durability) = (&store, txn.durability);
                    async move {
                        let outcome = store.txn(txn).await.expect("an outcome");
                        (disk.calls(), outcome.revision, durability)
                    }
                });
                truth.answers.extend(join_all(work).await);
            }
            Act::Compact(back) => {
                let now = store.status().await.expect("a status").revision;
                let floor = Revision(now.0.saturating_sub(back));
                store.compact(floor).await.expect("it compacts");
                truth.floors.push((disk.calls(), floor));
            }
            Act::Grant => {
                let id = store
                    .leases()
                    .grant(Duration::from_secs(1_000_000))
                    .await
                    .expect("a lease");
                truth.granted.push((disk.calls(), id));
                leases.push(id);
            }
            Act::Revoke(n) => {
                let (id, before) = (leases.remove(n), disk.calls());
                store.leases().revoke(id).await.expect("it is revoked");
                truth.revoked.insert(id, (before, disk.calls()));
            }
            Act::Sleep => sleep(Duration::from_millis(200)).await,
        }
        let now = store.status().await.expect("a status").revision;
        collect(&mut watch, now, &mut truth.events).await;
    }
    store.close().await;
    assert!(
        store.metrics().checkpoints > 2 || acts < 100,
        "the load sees checkpoints"
    );
    truth
}

impl Truth {
    fn states(&self) -> BTreeMap<Revision, State> {
        let mut state = State::new();
        let mut states = BTreeMap::from([(self.start, State::new())]);
        for event in &self.events {
            match event.kind {
                EventKind::Put => state.insert(event.kv.key.to_vec(), Arc::clone(&event.kv)),
                EventKind::Delete => state.remove(&event.kv.key[..]),
            };
            states.insert(event.revision(), state.clone());
        }
        states
    }

    /// The last revision that must have survived a crash after `calls`.
    fn must(&self, calls: usize, killed: bool) -> Revision {
        let counts = |durability| killed || durability == Durability::Synced;
        let answered = self
            .answers
            .iter()
            .filter(|(at, _, d)| *at <= calls && counts(*d))
            .map(|(_, r, _)| *r);
        answered.max().unwrap_or(self.start)
    }

    fn floor(&self, calls: usize) -> Revision {
        self.floors
            .iter()
            .filter(|(at, _)| *at <= calls)
            .map(|(_, r)| *r)
            .max()
            .unwrap_or_default()
    }
}

async fn check(
    disk: FaultDisk,
    truth: &Truth,
    states: &BTreeMap<Revision, State>,
    calls: usize,
    killed: bool,
    n: u64,
) {
    let open = |seed| EmbeddedStore::open_on(Arc::new(disk.clone()), tiny(), one_thread(seed));
    let store = open(n)
        .unwrap_or_else(|error| panic!("after {calls} calls (killed: {killed}) it does not open: {error}"));
    let status = store.status().await.expect("a status");
    let page = store
        .range(KeyRange::all(), ReadAt::Latest, None)
        .await
        .expect("a page");
    let found: State = page
        .kvs
        .iter()
        .map(|kv| (kv.key.to_vec(), Arc::clone(kv)))
        .collect();
    let must = truth.must(calls, killed);
    let at = format!(
        "after {calls} calls (killed: {killed}), at {} of at least {must}",
        status.revision
    );
    assert!(status.revision >= must, "an acknowledged write is lost {at}");
    let seen = truth.must(calls, true);
    assert!(
        status.revision >= seen,
        "revision {seen}, which was seen, would be given again {at}"
    );
    match states.get(&status.revision) {
        Some(state) if *state == found => {}
        // After a possible loss of buffered transactions the store goes on at a later revision.
        _ => {
            assert!(!killed, "a killed process loses nothing {at}");
            assert_eq!(
                status.compacted, status.revision,
                "a jump compacts what was before it {at}"
            );
            assert!(
                states.range(must..).any(|(_, state)| *state == found),
                "no state that ever was {at}"
            );
        }
    }
    assert!(
        status.compacted >= truth.floor(calls),
        "a compaction is undone {at}"
    );
    let mut events = Vec::new();
    if status.compacted < status.revision {
        let mut watch = store
            .watch(KeyRange::all(), status.compacted)
            .await
            .expect("a watch");
        collect(&mut watch, status.revision, &mut events).await;
    }
    let between = |e: &&Arc<WatchEvent>| e.revision() > status.compacted && e.revision() <= status.revision;
    let expected: Vec<_> = truth.events.iter().filter(between).cloned().collect();
    assert_eq!(events, expected, "history differs {at}");
    let mut lease_keys = BTreeSet::new();
    for (when, id) in &truth.granted {
        let there = store.leases().keep_alive(*id).await.is_ok();
        let revoked = truth.revoked.get(id);
        if *when <= calls && revoked.is_none_or(|(from, _)| calls < *from) {
            assert!(there, "lease {id} is lost {at}");
        }
        if revoked.is_some_and(|(_, done)| *done <= calls) {
            assert!(!there, "lease {id} is back {at}");
        }
        if there {
            lease_keys.insert(*id);
        }
    }
    assert!(
        found
            .values()
            .all(|kv| kv.lease.is_none_or(|id| lease_keys.contains(&id))),
        "a key without its lease {at}"
    );
    // It goes on from there, and what it does now survives too.
    let next = store
        .txn(Txn::of([Op::put("/after", "1")]))
        .await
        .expect("it writes")
        .revision;
    assert_eq!(next, Revision(status.revision.0 + 1), "{at}");
    if n.is_multiple_of(4) {
        drop(store);
        let store = open(n + 1).expect("it opens again");
        assert_eq!(store.status().await.expect("a status").revision, next, "{at}");
        assert!(matches!(
            store.watch(KeyRange::all(), Revision(next.0 + 1)).await,
            Err(Error::FutureRevision { .. })
        ));
    }
}

/// A crash while recovering from a crash leaves what a crash leaves.
async fn check_again(
    disk: &FaultDisk,
    truth: &Truth,
    states: &BTreeMap<Revision, State>,
    calls: usize,
    rng: &dyn Rng,
) {
    let first = disk.after_kill();
    let base = first.replay_from_here();
    drop(EmbeddedStore::open_on(Arc::new(first.clone()), tiny(), one_thread(1)).expect("it opens"));
    let mut replay = base.with_trace_of(&first);
    let at = rng.below(first.calls() as u64 + 1) as usize;
    replay.advance_to(at);
    check(replay.power_cut(rng), truth, states, calls, false, 1).await;
}

fn crashes() -> usize {
    std::env::var("ORCH_CRASH_POINTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3000)
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let wanted = crashes();
    let mut done = 0;
    let mut seed = 1;
    while done < wanted {
        let disk = FaultDisk::default();
        let truth = in_virtual_time(load(&disk, seed, 150));
        let states = truth.states();
        let rng = SeededRng::new(seed);
        let mut replay = disk.replay();
        // A long run goes through loads with more tries at each point; a short one takes every few points.
        let tries = (wanted / 20_000).clamp(1, 4);
        let step = (disk.calls() * tries / wanted.max(1)).max(1);
        for calls in (0..=disk.calls()).step_by(step) {
            replay.advance_to(calls);
            in_virtual_time(async {
                check(replay.process_kill(), &truth, &states, calls, true, done as u64).await;
                for _ in 0..tries {
                    let cut = replay.power_cut(&rng);
                    if done % 5 == 0 {
                        check_again(&cut, &truth, &states, calls, &rng).await;
                        done += 1;
                    }
                    check(cut, &truth, &states, calls, false, done as u64).await;
                    done += 1;
                }
            });
            done += 1;
            if done >= wanted {
                break;
            }
        }
        seed += 1;
    }
}

/// The test tested: a disk that does not sync what it says it does is caught.
#[test]
fn a_lying_disk_is_caught() {
    for lie in [Fault::ForgetsSyncs, Fault::ForgetsNameSyncs] {
        let disk = FaultDisk::default();
        disk.fail_after(0, lie);
        let truth = in_virtual_time(load(&disk, 1, 150));
        let states = truth.states();
        let rng = SeededRng::new(1);
        let mut replay = disk.replay();
        let caught = (0..disk.calls()).step_by(3).any(|calls| {
            replay.advance_to(calls);
            let cut = replay.power_cut(&rng);
            let checked = || in_virtual_time(check(cut, &truth, &states, calls, false, 1));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(checked)).is_err()
        });
        assert!(caught, "{lie:?} was not noticed");
    }
}
