//! What a Deployment says of itself; pure.

use super::{
    plan::{Pass, Plan},
    sets::{actual, asked, available, ready, total},
};
use crate::shared::text;
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::time::Duration;

pub(super) fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
    status.conditions = status.conditions.take().filter(|c| !c.is_empty());
}

/// Sets a condition; one of the same status and reason stays as it is, one of the same status keeps its transition.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = condition(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

/// Times in objects are whole seconds; finer ones would differ from what is read back.
fn time(now: Timestamp) -> Option<Time> {
    Timestamp::from_second(now.as_second()).ok().map(Time)
}

fn made(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: time(now),
        last_transition_time: time(now),
    }
}

fn failure(from: &ReplicaSetCondition) -> DeploymentCondition {
    DeploymentCondition {
        type_: from.type_.clone(),
        status: from.status.clone(),
        reason: from.reason.clone(),
        message: from.message.clone(),
        last_update_time: from.last_transition_time.clone(),
        last_transition_time: from.last_transition_time.clone(),
    }
}

fn n(count: Option<i32>) -> i32 {
    count.unwrap_or(0)
}

impl Pass<'_> {
    pub(super) fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        set(&mut self.status, made(kind, status, reason, message, self.now));
    }

    /// Pausing stops the clock of the progress deadline, resuming starts it anew.
    pub(super) fn paused_condition(&mut self) {
        if !self.has_deadline() {
            return;
        }
        let reason = condition(&self.status, "Progressing")
            .and_then(|c| c.reason.clone())
            .unwrap_or_default();
        let paused = self.spec.paused == Some(true);
        if reason == "ProgressDeadlineExceeded" {
            return;
        }
        if paused && reason != "DeploymentPaused" {
            self.set_condition(
                "Progressing",
                "Unknown",
                "DeploymentPaused",
                "Deployment is paused".into(),
            );
        } else if !paused && reason == "DeploymentPaused" {
            self.set_condition(
                "Progressing",
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed".into(),
            );
        }
    }

    fn counts(&self) -> DeploymentStatus {
        // A ReplicaSet that is only planned has no pods.
        let new = self.new.as_ref().filter(|s| s.metadata.uid.is_some());
        let all = || self.old.iter().chain(new);
        let nonzero = |count: i32| Some(count).filter(|c| *c != 0);
        let available_replicas = total(all(), available);
        let wanted = total(self.all(), asked);
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: nonzero(total(all(), actual)),
            updated_replicas: nonzero(total(new, actual)),
            ready_replicas: nonzero(total(all(), ready)),
            available_replicas: nonzero(available_replicas),
            unavailable_replicas: nonzero((wanted - available_replicas).max(0)),
            terminating_replicas: self.terminating(),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
        };
        let available = if available_replicas >= self.limits.min_available() {
            made(
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".into(),
                self.now,
            )
        } else {
            let message = "Deployment does not have minimum availability.".into();
            made(
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                message,
                self.now,
            )
        };
        set(&mut status, available);
        status
    }

    /// Pods being deleted; unknown if some ReplicaSet does not tell.
    fn terminating(&self) -> Option<i32> {
        let mut sum: i32 = 0;
        for set in self.all() {
            let status = set.status.clone().unwrap_or_default();
            match status.terminating_replicas {
                Some(count) => sum = sum.saturating_add(count),
                None if status.observed_generation.is_none() => {}
                None => return None,
            }
        }
        Some(sum)
    }

    fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let replicas = self.limits.replicas;
        n(status.updated_replicas) == replicas
            && n(status.replicas) == replicas
            && n(status.available_replicas) == replicas
            && status.observed_generation >= self.deployment.metadata.generation
    }

    /// Whether the status written last says that the rollout is complete.
    pub(super) fn is_complete_before(&self) -> bool {
        self.deployment
            .status
            .as_ref()
            .is_some_and(|s| self.is_complete(s))
    }

    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let before = self.deployment.status.clone().unwrap_or_default();
        let old = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
        n(status.updated_replicas) > n(before.updated_replicas)
            || old(status) < old(&before)
            || n(status.ready_replicas) > n(before.ready_replicas)
            || n(status.available_replicas) > n(before.available_replicas)
    }

    fn deadline(&self, from: &DeploymentCondition) -> Option<Timestamp> {
        let seconds = i64::from(self.spec.progress_deadline_seconds?);
        from.last_update_time
            .as_ref()?
            .0
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .ok()
    }

    fn has_timed_out(&self, status: &DeploymentStatus) -> bool {
        match condition(status, "Progressing") {
            Some(c) => match c.reason.as_deref() {
                Some("NewReplicaSetAvailable") => false,
                Some("ProgressDeadlineExceeded") => true,
                _ => self.deadline(c).is_some_and(|at| at < self.now),
            },
            None => false,
        }
    }

    /// Ends a pass that did not roll: counts only.
    pub(super) fn end_with_counts(mut self) -> Plan {
        self.plan.status = self.counts();
        self.plan
    }

    /// Ends a pass of a rollout: counts and progress.
    pub(super) fn end_with_progress(mut self) -> Plan {
        let mut status = self.counts();
        self.progress(&mut status);
        let of_new = self.new.iter().chain(&self.old).find_map(|set| {
            let conditions = set.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|c| c.type_ == "ReplicaFailure")
        });
        match of_new {
            Some(from) => set(&mut status, failure(from)),
            None => remove(&mut status, "ReplicaFailure"),
        }
        self.plan.next_check = self.next_check(&status);
        self.plan.status = status;
        self.plan
    }

    fn progress(&self, status: &mut DeploymentStatus) {
        if !self.has_deadline() {
            return remove(status, "Progressing");
        }
        let current = condition(&self.status, "Progressing").cloned();
        let done = current
            .as_ref()
            .is_some_and(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
        if done && n(status.replicas) == n(status.updated_replicas) {
            return;
        }
        let subject = match &self.new {
            Some(set) => format!("ReplicaSet {:?}", text(&set.metadata.name)),
            None => format!("Deployment {:?}", text(&self.deployment.metadata.name)),
        };
        let make = |value: &str, reason: &str, what: &str| {
            made(
                "Progressing",
                value,
                reason,
                format!("{subject} {what}"),
                self.now,
            )
        };
        if self.is_complete(status) {
            set(
                status,
                make("True", "NewReplicaSetAvailable", "has successfully progressed."),
            );
        } else if self.has_progressed(status) {
            let mut new = make("True", "ReplicaSetUpdated", "is progressing.");
            // Its update time is the clock of the deadline, so it is replaced even if nothing else in it changes.
            if let Some(current) = current {
                if current.status == "True" {
                    new.last_transition_time = current.last_transition_time;
                }
                remove(status, "Progressing");
            }
            set(status, new);
        } else if self.has_timed_out(status) {
            set(
                status,
                make("False", "ProgressDeadlineExceeded", "has timed out progressing."),
            );
        }
    }

    /// When to look at the deadline again.
    fn next_check(&self, status: &DeploymentStatus) -> Option<Duration> {
        let current = condition(status, "Progressing")?;
        if !self.has_deadline()
            || self.is_complete(status)
            || current.reason.as_deref() == Some("ProgressDeadlineExceeded")
        {
            return None;
        }
        let left = self.deadline(current)?.duration_since(self.now);
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO) + Duration::from_secs(1))
    }
}

/// Sets the Progressing condition of a status.
pub(super) fn set_progressing(
    status: &mut DeploymentStatus,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    set(status, made("Progressing", value, reason, message, now));
}
