//! The pod's life as a pure function: what the agent has of a pod, and what it does next.
//!
//! ```text
//!            volumes → sandbox → network → init containers → containers ⟲ restarts
//!  admitted ───────────────────────────────────────────────────────────────► done
//!                       │ deleted, removed, deadline, all ended                │
//!                       └► kill containers → stop sandbox → volumes ──────────►└► finalize (if deleted)
//! ```
//!
//! The shell does the actions in order, looks again, and asks again, until nothing is left to do but wait.

mod init;
#[cfg(test)]
mod tests;

use super::{
    backoff::{Backoff, BackoffLimits, plus},
    resize::{Resize, resize},
    spec::{self, ContainerKind},
    view::{IMAGE_ASKED, PodView},
};
use crate::{
    probe::ProbeResults,
    runtime::{ContainerId, ContainerPhase, ContainerState},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// What the agent knows of a pod.
#[derive(Debug, Clone, Default)]
pub struct PodState {
    /// What the runtime has.
    pub view: PodView,
    /// Addresses that the pod network gave to the newest sandbox; empty before.
    pub ips: Vec<IpAddr>,
    /// The volumes are mounted.
    pub volumes_ready: bool,
    /// Something of the volumes is on the machine.
    pub volumes_exist: bool,
    /// Restart back-off by container name.
    pub backoff: BTreeMap<String, Backoff>,
    /// Why each container that should run does not, by name.
    pub failures: BTreeMap<String, StartFailure>,
    /// Do not try volumes, sandbox or network before.
    pub infra_retry_at: Option<Timestamp>,
    /// What the probes say.
    pub probes: ProbeResults,
    /// Resources applied to running containers since they were made.
    pub applied: BTreeMap<ContainerId, ResourceRequirements>,
    /// Do not try to resize before.
    pub resize_retry_at: Option<Timestamp>,
    /// Containers that the agent killed in order to start them anew.
    pub killed_to_restart: BTreeSet<ContainerId>,
    /// The object is gone from the API.
    pub removed: bool,
    /// The pod has failed as a whole (deadline, eviction), with reason and message.
    pub failed: Option<(String, String)>,
    /// The pod was not admitted.
    pub rejected: bool,
    /// The phase last computed is final.
    pub phase_is_terminal: bool,
    /// When the pod was first seen by an agent of this node.
    pub start_time: Option<Timestamp>,
    /// Restart delays.
    pub limits: BackoffLimits,
}

/// A failed attempt to start a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// Reason as in a waiting state: `ErrImagePull`, `CrashLoopBackOff`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// Do not try before.
    pub retry_at: Timestamp,
}

/// Why a container is killed; it decides the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// Anything else.
    Other,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Mount the volumes.
    PrepareVolumes,
    /// Make the sandbox.
    RunSandbox {
        /// Its attempt.
        attempt: u32,
    },
    /// Connect the newest sandbox to the pod network.
    AttachNetwork,
    /// Start a container.
    Start {
        /// Which list it is in.
        kind: ContainerKind,
        /// Index in the list.
        index: usize,
        /// Its name.
        name: String,
    },
    /// Say that a container waits because it keeps failing.
    BackOff {
        /// Which list it is in.
        kind: ContainerKind,
        /// Its name.
        name: String,
        /// The whole delay.
        delay: Duration,
        /// When it ends.
        until: Timestamp,
    },
    /// Kill one container.
    Kill {
        /// Container.
        id: ContainerId,
        /// Its name.
        name: String,
        /// Message of the event.
        message: String,
        /// Why.
        reason: KillReason,
        /// It is to be started anew.
        restart: bool,
    },
    /// Give a running container other limits.
    Resize {
        /// Container.
        id: ContainerId,
        /// Its name.
        name: String,
    },
    /// Kill all containers, sidecars last.
    KillPod,
    /// Disconnect and stop all sandboxes.
    StopSandboxes,
    /// Remove an old container and its log.
    Remove {
        /// Container.
        id: ContainerId,
    },
    /// Unmount the volumes.
    TearDownVolumes,
    /// Fail the pod as a whole.
    Fail {
        /// Reason of the status and event.
        reason: &'static str,
        /// Message.
        message: String,
    },
    /// Delete the object if it is there, then everything that the machine has of the pod.
    Finalize,
    /// Ask again at this time.
    WakeAt(Timestamp),
}

/// Whether the pod is on its way out: no container is started any more.
#[must_use]
pub fn is_terminating(state: &PodState, pod: &Pod) -> bool {
    state.removed
        || state.rejected
        || state.failed.is_some()
        || state.phase_is_terminal
        || spec::is_deleted(pod)
        || spec::is_terminal(spec::status(pod).phase.as_deref())
}

/// What to do next. Empty when there is nothing to do until something changes.
#[must_use]
pub fn step(state: &PodState, pod: &Pod, now: Timestamp) -> Vec<Action> {
    if is_terminating(state, pod) {
        return terminate(state, pod);
    }
    let mut wakes = Vec::new();
    if let (Some(seconds), Some(start)) = (spec::spec(pod).active_deadline_seconds, state.start_time) {
        let deadline = plus(start, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        if deadline <= now {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            return vec![Action::Fail {
                reason: "DeadlineExceeded",
                message,
            }];
        }
        wakes.push(deadline);
    }
    let mut actions = sync(state, pod, now, &mut wakes);
    actions.extend(garbage(&state.view));
    actions.extend(wakes.into_iter().min().map(Action::WakeAt));
    actions
}

fn terminate(state: &PodState, pod: &Pod) -> Vec<Action> {
    if state.view.alive().next().is_some() {
        return vec![Action::KillPod];
    }
    if state.view.sandboxes.iter().any(|s| s.ready) {
        return vec![Action::StopSandboxes];
    }
    if state.volumes_exist {
        return vec![Action::TearDownVolumes];
    }
    if state.removed || spec::is_deleted(pod) {
        vec![Action::Finalize]
    } else {
        Vec::new()
    }
}

/// Containers beyond the newest and the one before it.
fn garbage(view: &PodView) -> Vec<Action> {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut actions = Vec::new();
    for container in &view.containers {
        let count = seen.entry(&container.name).or_default();
        *count += 1;
        if *count > 2 && container.phase.exit().is_some() {
            actions.push(Action::Remove {
                id: container.id.clone(),
            });
        }
    }
    actions
}

fn sync(state: &PodState, pod: &Pod, now: Timestamp, wakes: &mut Vec<Timestamp>) -> Vec<Action> {
    // A container that was made and never started is what a cancelled start left behind.
    let half_made: Vec<Action> = state
        .view
        .containers
        .iter()
        .filter(|c| c.phase == ContainerPhase::Created)
        .map(|c| Action::Remove { id: c.id.clone() })
        .collect();
    if !half_made.is_empty() {
        return half_made;
    }
    let host_network = spec::host_network(pod);
    if let Some(attempt) = state.view.needs_sandbox(host_network) {
        return new_sandbox(state, pod, attempt, now, wakes);
    }
    let connected = host_network || !state.ips.is_empty();
    if !connected || !state.volumes_ready {
        if let Some(at) = state.infra_retry_at.filter(|at| *at > now) {
            wakes.push(at);
            return Vec::new();
        }
        return vec![if state.volumes_ready {
            Action::AttachNetwork
        } else {
            Action::PrepareVolumes
        }];
    }
    containers(state, pod, now, wakes)
}

fn new_sandbox(
    state: &PodState,
    pod: &Pod,
    attempt: u32,
    now: Timestamp,
    wakes: &mut Vec<Timestamp>,
) -> Vec<Action> {
    let spec = spec::spec(pod);
    let never = spec.restart_policy.as_deref() == Some("Never");
    let done = |c: &Container| {
        let once = c.restart_policy.as_deref().or(spec.restart_policy.as_deref()) == Some("OnFailure");
        let latest = state.view.latest(&c.name);
        once && latest.is_some_and(|l| l.phase.exit().is_some_and(|e| e.code == 0))
    };
    let was_initialized = spec
        .containers
        .iter()
        .any(|c| state.view.latest(&c.name).is_some());
    let over = (never && attempt != 0 && !state.view.containers.is_empty())
        || (spec.containers.iter().all(done) && was_initialized);
    if state.view.alive().next().is_some() {
        return vec![Action::KillPod];
    }
    if state.view.sandboxes.iter().any(|s| s.ready) {
        return vec![Action::StopSandboxes];
    }
    if over {
        return Vec::new();
    }
    if let Some(at) = state.infra_retry_at.filter(|at| *at > now) {
        wakes.push(at);
        return Vec::new();
    }
    if state.volumes_ready {
        vec![Action::RunSandbox { attempt }]
    } else {
        vec![Action::PrepareVolumes]
    }
}

/// Whether a container that is not running is to be started.
#[must_use]
pub fn should_start(state: &PodState, pod: &Pod, container: &Container) -> bool {
    if is_terminating(state, pod) {
        return false;
    }
    match state.view.latest(&container.name).map(|c| (&c.id, &c.phase)) {
        None => true,
        Some((_, ContainerPhase::Running { .. })) => false,
        Some((_, ContainerPhase::Created | ContainerPhase::Unknown)) => true,
        Some((id, ContainerPhase::Exited(exit))) => {
            state.killed_to_restart.contains(id)
                || spec::should_restart(container, spec::spec(pod), exit.code)
        }
    }
}

fn containers(state: &PodState, pod: &Pod, now: Timestamp, wakes: &mut Vec<Timestamp>) -> Vec<Action> {
    let spec = spec::spec(pod);
    let mut actions = Vec::new();
    for (index, ephemeral) in spec::ephemeral_containers(spec).iter().enumerate() {
        if state.view.latest(&ephemeral.name).is_none() {
            actions.extend(start(
                state,
                ContainerKind::Ephemeral,
                index,
                &ephemeral.name,
                now,
                wakes,
            ));
        }
    }
    let init = init::plan(state, pod);
    if init.failed {
        return vec![Action::KillPod];
    }
    let (mut kept, mut starts) = (0, Vec::new());
    if init.initialized {
        for (index, container) in spec.containers.iter().enumerate() {
            let latest = state.view.latest(&container.name);
            let Some(running) = latest.filter(|c| c.phase.is_running()) else {
                if should_start(state, pod, container) {
                    starts.push((index, latest));
                }
                continue;
            };
            match doomed(state, container, running, "Container") {
                None => {
                    kept += 1;
                    actions.extend(resized(state, container, running, now));
                }
                Some((mut message, reason, changed)) => {
                    let restart = changed || spec::restarts_after_kill(container, spec);
                    if restart {
                        message.push_str(", will be restarted");
                        kept += 1;
                    }
                    actions.push(kill(running, message, reason, restart));
                }
            }
        }
        if kept == 0 && starts.is_empty() {
            // Sidecars alone do not keep a pod alive.
            return if state.view.alive().next().is_some() {
                vec![Action::KillPod]
            } else {
                Vec::new()
            };
        }
    }
    actions.extend(init.kill);
    let list = spec::init_containers(spec);
    for index in init.start {
        let started = start(state, ContainerKind::Init, index, &list[index].name, now, wakes);
        let held_up = !matches!(started, Some(Action::Start { .. })) && !spec::is_sidecar(&list[index]);
        actions.extend(started);
        if held_up {
            return actions;
        }
    }
    for (index, latest) in starts {
        if let Some(lost) = latest.filter(|c| c.phase == ContainerPhase::Unknown) {
            let message = "Container is in \"unknown\" state, try killing it before restart".to_owned();
            actions.push(kill(lost, message, KillReason::Other, true));
        }
        actions.extend(start(
            state,
            ContainerKind::App,
            index,
            &spec.containers[index].name,
            now,
            wakes,
        ));
    }
    actions
}

fn kill(container: &ContainerState, message: String, reason: KillReason, restart: bool) -> Action {
    Action::Kill {
        id: container.id.clone(),
        name: container.name.clone(),
        message,
        reason,
        restart,
    }
}

fn resized(
    state: &PodState,
    container: &Container,
    running: &ContainerState,
    now: Timestamp,
) -> Option<Action> {
    let name = &container.name;
    match resize(state, container, running) {
        Resize::None => None,
        Resize::InPlace if state.resize_retry_at.is_some_and(|at| at > now) => None,
        Resize::InPlace => Some(Action::Resize {
            id: running.id.clone(),
            name: name.clone(),
        }),
        Resize::Restart => {
            let message = format!("Container {name} resize requires restart");
            Some(kill(running, message, KillReason::Other, true))
        }
    }
}

/// Why a running container can't stay: message, reason, and whether its definition changed.
fn doomed(
    state: &PodState,
    container: &Container,
    running: &ContainerState,
    noun: &str,
) -> Option<(String, KillReason, bool)> {
    let name = &container.name;
    let asked = running.annotations.get(IMAGE_ASKED);
    if asked.is_some() && asked.map(String::as_str) != container.image.as_deref() {
        return Some((
            format!("{noun} {name} definition changed"),
            KillReason::Other,
            true,
        ));
    }
    let probes = state.probes.of(&running.id);
    if probes.liveness == Some(false) {
        return Some((
            format!("{noun} {name} failed liveness probe"),
            KillReason::Liveness,
            false,
        ));
    }
    if probes.startup == Some(false) {
        return Some((
            format!("{noun} {name} failed startup probe"),
            KillReason::Startup,
            false,
        ));
    }
    None
}

/// Starts a container, unless it has to wait; then says so or sets the alarm.
fn start(
    state: &PodState,
    kind: ContainerKind,
    index: usize,
    name: &str,
    now: Timestamp,
    wakes: &mut Vec<Timestamp>,
) -> Option<Action> {
    let last_exit = state
        .view
        .containers
        .iter()
        .filter(|c| c.name == name)
        .find_map(|c| c.phase.exit());
    if let Some(exit) = last_exit {
        let entry = state.backoff.get(name);
        if let Some(until) = Backoff::until(entry, exit.finished_at, now, state.limits) {
            wakes.push(until);
            let said = state
                .failures
                .get(name)
                .is_some_and(|f| f.reason == "CrashLoopBackOff" && f.retry_at == until);
            let delay = entry.map_or(Duration::ZERO, |e| e.delay);
            return (!said).then(|| Action::BackOff {
                kind,
                name: name.into(),
                delay,
                until,
            });
        }
    }
    if let Some(failure) = state.failures.get(name)
        && failure.retry_at > now
    {
        wakes.push(failure.retry_at);
        return None;
    }
    Some(Action::Start {
        kind,
        index,
        name: name.into(),
    })
}
