//! What a ReplicaSet needs, and what it says of itself; pure.

use crate::shared::{is_deleting, pods};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use orch_core::selector::LabelSelector;
use std::{sync::Arc, time::Duration};

/// A ReplicaSet and its pods.
pub(super) struct Observed {
    pub(super) set: Arc<ReplicaSet>,
    /// Its pods that neither ended nor are being deleted.
    pub(super) active: Vec<Arc<Pod>>,
    /// Its pods that are being deleted.
    pub(super) terminating: Vec<Arc<Pod>>,
    /// The pods of its owner's ReplicaSets.
    pub(super) related: Vec<Arc<Pod>>,
}

/// How its pods are to change.
#[derive(Debug, PartialEq)]
pub(super) enum Scale {
    Keep,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

impl Observed {
    fn wanted(&self) -> i64 {
        self.set
            .spec
            .as_ref()
            .and_then(|s| s.replicas)
            .map_or(1, i64::from)
            .max(0)
    }
    fn surplus(&self) -> i64 {
        self.active.len() as i64 - self.wanted()
    }
    fn min_ready_s(&self) -> i32 {
        self.set
            .spec
            .as_ref()
            .and_then(|s| s.min_ready_seconds)
            .unwrap_or(0)
    }
}

pub(super) fn scale(observed: &Observed, now: Timestamp, burst: usize) -> Scale {
    let surplus = observed.surplus();
    let count = usize::try_from(surplus.abs()).unwrap_or(usize::MAX).min(burst);
    if is_deleting(&observed.set.metadata) || count == 0 {
        return Scale::Keep;
    }
    if surplus < 0 {
        return Scale::Create(count);
    }
    let mut pods = observed.active.clone();
    pods::sort_for_deletion(&mut pods, &observed.related, now);
    pods.truncate(count);
    Scale::Delete(pods)
}

pub(super) fn status(observed: &Observed, failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let set = &observed.set;
    let old = set.status.clone().unwrap_or_default();
    let template = set
        .spec
        .as_ref()
        .and_then(|s| s.template.as_ref())
        .and_then(|t| t.metadata.as_ref());
    let labels = LabelSelector::from_labels(template.and_then(|m| m.labels.as_ref()).into_iter().flatten());
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        let n = observed.active.iter().filter(|p| holds(p)).count();
        i32::try_from(n).unwrap_or(i32::MAX)
    };
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&|p| labels.matches_opt(p.metadata.labels.as_ref()))),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&|p| pods::is_available(p, observed.min_ready_s(), now))),
        terminating_replicas: i32::try_from(observed.terminating.len()).ok(),
        observed_generation: set.metadata.generation,
        conditions: conditions(observed, old.conditions, failure, now),
    }
}

fn conditions(
    observed: &Observed,
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let failed_before = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some(message) if !failed_before => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(if observed.surplus() < 0 {
                "FailedCreate".into()
            } else {
                "FailedDelete".into()
            }),
            message: Some(message.into()),
            last_transition_time: Some(Time(truncated(now))),
        }),
        Some(_) => {}
    }
    Some(conditions).filter(|c| !c.is_empty())
}

/// Times in objects are whole seconds; finer ones would differ from what is read back.
fn truncated(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// When a ready pod becomes available next.
pub(super) fn next_check(observed: &Observed, now: Timestamp) -> Option<Duration> {
    let waits = observed
        .active
        .iter()
        .filter_map(|p| pods::available_in(p, observed.min_ready_s(), now));
    waits.filter(|d| !d.is_zero()).min()
}
