//! Scheduling in virtual time: nodes and pods as data, no API server, one seed, the same log every time.
//!
//! It calls the same [`decide`] and [`SchedulingQueue`] as the real scheduler.

use crate::{
    cache::{PodInfo, Snapshot},
    decide::decide,
    framework::{PluginError, Profile},
    queue::SchedulingQueue,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use orch_core::{clock::Monotonic, rng::SeededRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

/// What happened at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The pod came.
    Arrived {
        /// Namespace and name.
        pod: String,
    },
    /// The pod was placed.
    Bound {
        /// Namespace and name.
        pod: String,
        /// The node.
        node: String,
    },
    /// The pod fits nowhere now.
    Unschedulable {
        /// Namespace and name.
        pod: String,
        /// Upstream's message.
        message: String,
    },
    /// The pod has run its time and left.
    Finished {
        /// Namespace and name.
        pod: String,
    },
}

/// One line of the log: virtual time since the start, and what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Time since the start.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

enum Due {
    Arrive(Arc<PodInfo>, Option<Duration>),
    Leave(String),
}

/// A simulation that is being set up or run.
pub struct Simulation {
    profile: Profile,
    rng: SeededRng,
    snapshot: Snapshot,
    queue: SchedulingQueue,
    due: BTreeMap<(Duration, u64), Due>,
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    sequence: u64,
    lifetimes: BTreeMap<String, Duration>,
    log: Vec<LogEntry>,
}

impl Simulation {
    /// An empty cluster scheduled by `profile`; ties and generated UIDs come from `seed`.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            rng: SeededRng::new(seed),
            snapshot: Snapshot::default(),
            queue: SchedulingQueue::default(),
            due: BTreeMap::new(),
            order: BinaryHeap::new(),
            sequence: 0,
            lifetimes: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// Adds a node, there from the start.
    pub fn add_node(&mut self, node: Node) {
        self.snapshot.set_node(Arc::new(node));
    }

    /// Lets a pod arrive at `at` and leave `lifetime` after it was placed (`None`: never).
    pub fn submit(&mut self, mut pod: Pod, at: Duration, lifetime: Option<Duration>) {
        if pod.metadata.uid.is_none() {
            let rng: &dyn orch_core::rng::Rng = &self.rng;
            pod.metadata.uid = Some(rng.uuid());
        }
        self.plan(at, Due::Arrive(Arc::new(PodInfo::new(Arc::new(pod))), lifetime));
    }

    fn plan(&mut self, at: Duration, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
        self.order.push(Reverse((at, self.sequence)));
    }

    /// Runs until nothing is left to happen, and returns the log.
    ///
    /// # Errors
    /// [`PluginError`] when a plugin fails.
    pub fn run(&mut self) -> Result<&[LogEntry], PluginError> {
        let mut now = Duration::ZERO;
        loop {
            self.schedule_all(now)?;
            let event = self.order.peek().map(|Reverse((at, _))| *at);
            // Trying again for no reason but time cannot help when nothing else is left to happen.
            let wake = self.queue.next_backoff().map(|w| w.0).filter(|w| *w > now);
            let Some(next) = [event, wake].into_iter().flatten().min() else {
                return Ok(&self.log);
            };
            now = now.max(next);
            while let Some(Reverse(key)) = self.order.peek().copied() {
                if key.0 > now {
                    break;
                }
                self.order.pop();
                if let Some(due) = self.due.remove(&key) {
                    self.happen(now, due);
                }
            }
        }
    }

    fn happen(&mut self, now: Duration, due: Due) {
        match due {
            Due::Arrive(pod, lifetime) => {
                self.note(
                    now,
                    Event::Arrived {
                        pod: pod.key.to_string(),
                    },
                );
                if let Some(lifetime) = lifetime {
                    self.lifetimes.insert(pod.uid.clone(), lifetime);
                }
                let gated = self
                    .profile
                    .pre_enqueue
                    .iter()
                    .any(|p| p.pre_enqueue(&pod).is_err());
                self.queue.add(pod, gated, Monotonic(now));
            }
            Due::Leave(uid) => {
                let pod = self
                    .snapshot
                    .nodes()
                    .iter()
                    .find_map(|n| n.pods().find(|p| p.uid == uid))
                    .cloned();
                self.snapshot.remove_pod(&uid);
                if let Some(pod) = pod {
                    self.note(
                        now,
                        Event::Finished {
                            pod: pod.key.to_string(),
                        },
                    );
                }
                self.queue.move_on_event(Monotonic(now), |_| true);
            }
        }
    }

    fn schedule_all(&mut self, now: Duration) -> Result<(), PluginError> {
        while let Some(queued) = self.queue.pop(&self.profile, Monotonic(now)) {
            let pod = queued.pod;
            let decision = decide(&self.snapshot, &pod, &self.profile, &self.rng, false)?;
            match &decision.node {
                Some(node) => {
                    self.snapshot.place_pod(pod.clone(), node);
                    self.queue.remove(&pod.uid);
                    self.note(
                        now,
                        Event::Bound {
                            pod: pod.key.to_string(),
                            node: node.clone(),
                        },
                    );
                    if let Some(lifetime) = self.lifetimes.remove(&pod.uid) {
                        self.plan(now + lifetime, Due::Leave(pod.uid.clone()));
                    }
                }
                None => {
                    self.queue.failed(&pod.uid, false, Monotonic(now));
                    let message = decision.message();
                    self.note(
                        now,
                        Event::Unschedulable {
                            pod: pod.key.to_string(),
                            message,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, at: Duration, event: Event) {
        self.log.push(LogEntry { at, event });
    }

    /// The cluster as it is now.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}
