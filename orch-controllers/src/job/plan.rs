//! What a Job needs; pure.
//!
//! Each pod carries the finalizer `batch.kubernetes.io/job-tracking` until it has been counted, so that no end is
//! counted twice or not at all:
//!
//! ```text
//! pod ends ─▶ its UID is written to status.uncountedTerminatedPods ─▶ its finalizer is removed
//!          ─▶ the UID is dropped and the counter raised, in one write
//! ```

use super::{
    indexes::Indexes,
    policy::{Backoff, Verdict, judge},
    status,
};
use crate::shared::{is_deleting, pods, text, uid};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// UIDs in `uncountedTerminatedPods` at most, to bound the status.
const MAX_UNCOUNTED: usize = 500;

/// A Job and its pods.
pub(super) struct Observed {
    pub(super) job: Arc<Job>,
    pub(super) pods: Vec<Arc<Pod>>,
    /// Pods whose finalizer was removed, though the copy may still show it.
    pub(super) released: BTreeSet<String>,
    pub(super) backoff: Backoff,
    /// Pods created or deleted at most.
    pub(super) burst: usize,
}

/// How a Job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods to make, with their completion index if they have one.
    pub(super) create: Vec<Option<i32>>,
    /// The status with the ends noted, before finalizers are removed.
    pub(super) status: JobStatus,
    pub(super) release: Vec<Arc<Pod>>,
    /// UIDs of all pods that still have the finalizer.
    pub(super) tracked: BTreeSet<String>,
    pub(super) end: Option<End>,
    pub(super) backoff: Backoff,
    pub(super) next_check: Option<Duration>,
    /// Events to record: reason and message.
    pub(super) events: Vec<(&'static str, &'static str)>,
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether ended pods are replaced only when they have ended, not already when they are being deleted.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

fn is_failed(pod: &Pod, spec: &JobSpec) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => is_deleting(&pod.metadata) && !replaces_only_failed(spec),
    }
}

pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

pub(super) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// The pass in the middle.
pub(super) struct Pass<'a> {
    pub(super) observed: &'a Observed,
    pub(super) spec: JobSpec,
    pub(super) now: Timestamp,
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) terminating: i32,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) done: Indexes,
    pub(super) plan: Plan,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut pass = Pass::begin(observed, now);
    let suspended = pass.spec.suspend == Some(true);
    if pass.plan.status.start_time.is_none() && !suspended {
        pass.plan.status.start_time = status::time(now);
    }
    pass.plan.end = pass.early_end(suspended);
    if pass.plan.end.is_some() {
        pass.plan.delete = pass.active.clone();
    } else {
        if !is_deleting(&observed.job.metadata) {
            pass.manage(suspended);
            pass.note_suspension(suspended);
        }
        pass.complete();
    }
    pass.track();
    pass.plan
}

impl<'a> Pass<'a> {
    fn begin(observed: &'a Observed, now: Timestamp) -> Self {
        let spec = observed.job.spec.clone().unwrap_or_default();
        let status = observed.job.status.clone().unwrap_or_default();
        let tracked = observed
            .pods
            .iter()
            .filter(|p| p.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER))
            .map(|p| uid(&p.metadata).to_owned())
            .filter(|uid| !observed.released.contains(uid))
            .collect();
        let completions = spec.completions.unwrap_or(0);
        let done = Indexes::parse(text(&status.completed_indexes), completions);
        let mut pass = Self {
            active: observed
                .pods
                .iter()
                .filter(|p| pods::is_active(p))
                .cloned()
                .collect(),
            terminating: count(observed.pods.iter().filter(|p| pods::is_terminating(p)).count()),
            succeeded: 0,
            failed: 0,
            done,
            plan: Plan {
                status,
                tracked,
                ..Plan::default()
            },
            observed,
            spec,
            now,
        };
        pass.count_ends();
        pass
    }

    fn uncounted(&self) -> (Vec<String>, Vec<String>) {
        let uncounted = self
            .plan
            .status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default();
        (
            uncounted.succeeded.unwrap_or_default(),
            uncounted.failed.unwrap_or_default(),
        )
    }

    /// Whether a pod belongs to an index of the Job (any pod does, if it has no indexes).
    pub(super) fn has_place(&self, pod: &Pod) -> bool {
        !is_indexed(&self.spec) || index_of(pod).is_some_and(|i| i < self.spec.completions.unwrap_or(0))
    }

    fn count_ends(&mut self) {
        let (uncounted_ok, uncounted_bad) = self.uncounted();
        let fresh = |p: &&Arc<Pod>, known: &[String]| {
            let uid = uid(&p.metadata);
            self.plan.tracked.contains(uid) && !known.iter().any(|k| k == uid) && self.has_place(p)
        };
        let all = &self.observed.pods;
        let ok: Vec<_> = all
            .iter()
            .filter(|p| pods::phase(p) == "Succeeded" && fresh(p, &uncounted_ok))
            .cloned()
            .collect();
        let bad: Vec<_> = all
            .iter()
            .filter(|p| is_failed(p, &self.spec) && fresh(p, &uncounted_bad))
            .cloned()
            .collect();
        let policy = self.spec.pod_failure_policy.as_ref();
        let counted = bad.iter().filter(|p| judge(policy, p) != Verdict::Ignore).count();
        let status = &self.plan.status;
        self.succeeded = status.succeeded.unwrap_or(0) + count(ok.len() + uncounted_ok.len());
        self.failed = status.failed.unwrap_or(0) + count(counted + uncounted_bad.len());
        if is_indexed(&self.spec) {
            let new: Vec<i32> = all
                .iter()
                .filter(|p| {
                    pods::phase(p) == "Succeeded"
                        && self.plan.tracked.contains(uid(&p.metadata))
                        && self.has_place(p)
                })
                .filter_map(|p| index_of(p))
                .collect();
            new.into_iter().for_each(|i| self.done.insert(i));
            self.succeeded = self.done.len();
        }
        self.plan.backoff = self.observed.backoff.after(&ok, &bad);
    }

    /// How the Job ends regardless of what still runs.
    fn early_end(&mut self, suspended: bool) -> Option<End> {
        if let Some((success, reason, message)) = status::decided(&self.plan.status) {
            return Some(End {
                success,
                reason,
                message,
            });
        }
        let failure = |reason: &str, message: String| {
            Some(End {
                success: false,
                reason: reason.into(),
                message,
            })
        };
        let policy = self.spec.pod_failure_policy.as_ref();
        for pod in self
            .observed
            .pods
            .iter()
            .filter(|p| policy.is_some() && is_failed(p, &self.spec))
        {
            if let Verdict::FailJob(message) = judge(policy, pod) {
                return failure("PodFailurePolicy", message);
            }
        }
        if self.failed > self.spec.backoff_limit.unwrap_or(6) || self.restarts_exceed() {
            return failure(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit".into(),
            );
        }
        if let (Some(seconds), Some(start), false) = (
            self.spec.active_deadline_seconds,
            self.plan.status.start_time.clone(),
            suspended,
        ) {
            let end = start
                .0
                .checked_add(SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MAX);
            if end <= self.now {
                return failure(
                    "DeadlineExceeded",
                    "Job was active longer than specified deadline".into(),
                );
            }
            self.check_in(Duration::try_from(end.duration_since(self.now)).unwrap_or_default());
        }
        None
    }

    /// Pods that restart their containers count restarts towards the limit.
    fn restarts_exceed(&self) -> bool {
        let restart = self
            .spec
            .template
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.as_deref());
        if restart != Some("OnFailure") {
            return false;
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let running = self
            .observed
            .pods
            .iter()
            .filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
        let restarts: i32 = running
            .filter_map(|p| p.status.as_ref())
            .flat_map(|s| {
                s.container_statuses
                    .iter()
                    .flatten()
                    .chain(s.init_container_statuses.iter().flatten())
            })
            .map(|c| c.restart_count)
            .fold(0, i32::saturating_add);
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    pub(super) fn check_in(&mut self, wait: Duration) {
        self.plan.next_check = Some(self.plan.next_check.map_or(wait, |w| w.min(wait)));
    }

    fn complete(&mut self) {
        let active = self.active.len() - self.plan.delete.len() + self.plan.create.len();
        let enough = match self.spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        if enough && active == 0 {
            self.plan.end = Some(End {
                success: true,
                reason: "CompletionsReached".into(),
                message: "Reached expected number of succeeded pods".into(),
            });
        }
    }

    /// Notes which pods ended, and which may go.
    fn track(&mut self) {
        let deleted: BTreeSet<&str> = self.plan.delete.iter().map(|p| uid(&p.metadata)).collect();
        let left: Vec<_> = self
            .active
            .iter()
            .filter(|p| !deleted.contains(uid(&p.metadata)))
            .collect();
        let ready = count(left.iter().filter(|p| pods::is_ready(p)).count());
        let status = &mut self.plan.status;
        status.active = Some(count(left.len() + self.plan.create.len())).filter(|n| *n != 0);
        status.ready = Some(ready);
        status.terminating = Some(self.terminating + count(self.plan.delete.len()));
        status::settle(&mut self.plan.status, &self.plan.tracked, is_indexed(&self.spec));
        let (mut ok, mut bad) = self.uncounted();
        let policy = self.spec.pod_failure_policy.as_ref();
        let failing = self.plan.end.as_ref().is_some_and(|e| !e.success);
        for pod in &self.observed.pods {
            let pod_uid = uid(&pod.metadata).to_owned();
            let succeeded = pods::phase(pod) == "Succeeded";
            let failed = is_failed(pod, &self.spec);
            let may_go =
                succeeded || failed || self.plan.end.is_some() || is_deleting(&self.observed.job.metadata);
            if !self.plan.tracked.contains(&pod_uid) || !may_go {
                continue;
            }
            if ok.len() + bad.len() >= MAX_UNCOUNTED {
                break;
            }
            self.plan.release.push(pod.clone());
            if succeeded && !bad.contains(&pod_uid) {
                if !is_indexed(&self.spec) && !ok.contains(&pod_uid) {
                    ok.push(pod_uid);
                }
            } else if (failed || failing)
                && !bad.contains(&pod_uid)
                && self.has_place(pod)
                && judge(policy, pod) != Verdict::Ignore
            {
                bad.push(pod_uid);
            }
        }
        if is_indexed(&self.spec) {
            self.plan.status.succeeded = Some(self.done.len()).filter(|n| *n != 0);
            self.plan.status.completed_indexes = Some(self.done.to_string()).filter(|t| !t.is_empty());
        }
        status::set_uncounted(&mut self.plan.status, ok, bad);
        if let Some(end) = &self.plan.end {
            let kind = if end.success {
                "SuccessCriteriaMet"
            } else {
                "FailureTarget"
            };
            status::ensure(
                &mut self.plan.status,
                kind,
                "True",
                &end.reason,
                &end.message,
                self.now,
            );
        }
    }
}
