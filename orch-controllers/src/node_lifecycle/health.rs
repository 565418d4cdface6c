//! Whether a node is alive, and how a zone is; pure.
//!
//! Heartbeats are noticed, not compared: a node is alive if its lease or its Ready condition *changed* lately by this
//! controller's clock, so that clocks of nodes need not be right.

use super::taints::condition;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, NodeStatus},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use orch_core::clock::Monotonic;
use std::time::Duration;

/// Conditions that nobody vouches for when the node is silent.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What was last heard of a node, and when.
#[derive(Debug, Clone)]
pub(super) struct Health {
    heartbeat: Option<Time>,
    renewed: Option<MicroTime>,
    pub(super) heard: Monotonic,
}

/// The moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    pub(super) monotonic: Monotonic,
}

fn heartbeat(node: &Node) -> Option<Time> {
    condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone())
}

fn renewal(lease: Option<&Lease>) -> Option<MicroTime> {
    lease?.spec.as_ref()?.renew_time.clone()
}

impl Health {
    /// A node seen for the first time. One that never reported has been silent since its creation.
    pub(super) fn first(node: &Node, lease: Option<&Lease>, now: Moment) -> Self {
        let mut heard = now.monotonic;
        if condition(node, "Ready").is_none()
            && let Some(created) = &node.metadata.creation_timestamp
        {
            let age = Duration::try_from(now.wall.duration_since(created.0)).unwrap_or_default();
            heard = Monotonic(heard.0.saturating_sub(age));
        }
        Self {
            heartbeat: heartbeat(node),
            renewed: renewal(lease),
            heard,
        }
    }

    /// Takes note of what the node and its lease say now.
    pub(super) fn observe(&mut self, node: &Node, lease: Option<&Lease>, now: Moment) {
        let (heartbeat, renewed) = (heartbeat(node), renewal(lease));
        if heartbeat != self.heartbeat || (renewed.is_some() && renewed != self.renewed) {
            self.heard = now.monotonic;
        }
        (self.heartbeat, self.renewed) = (heartbeat, renewed.or_else(|| self.renewed.take()));
    }

    pub(super) fn is_silent(&self, node: &Node, grace: Duration, startup: Duration, now: Moment) -> bool {
        let grace = if condition(node, "Ready").is_none() {
            startup
        } else {
            grace
        };
        now.monotonic.since(self.heard) > grace
    }
}

/// The status of a silent node; `None` if it says already that nothing is known.
pub(super) fn unknown_status(node: &Node, now: Timestamp) -> Option<NodeStatus> {
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let time = Timestamp::from_second(now.as_second()).ok().map(Time);
    let mut changed = false;
    for kind in VOUCHED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                c.status = "Unknown".into();
                c.reason = Some("NodeStatusUnknown".into());
                c.message = Some("Kubelet stopped posting node status.".into());
                c.last_transition_time.clone_from(&time);
                changed = true;
            }
            None => {
                conditions.push(NodeCondition {
                    type_: kind.into(),
                    status: "Unknown".into(),
                    reason: Some("NodeStatusNeverUpdated".into()),
                    message: Some("Kubelet never posted node status.".into()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: time.clone(),
                });
                changed = true;
            }
        }
    }
    changed.then_some(status)
}

/// How a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Normal,
    /// More than half of it is down.
    Partial,
    /// All of it is down.
    Full,
}

impl Zone {
    pub(super) fn of(ready: usize, not_ready: usize) -> Self {
        if ready == 0 && not_ready > 0 {
            Self::Full
        } else if not_ready > 2 && not_ready * 100 >= (ready + not_ready) * 55 {
            Self::Partial
        } else {
            Self::Normal
        }
    }

    /// Time between two nodes' NoExecute taints in a zone of `size`; `None` for none at all.
    pub(super) fn pause(self, size: usize, rate_milli: u32) -> Option<Duration> {
        let milli = match self {
            Self::Normal | Self::Full => rate_milli,
            // A large zone goes on at a tenth of the rate, a small one waits.
            Self::Partial if size > 50 => rate_milli / 10,
            Self::Partial => 0,
        };
        (milli > 0).then(|| Duration::from_secs(1000) / milli)
    }
}
