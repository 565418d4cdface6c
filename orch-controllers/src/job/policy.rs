//! Pod failure policies and back-off; pure.

use crate::shared::pods;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement},
    core::v1::{ContainerStatus, Pod},
};
use std::{sync::Arc, time::Duration};

const BASE: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);

/// What a policy says of a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the back-off limit.
    Count,
    /// It is as if it had not been.
    Ignore,
    /// The whole Job fails, for this reason.
    FailJob(String),
}

fn exit_matches(code: i32, rule: &PodFailurePolicyOnExitCodesRequirement) -> bool {
    let listed = rule.values.contains(&code);
    match rule.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// The name and exit code of the first failed container that a rule matches.
fn matching_exit(pod: &Pod, rule: &PodFailurePolicyOnExitCodesRequirement) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?;
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    all.filter(|c| rule.container_name.as_ref().is_none_or(|n| *n == c.name))
        .find_map(|c: &ContainerStatus| {
            let code = c.state.as_ref()?.terminated.as_ref()?.exit_code;
            (code != 0 && exit_matches(code, rule)).then(|| (c.name.clone(), code))
        })
}

pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    for (index, rule) in policy.iter().flat_map(|p| p.rules.iter().enumerate()) {
        let action = rule.action.as_str();
        let why = if let Some(exit_codes) = &rule.on_exit_codes {
            matching_exit(pod, exit_codes).map(|(container, code)| {
                format!(
                    "Container {container} for pod {namespace}/{name} failed with exit code {code} matching {action} \
                     rule at index {index}"
                )
            })
        } else {
            let matching = rule.on_pod_conditions.iter().flatten().find(|pattern| {
                pods::condition(pod, &pattern.type_)
                    .is_some_and(|c| Some(&c.status) == pattern.status.as_ref())
            });
            matching.map(|pattern| {
                let kind = &pattern.type_;
                format!("Pod {namespace}/{name} has condition {kind} matching {action} rule at index {index}")
            })
        };
        match (why, action) {
            (Some(why), "FailJob") => return Verdict::FailJob(why),
            (Some(_), "Ignore") => return Verdict::Ignore,
            (Some(_), _) => return Verdict::Count,
            (None, _) => {}
        }
    }
    Verdict::Count
}

/// When a pod ended, as well as it can be known.
fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten());
    let mut ends = statuses.map(|c| {
        c.state
            .as_ref()?
            .terminated
            .as_ref()?
            .finished_at
            .as_ref()
            .map(|t| t.0)
    });
    let all: Option<Vec<Timestamp>> = ends.by_ref().collect();
    let by_containers = all.and_then(|times| times.into_iter().max());
    by_containers
        .or_else(|| {
            pods::condition(pod, "Ready")
                .filter(|c| c.status == "False")?
                .last_transition_time
                .as_ref()
                .map(|t| t.0)
        })
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|t| t.0))
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

/// Failures since the last success. Lost in a restart, which only makes a retry come earlier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// After these pods ended too.
    pub(super) fn after(&self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let times = |pods: &[Arc<Pod>]| pods.iter().filter_map(|p| finished_at(p)).collect::<Vec<_>>();
        let (succeeded, mut failed) = (times(succeeded), times(failed));
        let mut new = self.clone();
        if let Some(last_success) = succeeded.into_iter().max() {
            new = Self::default();
            failed.retain(|t| *t > last_success);
        }
        new.failures = new
            .failures
            .saturating_add(u32::try_from(failed.len()).unwrap_or(u32::MAX));
        new.last = failed.into_iter().max().or(new.last);
        new
    }

    /// How long until the next pod may be made: 10 s after the first failure, doubling to 10 minutes.
    pub(super) fn remaining(&self, now: Timestamp) -> Duration {
        let (Some(last), 1..) = (self.last, self.failures) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
        let backoff = BASE.checked_mul(factor).map_or(MAX, |d| d.min(MAX));
        backoff.saturating_sub(Duration::try_from(now.duration_since(last)).unwrap_or_default())
    }
}
