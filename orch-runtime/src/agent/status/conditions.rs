//! The conditions that the node owns: PodReadyToStartContainers, Initialized, Ready, ContainersReady, PodScheduled.

use super::phase::state;
use crate::agent::spec::{self, is_sidecar};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// Conditions that the node owns, in the order it writes them.
pub const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// A list of names as Go prints it: `[a b]`.
fn go_list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn condition(pod: &Pod, type_: &str, status: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: type_.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: (!reason.is_empty()).then(|| reason.into()),
        message: (!message.is_empty()).then_some(message),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn terminal_reason(phase: &str) -> &'static str {
    if phase == "Succeeded" {
        "PodCompleted"
    } else {
        "PodFailed"
    }
}

/// Names out of `wanted` that are unknown and those that fail `test`, as the message says it.
fn message<'a>(wanted: impl Iterator<Item = (&'a str, Option<bool>)>, word: &str) -> (bool, String) {
    let (mut unknown, mut unfit) = (Vec::new(), Vec::new());
    for (name, fit) in wanted {
        match fit {
            None => unknown.push(name),
            Some(false) => unfit.push(name),
            Some(true) => {}
        }
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", go_list(&unknown)));
    }
    if !unfit.is_empty() {
        parts.push(format!("containers with {word} status: {}", go_list(&unfit)));
    }
    (!unknown.is_empty(), parts.join(", "))
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

fn initialized(pod: &Pod, all: &[ContainerStatus], phase: &str) -> PodCondition {
    let spec = spec::spec(pod);
    let init = spec::init_containers(spec).iter().map(|c| {
        let fit = find(all, &c.name).map(|s| {
            if is_sidecar(c) {
                s.started == Some(true)
            } else {
                s.ready
            }
        });
        (c.name.as_str(), fit)
    });
    let (unknown, message) = message(init, "incomplete");
    if phase == "Succeeded" && !unknown {
        return condition(pod, "Initialized", true, "PodCompleted", String::new());
    }
    let app_started = spec
        .containers
        .iter()
        .filter_map(|c| find(all, &c.name))
        .any(|s| {
            let now = state(s);
            now.running.is_some() || now.terminated.is_some()
        });
    if app_started || message.is_empty() {
        return condition(pod, "Initialized", true, "", String::new());
    }
    condition(pod, "Initialized", false, "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, all: &[ContainerStatus], phase: &str) -> PodCondition {
    let spec = spec::spec(pod);
    let sidecars = spec::init_containers(spec).iter().filter(|c| is_sidecar(c));
    let wanted = sidecars.chain(&spec.containers);
    let (unknown, message) = message(
        wanted.map(|c| (c.name.as_str(), find(all, &c.name).map(|s| s.ready))),
        "unready",
    );
    if phase == "Failed" || (phase == "Succeeded" && !unknown) {
        return condition(
            pod,
            "ContainersReady",
            false,
            terminal_reason(phase),
            String::new(),
        );
    }
    if message.is_empty() {
        condition(pod, "ContainersReady", true, "", message)
    } else {
        condition(pod, "ContainersReady", false, "ContainersNotReady", message)
    }
}

fn ready(pod: &Pod, others: &[PodCondition], containers: &PodCondition) -> PodCondition {
    if containers.status != "True" {
        return PodCondition {
            type_: "Ready".into(),
            ..containers.clone()
        };
    }
    let gates = spec::spec(pod).readiness_gates.as_deref().unwrap_or_default();
    let missing: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match others.iter().find(|c| c.type_ == *name) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {name:?} does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if missing.is_empty() {
        condition(pod, "Ready", true, "", String::new())
    } else {
        condition(pod, "Ready", false, "ReadinessGatesNotReady", missing.join(", "))
    }
}

/// The node's conditions. `others`: those that others own, for the readiness gates. `sandbox`: the sandbox is ready and
/// connected. Transition times are not set.
#[must_use]
pub(super) fn conditions(
    pod: &Pod,
    statuses: &[ContainerStatus],
    phase: &str,
    others: &[PodCondition],
    sandbox: bool,
) -> Vec<PodCondition> {
    let containers = containers_ready(pod, statuses, phase);
    vec![
        condition(pod, "PodReadyToStartContainers", sandbox, "", String::new()),
        initialized(pod, statuses, phase),
        ready(pod, others, &containers),
        containers,
        condition(pod, "PodScheduled", true, "", String::new()),
    ]
}
