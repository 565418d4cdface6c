//! Reading a pod's state; pure.

use super::{is_deleting, text};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

/// Annotation by which users rank pods for deletion.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The phase, empty if there is no status.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().map_or("", |s| text(&s.phase))
}

/// The node the pod is bound to, empty if it is not.
pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().map_or("", |s| text(&s.node_name))
}

/// Whether all containers ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(&pod.metadata)
}

/// Being deleted, but not ended.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleting(&pod.metadata)
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

/// Whether the pod's Ready condition is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod has been ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")
        .filter(|c| c.status == "True")?
        .last_transition_time
        .as_ref()
        .map(|t| t.0)
}

fn seconds(n: i32) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

/// How long until the pod has been ready for `min_ready_s`; zero if it has been, `None` if it is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_s: i32, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_s <= 0 {
        return Some(Duration::ZERO);
    }
    let ready_for = now.duration_since(ready_since(pod)?);
    Some(seconds(min_ready_s).saturating_sub(Duration::try_from(ready_for).unwrap_or(Duration::ZERO)))
}

/// Whether the pod has been ready for `min_ready_s`.
pub(crate) fn is_available(pod: &Pod, min_ready_s: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_s, now) == Some(Duration::ZERO)
}

fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let most = |counts: &mut dyn Iterator<Item = i32>| counts.max().unwrap_or(0);
    let regular = most(
        &mut status
            .container_statuses
            .iter()
            .flatten()
            .map(|c| c.restart_count),
    );
    let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars: Vec<&str> = init
        .filter(|c| c.restart_policy.as_deref() == Some("Always"))
        .map(|c| c.name.as_str())
        .collect();
    let statuses = status.init_container_statuses.iter().flatten();
    let sidecar = most(
        &mut statuses
            .filter(|c| sidecars.contains(&c.name.as_str()))
            .map(|c| c.restart_count),
    );
    (regular, sidecar)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(DELETION_COST));
    annotation.and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

/// The order of magnitude of an age: the younger, the smaller; pods of one magnitude are equals, so that not all
/// young ones go first.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let nanos = now.duration_since(since).as_nanos();
    if nanos > 0 { i64::from(nanos.ilog2()) } else { -1 }
}

fn by_age(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => magnitude(a, now).cmp(&magnitude(b, now)),
        // No time at all counts as youngest.
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Sorts pods so that those to be deleted first come first, with upstream's criteria: not bound, not running, not
/// ready, low deletion cost, many fellows on the node, ready for a short time, many restarts, young.
///
/// `related` are all pods of the same owner's owner; active ones among them count as fellows.
pub(crate) fn sort_for_deletion<P: AsRef<Pod>>(pods: &mut [P], related: &[P], now: Timestamp) {
    let mut fellows: BTreeMap<String, usize> = BTreeMap::new();
    for pod in related.iter().map(AsRef::as_ref).filter(|p| is_active(p)) {
        *fellows.entry(node_name(pod).to_owned()).or_default() += 1;
    }
    let rank = |pod: &Pod| fellows.get(node_name(pod)).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        let (a, b) = (a.as_ref(), b.as_ref());
        let bound = |p: &Pod| !node_name(p).is_empty();
        bound(a)
            .cmp(&bound(b))
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| is_ready(a).cmp(&is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| by_age(ready_since(a), ready_since(b), now))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| {
                let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
                by_age(created(a), created(b), now)
            })
            .then_with(|| text(&a.metadata.uid).cmp(text(&b.metadata.uid)))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use orch_core::testing::builders::pod;
    use std::sync::Arc;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let mut p = pod("n", "a").ready().build();
        p.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].last_transition_time = Some(Time(at(100)));
        assert_eq!(available_in(&p, 30, at(110)), Some(Duration::from_secs(20)));
        assert!(
            !is_available(&p, 30, at(129)) && is_available(&p, 30, at(130)) && is_available(&p, 0, at(0))
        );
        assert_eq!(available_in(&pod("n", "b").build(), 0, at(0)), None);
    }

    #[test]
    fn deletion_order() {
        let now = at(10_000_000);
        let aged = |name: &str, created: i64| {
            let mut p = pod("n", name).node("x").ready().build();
            p.metadata.creation_timestamp = Some(Time(at(created)));
            p
        };
        let mut costly = aged("costly", 1);
        costly.metadata.annotations = Some(BTreeMap::from([(DELETION_COST.into(), "10".into())]));
        let mut pods: Vec<Arc<Pod>> = [
            costly,
            aged("old", 1),
            aged("young", 9_999_999),
            pod("n", "unready").node("x").phase("Running").build(),
            pod("n", "pending").node("x").phase("Pending").build(),
            pod("n", "unbound").phase("Pending").build(),
            pod("n", "crowded").node("y").ready().build(),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let related: Vec<Arc<Pod>> = (0..9)
            .map(|n| Arc::new(pod("n", &n.to_string()).node("y").build()))
            .collect();
        sort_for_deletion(&mut pods, &related, now);
        let names: Vec<&str> = pods.iter().map(|p| text(&p.metadata.name)).collect();
        assert_eq!(
            names,
            [
                "unbound", "pending", "unready", "crowded", "young", "old", "costly"
            ]
        );
    }
}
