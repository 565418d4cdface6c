//! Reading and writing a Job's status; pure.

use super::plan::End;
use crate::shared::text;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::collections::BTreeSet;

/// A time as objects hold it, in whole seconds.
pub(super) fn time(now: Timestamp) -> Option<Time> {
    Timestamp::from_second(now.as_second()).ok().map(Time)
}

pub(super) fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn is_true(status: &JobStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|c| c.status == "True")
}

/// Whether the Job has ended for good.
pub(super) fn is_finished(job: &Job) -> bool {
    job.status
        .as_ref()
        .is_some_and(|s| is_true(s, "Complete") || is_true(s, "Failed"))
}

/// When it has ended.
pub(super) fn finished_at(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let ended = ["Complete", "Failed"]
        .iter()
        .find_map(|k| condition(status, k).filter(|c| c.status == "True"));
    ended?.last_transition_time.as_ref().map(|t| t.0)
}

/// When a finished Job is to be deleted.
pub(super) fn expires_at(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    finished_at(job)?
        .checked_add(SignedDuration::from_secs(seconds.into()))
        .ok()
}

/// How the Job is going to end, if that has been decided: success, reason, message.
pub(super) fn decided(status: &JobStatus) -> Option<(bool, String, String)> {
    let decision = |kind: &str| condition(status, kind).filter(|c| c.status == "True");
    let (success, c) = decision("SuccessCriteriaMet")
        .map(|c| (true, c))
        .or_else(|| decision("FailureTarget").map(|c| (false, c)))?;
    Some((success, text(&c.reason).into(), text(&c.message).into()))
}

/// Sets a condition; a false one that was never there is not added. Answers whether anything changed.
pub(super) fn ensure(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter_mut().find(|c| c.type_ == kind);
    let changed = match &old {
        Some(old) => old.status != value || text(&old.reason) != reason || text(&old.message) != message,
        None => value != "False",
    };
    if changed {
        let since = old
            .as_ref()
            .filter(|o| o.status == value)
            .and_then(|o| o.last_transition_time.clone());
        let new = JobCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: time(now),
            last_transition_time: since.or_else(|| time(now)),
        };
        match old {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }
    status.conditions = status.conditions.take().filter(|c| !c.is_empty());
    changed
}

pub(super) fn set_uncounted(status: &mut JobStatus, succeeded: Vec<String>, failed: Vec<String>) {
    let some = |list: Vec<String>| Some(list).filter(|l| !l.is_empty());
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
        succeeded: some(succeeded),
        failed: some(failed),
    });
}

/// Counts the pods that lost their finalizer: their UIDs go, the counters rise.
pub(super) fn settle(status: &mut JobStatus, tracked: &BTreeSet<String>, indexed: bool) {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let split = |list: Option<Vec<String>>| -> (Vec<String>, i32) {
        let (keep, gone): (Vec<_>, Vec<_>) = list
            .unwrap_or_default()
            .into_iter()
            .partition(|uid| tracked.contains(uid));
        (keep, i32::try_from(gone.len()).unwrap_or(i32::MAX))
    };
    let (ok, new_ok) = split(uncounted.succeeded);
    let (bad, new_bad) = split(uncounted.failed);
    let raise =
        |counter: &mut Option<i32>, by: i32| *counter = Some(counter.unwrap_or(0) + by).filter(|n| *n != 0);
    if !indexed {
        raise(&mut status.succeeded, new_ok);
    }
    raise(&mut status.failed, new_bad);
    set_uncounted(status, ok, bad);
}

/// Ends the Job, if nothing is left to count or to wait for. Answers whether it did.
pub(super) fn finish(status: &mut JobStatus, end: &End, now: Timestamp) -> bool {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    if uncounted.succeeded.is_some() || uncounted.failed.is_some() || status.terminating.unwrap_or(0) > 0 {
        return false;
    }
    let kind = if end.success { "Complete" } else { "Failed" };
    ensure(status, kind, "True", &end.reason, &end.message, now);
    if end.success {
        status.completion_time = time(now);
    }
    true
}
