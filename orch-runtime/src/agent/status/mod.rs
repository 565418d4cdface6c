//! The status of a pod as a pure function of what the agent knows.

mod conditions;
mod containers;
mod patch;
mod phase;
#[cfg(test)]
mod tests;

pub use conditions::OWNED;
pub(crate) use containers::time;
pub use patch::status_patch;
pub use phase::phase;

use super::{
    resources,
    spec::{self, ContainerKind},
    step::PodState,
};
use crate::runtime::ContainerId;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use std::{collections::BTreeMap, net::IpAddr};

/// What a status is computed from.
#[derive(Debug)]
pub struct StatusInputs<'a> {
    /// The pod as last seen in the API.
    pub pod: &'a Pod,
    /// What the agent knows of it.
    pub state: &'a PodState,
    /// The status computed last; at first what the API has.
    pub old: &'a PodStatus,
    /// Addresses of the node, the primary one first.
    pub node_ips: &'a [IpAddr],
    /// Name of the runtime, for container IDs.
    pub runtime_name: &'a str,
    /// Termination messages by container.
    pub messages: &'a BTreeMap<ContainerId, String>,
    /// Now.
    pub now: Timestamp,
}

/// Longest sum of all termination messages of a pod, in bytes.
const MESSAGE_BYTES: usize = 12 * 1024;

/// The status to report.
#[must_use]
pub fn pod_status(inputs: &StatusInputs<'_>) -> PodStatus {
    let StatusInputs { pod, state, old, .. } = *inputs;
    let spec = spec::spec(pod);
    if state.rejected {
        return rejected(inputs);
    }
    let list = |l: &Option<Vec<ContainerStatus>>| l.clone().unwrap_or_default();
    let ephemeral: Vec<Container> = spec::ephemeral_containers(spec)
        .iter()
        .map(spec::from_ephemeral)
        .collect();
    let mut app = containers::statuses(
        inputs,
        ContainerKind::App,
        &spec.containers,
        &list(&old.container_statuses),
    );
    let mut init = containers::statuses(
        inputs,
        ContainerKind::Init,
        spec::init_containers(spec),
        &list(&old.init_container_statuses),
    );
    let ephemeral = containers::statuses(
        inputs,
        ContainerKind::Ephemeral,
        &ephemeral,
        &list(&old.ephemeral_container_statuses),
    );
    let alive = state.view.alive().next().is_some();
    let over = !alive && super::step::is_terminating(state, pod);
    if over {
        settle(pod, &mut app, &mut init);
    }
    let was_initialized = state.view.sandbox().is_some_and(|sandbox| {
        let ours = state.view.containers.iter().filter(|c| c.sandbox == sandbox.id);
        ours.into_iter()
            .any(|c| spec.containers.iter().any(|s| s.name == c.name))
    });
    let mut phase = phase(pod, &init, &app, over, was_initialized);
    let (mut reason, mut message) = (None, None);
    if let Some((why, what)) = &state.failed {
        phase = "Failed";
        (reason, message) = (Some(why.clone()), Some(what.clone()));
    }
    // A final phase stays.
    for earlier in [old.phase.as_deref(), spec::status(pod).phase.as_deref()] {
        phase = match earlier {
            Some("Succeeded") => "Succeeded",
            Some("Failed") => "Failed",
            _ => phase,
        };
    }
    if over && !spec::is_terminal(Some(phase)) {
        phase = "Failed";
    }
    // A phase is final only when nothing can run any more.
    if alive && spec::is_terminal(Some(phase)) && !spec::is_terminal(old.phase.as_deref()) {
        phase = if old.phase.as_deref() == Some("Running") {
            "Running"
        } else {
            "Pending"
        };
        (reason, message) = (None, None);
    }
    if old.phase.as_deref() == Some(phase) && reason.is_none() {
        (reason, message) = (old.reason.clone(), old.message.clone());
    }
    shorten(spec, [&mut app, &mut init]);
    let everything: Vec<ContainerStatus> = init.iter().chain(&app).cloned().collect();
    let others = spec::status(pod).conditions.clone().unwrap_or_default();
    let sandbox = state.view.needs_sandbox(spec::host_network(pod)).is_none()
        && (spec::host_network(pod) || !state.ips.is_empty());
    let own = conditions::conditions(pod, &everything, phase, &others, sandbox);
    let some = |l: Vec<ContainerStatus>| (!l.is_empty()).then_some(l);
    let pod_ips = pod_ips(inputs);
    PodStatus {
        phase: Some(phase.into()),
        reason,
        message,
        conditions: Some(with_transitions(inputs, own)),
        container_statuses: some(app),
        init_container_statuses: some(init),
        ephemeral_container_statuses: some(ephemeral),
        host_ip: inputs.node_ips.first().map(ToString::to_string),
        host_ips: Some(
            inputs
                .node_ips
                .iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: pod_ips.first().map(ToString::to_string),
        pod_ips: (!pod_ips.is_empty())
            .then(|| pod_ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        qos_class: Some(resources::qos_class(pod).into()),
        start_time: old
            .start_time
            .clone()
            .or_else(|| Some(time(state.start_time.unwrap_or(inputs.now)))),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn rejected(inputs: &StatusInputs<'_>) -> PodStatus {
    let (reason, message) = inputs.state.failed.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason),
        message: Some(format!("Pod was rejected: {message}")),
        qos_class: Some(resources::qos_class(inputs.pod).into()),
        start_time: inputs.old.start_time.clone().or_else(|| Some(time(inputs.now))),
        observed_generation: inputs.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// When nothing will run any more, whatever is not known to have ended has ended in a way nobody saw.
fn settle(pod: &Pod, app: &mut [ContainerStatus], init: &mut [ContainerStatus]) {
    let has_run = |s: &ContainerStatus| {
        let state = s.state.clone().unwrap_or_default();
        state.running.is_some()
            || state.terminated.is_some()
            || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
    };
    let all_init_done = init
        .iter()
        .all(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()));
    let initialized =
        spec::init_containers(spec::spec(pod)).is_empty() || all_init_done || app.iter().any(has_run);
    let end = |s: &mut ContainerStatus| {
        if s.state.as_ref().is_none_or(|s| s.terminated.is_none()) {
            s.state = Some(containers::lost(containers::LOST_AT_END));
            (s.ready, s.started) = (false, Some(false));
        }
    };
    if initialized {
        app.iter_mut().for_each(end);
    }
    // The suffix of init containers that never ran stays waiting.
    let run = init.iter().rposition(has_run).map_or(0, |last| last + 1);
    init[..run].iter_mut().for_each(end);
}

fn shorten(spec: &k8s_openapi::api::core::v1::PodSpec, lists: [&mut Vec<ContainerStatus>; 2]) {
    let count =
        spec.containers.len() + spec::init_containers(spec).len() + spec::ephemeral_containers(spec).len();
    let limit = MESSAGE_BYTES / count.max(1);
    for status in lists.into_iter().flatten() {
        for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
            if let Some(message) = state.terminated.as_mut().and_then(|t| t.message.as_mut()) {
                let end = (0..=limit.min(message.len()))
                    .rev()
                    .find(|i| message.is_char_boundary(*i))
                    .unwrap_or(0);
                message.truncate(end);
            }
        }
    }
}

fn pod_ips(inputs: &StatusInputs<'_>) -> Vec<IpAddr> {
    if spec::host_network(inputs.pod) {
        return inputs.node_ips.to_vec();
    }
    let now = &inputs.state.ips;
    let mut ips: Vec<IpAddr> = if now.is_empty() {
        // Between two sandboxes, and after the end, the last address stays.
        let old = inputs.old.pod_ips.iter().flatten();
        old.filter_map(|ip| ip.ip.parse().ok()).collect()
    } else {
        now.clone()
    };
    // One of each family, the node's own family first.
    let v6_first = inputs.node_ips.first().is_some_and(IpAddr::is_ipv6);
    let first = ips.iter().position(|ip| ip.is_ipv6() == v6_first);
    let second = ips.iter().position(|ip| ip.is_ipv6() != v6_first);
    let picked: Vec<IpAddr> = first.into_iter().chain(second).map(|i| ips[i]).collect();
    ips = picked;
    ips
}

fn with_transitions(inputs: &StatusInputs<'_>, conditions: Vec<PodCondition>) -> Vec<PodCondition> {
    let api = spec::status(inputs.pod);
    let before = |type_: &str| {
        let known = inputs.old.conditions.iter().chain(&api.conditions).flatten();
        known.into_iter().find(|c| c.type_ == type_)
    };
    conditions
        .into_iter()
        .map(|mut c| {
            let kept = before(&c.type_)
                .filter(|b| b.status == c.status)
                .and_then(|b| b.last_transition_time.clone());
            c.last_transition_time = kept.or_else(|| Some(time(inputs.now)));
            c
        })
        .collect()
}
