use super::*;
use crate::testing::sim_env;
use proptest::prelude::*;

const S: fn(u64) -> Duration = Duration::from_secs;

#[tokio::test(start_paused = true)]
async fn a_key_is_handed_out_once_and_never_twice_at_a_time() {
    let queue = WorkQueue::new(&sim_env(1));
    for key in ["a", "b", "a"] {
        queue.add(key);
    }
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.next().await, Some("a"));
    queue.add("a");
    assert_eq!(queue.next().await, Some("b"));
    assert!(queue.is_empty(), "a is still in work");
    queue.done(&"a");
    assert_eq!(queue.next().await, Some("a"));
    queue.done(&"a");
    queue.done(&"b");
    assert!(queue.is_idle());
}

#[tokio::test(start_paused = true)]
async fn delays_pass_on_the_clock_and_the_earliest_counts() {
    let env = sim_env(1);
    let queue = WorkQueue::new(&env);
    queue.add_after("late", S(60));
    queue.add_after("soon", S(5));
    queue.add_after("late", S(10));
    queue.add_after("late", S(90));
    let start = env.clock.monotonic();
    assert_eq!(queue.next().await, Some("soon"));
    assert_eq!(env.clock.monotonic().since(start), S(5));
    assert_eq!(queue.next().await, Some("late"));
    assert_eq!(env.clock.monotonic().since(start), S(10));
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn backoff_doubles_until_forgotten() {
    let env = sim_env(1);
    let queue = WorkQueue::new(&env);
    let mut waits = Vec::new();
    for _ in 0..20 {
        let start = env.clock.monotonic();
        queue.add_rate_limited("k");
        queue.next().await;
        queue.done(&"k");
        waits.push(env.clock.monotonic().since(start).as_millis());
    }
    assert_eq!(&waits[..4], &[5, 10, 20, 40]);
    assert_eq!(waits[19], 1_000_000);
    assert_eq!(queue.failures(&"k"), 20);
    queue.forget(&"k");
    assert_eq!(queue.failures(&"k"), 0);
}

#[tokio::test(start_paused = true)]
async fn close_drains_and_releases_every_worker() {
    let queue = WorkQueue::new(&sim_env(1));
    let mut workers = Vec::new();
    for _ in 0..3 {
        let queue = queue.clone();
        #[expect(clippy::disallowed_methods, reason = "a test")]
        workers.push(tokio::spawn(async move {
            let mut taken = 0;
            while let Some(key) = queue.next().await {
                taken += 1;
                queue.done(&key);
            }
            taken
        }));
    }
    tokio::task::yield_now().await;
    for n in 0..10 {
        queue.add(n);
    }
    queue.close();
    queue.add(99);
    let mut total = 0;
    for worker in workers {
        total += worker.await.unwrap();
    }
    assert_eq!(total, 10);
}

proptest! {
    /// Against a naive model: a key is ready if it was added since it was last taken and is not in work.
    #[test]
    fn agrees_with_the_model(steps in proptest::collection::vec((0u8..3, 0u8..4), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let queue = WorkQueue::new(&sim_env(1));
            let (mut dirty, mut working) = (BTreeSet::new(), BTreeSet::new());
            for (action, key) in steps {
                match action {
                    0 => { queue.add(key); dirty.insert(key); }
                    1 => {
                        let ready: BTreeSet<u8> = dirty.difference(&working).copied().collect();
                        assert_eq!(queue.len(), ready.len());
                        if !ready.is_empty() {
                            let taken = queue.next().await.unwrap();
                            assert!(ready.contains(&taken));
                            dirty.remove(&taken);
                            working.insert(taken);
                        }
                    }
                    _ => if working.remove(&key) { queue.done(&key); }
                }
            }
        });
    }
}
