//! The scheduling queue: pods that can be tried now, pods that wait out a back-off, and pods that nothing has changed for.
//!
//! ```text
//!        add ──▶ active ──pop──▶ (being scheduled) ──bound──▶ gone
//!                  ▲                   │ failed
//!   back-off over  │                   ▼
//!               backoff ◀──event── unschedulable
//! ```

use crate::{cache::PodInfo, framework::Profile};
use orch_core::clock::Monotonic;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// First back-off after a failed try; doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// Longest back-off.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// After this long an unschedulable pod is tried again even if nothing is known to have changed.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// A pod in the queue.
#[derive(Debug, Clone)]
pub struct QueuedPod {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// How often it was tried.
    pub attempts: u32,
    arrival: u64,
}

#[derive(Debug)]
enum Place {
    Active,
    Backoff {
        until: Monotonic,
    },
    Unschedulable {
        since: Monotonic,
    },
    /// Popped and not yet reported on; `moved` if an event came meanwhile that may help it.
    InFlight {
        moved: bool,
    },
}

#[derive(Debug)]
struct Entry {
    queued: QueuedPod,
    place: Place,
}

/// The queue of all pods without a node. Pure: the caller brings the time.
#[derive(Debug, Default)]
pub struct SchedulingQueue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<String>,
    arrivals: u64,
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_INITIAL
        .saturating_mul(1 << attempts.saturating_sub(1).min(8))
        .min(BACKOFF_MAX)
}

impl SchedulingQueue {
    /// Adds a pod or takes its new state. A pod that is new or has changed is tried at once, unless it is gated.
    pub fn add(&mut self, pod: Arc<PodInfo>, gated: bool, now: Monotonic) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.queued.pod = pod;
            if gated {
                self.active.remove(&uid);
                entry.place = Place::Unschedulable { since: now };
                return;
            }
            match entry.place {
                Place::InFlight { ref mut moved } => *moved = true,
                Place::Active | Place::Backoff { .. } => {}
                Place::Unschedulable { .. } => {
                    entry.place = Place::Active;
                    self.active.insert(uid);
                }
            }
            return;
        }
        self.arrivals += 1;
        let queued = QueuedPod {
            pod,
            attempts: 0,
            arrival: self.arrivals,
        };
        let place = if gated {
            Place::Unschedulable { since: now }
        } else {
            Place::Active
        };
        if !gated {
            self.active.insert(uid.clone());
        }
        self.entries.insert(uid, Entry { queued, place });
    }

    /// Forgets a pod: it was bound or deleted.
    pub fn remove(&mut self, uid: &str) {
        self.active.remove(uid);
        self.entries.remove(uid);
    }

    /// Takes the next pod to try, in the profile's order. Report on it with [`SchedulingQueue::failed`] or
    /// [`SchedulingQueue::remove`].
    pub fn pop(&mut self, profile: &Profile, now: Monotonic) -> Option<QueuedPod> {
        self.wake(now);
        let compare = |a: &&String, b: &&String| -> Ordering {
            match (self.entries.get(*a), self.entries.get(*b)) {
                (Some(a), Some(b)) => {
                    let key = |e: &'_ Entry| e.queued.arrival;
                    profile
                        .queue_sort
                        .compare((&a.queued.pod, key(a)), (&b.queued.pod, key(b)))
                }
                _ => Ordering::Equal,
            }
        };
        let uid = self.active.iter().min_by(compare)?.clone();
        self.active.remove(&uid);
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight { moved: false };
        entry.queued.attempts += 1;
        Some(entry.queued.clone())
    }

    /// Reports that a popped pod was not scheduled. `retry` is for errors that time may heal; without it the pod waits
    /// for an event.
    pub fn failed(&mut self, uid: &str, retry: bool, now: Monotonic) {
        if let Some(entry) = self.entries.get_mut(uid)
            && let Place::InFlight { moved } = entry.place
        {
            entry.place = if moved || retry {
                Place::Backoff {
                    until: now + backoff(entry.queued.attempts),
                }
            } else {
                Place::Unschedulable { since: now }
            };
        }
    }

    /// Something happened that may make room: unschedulable pods for which `may_help` holds are tried again after
    /// their back-off.
    pub fn move_on_event(&mut self, now: Monotonic, may_help: impl Fn(&PodInfo) -> bool) {
        for (uid, entry) in &mut self.entries {
            match &mut entry.place {
                Place::Unschedulable { since } if may_help(&entry.queued.pod) => {
                    let until = *since + backoff(entry.queued.attempts);
                    if until <= now {
                        entry.place = Place::Active;
                        self.active.insert(uid.clone());
                    } else {
                        entry.place = Place::Backoff { until };
                    }
                }
                Place::InFlight { moved } => *moved = true,
                _ => {}
            }
        }
    }

    /// When [`SchedulingQueue::pop`] may next give more than it gives now.
    #[must_use]
    pub fn next_wake(&self) -> Option<Monotonic> {
        self.entries
            .values()
            .filter_map(|entry| match entry.place {
                Place::Backoff { until } => Some(until),
                Place::Unschedulable { since } => Some(since + UNSCHEDULABLE_MAX),
                Place::Active | Place::InFlight { .. } => None,
            })
            .min()
    }

    /// When the next back-off ends.
    #[must_use]
    pub fn next_backoff(&self) -> Option<Monotonic> {
        let until = |entry: &Entry| match entry.place {
            Place::Backoff { until } => Some(until),
            _ => None,
        };
        self.entries.values().filter_map(until).min()
    }

    /// How many pods could be tried now.
    #[must_use]
    pub fn active_len(&self) -> usize {
        self.active.len()
    }

    /// How many pods have no node.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every pod has a node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn wake(&mut self, now: Monotonic) {
        for (uid, entry) in &mut self.entries {
            let due = match entry.place {
                Place::Backoff { until } => until <= now,
                Place::Unschedulable { since } => since + UNSCHEDULABLE_MAX <= now,
                Place::Active | Place::InFlight { .. } => false,
            };
            if due {
                entry.place = Place::Active;
                self.active.insert(uid.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_core::testing;

    fn pod(uid: &str, priority: i32) -> Arc<PodInfo> {
        let mut pod = testing::builders::pod("default", uid).build();
        pod.metadata.uid = Some(uid.into());
        pod.spec.get_or_insert_default().priority = Some(priority);
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn priority_then_arrival() {
        let (mut queue, profile) = (SchedulingQueue::default(), Profile::empty("s"));
        for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.add(pod(uid, priority), false, at(0));
        }
        let order: Vec<String> = std::iter::from_fn(|| queue.pop(&profile, at(0)))
            .map(|q| q.pod.uid.clone())
            .collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[test]
    fn a_failed_pod_waits_for_an_event_and_its_back_off() {
        let (mut queue, profile) = (SchedulingQueue::default(), Profile::empty("s"));
        queue.add(pod("a", 0), false, at(0));
        queue.pop(&profile, at(0)).unwrap();
        queue.failed("a", false, at(0));
        assert!(queue.pop(&profile, at(100)).is_none(), "nothing happened");
        queue.move_on_event(at(100), |_| true);
        assert_eq!(queue.pop(&profile, at(100)).unwrap().attempts, 2);
        // An event while it is being tried counts, after the back-off.
        queue.move_on_event(at(100), |_| true);
        queue.failed("a", false, at(100));
        assert!(queue.pop(&profile, at(101)).is_none());
        assert_eq!(queue.next_wake(), Some(at(102)));
        assert!(queue.pop(&profile, at(102)).is_some());
        queue.failed("a", false, at(102));
        assert!(
            queue.pop(&profile, at(402)).is_some(),
            "tried again after five minutes whatever happens"
        );
    }

    #[test]
    fn gated_pods_stay_out_until_their_gates_are_gone() {
        let (mut queue, profile) = (SchedulingQueue::default(), Profile::empty("s"));
        queue.add(pod("a", 0), true, at(0));
        assert!(queue.pop(&profile, at(0)).is_none());
        queue.add(pod("a", 0), false, at(1));
        assert!(queue.pop(&profile, at(1)).is_some());
    }
}
