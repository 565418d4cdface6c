//! Statuses of containers, from what the runtime has, what was reported before, and why starts failed.

use super::StatusInputs;
use crate::{
    agent::{
        resize,
        spec::{self, ContainerKind},
        step::should_start,
        view::{IMAGE_NAME, IMAGE_REF},
    },
    runtime::{self, ContainerPhase},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, ResourceRequirements, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

/// A time as the API carries it: whole seconds.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let reason = (!reason.is_empty()).then(|| reason.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason, message }),
        ..ContainerState::default()
    }
}

fn terminated(t: ContainerStateTerminated) -> ContainerState {
    ContainerState {
        terminated: Some(t),
        ..ContainerState::default()
    }
}

/// The state that stands for a container which ran and which nobody can find any more.
pub(super) fn lost(message: &str) -> ContainerState {
    terminated(ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        ..ContainerStateTerminated::default()
    })
}

pub(super) const LOST_AT_END: &str = "The container could not be located when the pod was terminated";

/// Statuses of one list of containers: application and ephemeral ones by name, init containers in their order.
pub(super) fn statuses(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    list: &[Container],
    old: &[ContainerStatus],
) -> Vec<ContainerStatus> {
    let mut out: Vec<ContainerStatus> = list.iter().map(|c| status(inputs, kind, c, old)).collect();
    if kind != ContainerKind::Init {
        out.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

fn status(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    old: &[ContainerStatus],
) -> ContainerStatus {
    let old = old.iter().find(|s| s.name == container.name);
    let mut ours = inputs
        .state
        .view
        .containers
        .iter()
        .filter(|c| c.name == container.name);
    let (latest, previous) = (ours.next(), ours.next());
    let mut status = match latest {
        Some(latest) => converted(inputs, container, latest, old),
        None => missing(inputs, kind, container, old),
    };
    if let Some(previous) = previous {
        status.last_state = Some(phase_state(inputs, previous));
    }
    status.volume_mounts = mounts(container);
    if kind != ContainerKind::Ephemeral && latest.is_some() {
        let resources = container.resources.clone().unwrap_or_default();
        status.allocated_resources = resources.requests.clone().filter(|r| !r.is_empty());
        // A running container has what was applied to it last, which may lag behind what is asked for.
        let running = latest.filter(|l| l.phase.is_running());
        let applied = running
            .and_then(|l| resize::applied(inputs.state, l))
            .unwrap_or(resources);
        status.resources = Some(ResourceRequirements {
            claims: None,
            ..applied
        });
    }
    if latest.is_some() {
        status.stop_signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone());
    }
    override_waiting(inputs, kind, container, latest.is_some(), &mut status);
    readiness(inputs, kind, container, latest, &mut status);
    status
}

/// A container that the runtime has nothing of.
fn missing(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let has_init = !spec::init_containers(spec::spec(inputs.pod)).is_empty();
    let reason = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, None)),
        last_state: Some(ContainerState::default()),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    let old_state = old.state.clone().unwrap_or_default();
    if old_state.terminated.is_some() {
        return ContainerStatus {
            ready: false,
            started: None,
            ..old.clone()
        };
    }
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone().or(status.last_state);
    let has_last = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if old_state.running.is_some() && !has_last && kind != ContainerKind::Ephemeral {
        // It ran and is gone: that is an end, even if nobody saw it.
        let message =
            "The container could not be located when the pod was deleted.  The container used to be Running";
        status.last_state = Some(lost(message));
        if !spec::is_deleted(inputs.pod) {
            status.restart_count += 1;
        }
    }
    status
}

fn converted(
    inputs: &StatusInputs<'_>,
    container: &Container,
    latest: &runtime::ContainerState,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let noted = |key: &str| latest.annotations.get(key).filter(|v| !v.is_empty()).cloned();
    let last = old.and_then(|o| {
        let id = container_id(inputs, latest);
        let state = o
            .state
            .as_ref()
            .filter(|s| s.terminated.is_some() && o.container_id.as_ref() != Some(&id));
        state
            .or(o.last_state.as_ref().filter(|s| s.terminated.is_some()))
            .cloned()
    });
    let mut state = phase_state(inputs, latest);
    let mut restarts = i32::try_from(latest.attempt).unwrap_or(i32::MAX);
    if latest.phase == ContainerPhase::Unknown
        && old
            .and_then(|o| o.state.as_ref())
            .is_some_and(|s| s.running.is_some())
    {
        state = lost(LOST_AT_END);
        restarts = restarts.saturating_add(1);
    }
    ContainerStatus {
        name: container.name.clone(),
        image: noted(IMAGE_NAME).unwrap_or_else(|| latest.image.clone()),
        image_id: noted(IMAGE_REF).unwrap_or_else(|| latest.image_id.clone()),
        container_id: Some(container_id(inputs, latest)),
        restart_count: restarts,
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn container_id(inputs: &StatusInputs<'_>, container: &runtime::ContainerState) -> String {
    format!("{}://{}", inputs.runtime_name, container.id)
}

fn phase_state(inputs: &StatusInputs<'_>, container: &runtime::ContainerState) -> ContainerState {
    match &container.phase {
        ContainerPhase::Running { started_at, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(time(*started_at)),
            }),
            ..ContainerState::default()
        },
        ContainerPhase::Exited(exit) => {
            let told = inputs
                .messages
                .get(&container.id)
                .filter(|m| !m.is_empty())
                .cloned();
            let message = told.or_else(|| Some(exit.message.clone()).filter(|m| !m.is_empty()));
            // A container that never started has no start; the API's zero time is the epoch there.
            let started = exit.started_at.unwrap_or(Timestamp::UNIX_EPOCH);
            terminated(ContainerStateTerminated {
                exit_code: exit.code,
                reason: Some(exit.reason.as_str().into()),
                message,
                started_at: Some(time(started)),
                finished_at: Some(time(exit.finished_at)),
                container_id: Some(container_id(inputs, container)),
                signal: None,
            })
        }
        ContainerPhase::Created | ContainerPhase::Unknown => waiting("", None),
    }
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let of = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|ro| *ro),
        recursive_read_only: (m.read_only == Some(true)).then(|| {
            let asked = m.recursive_read_only.as_deref().unwrap_or("Disabled");
            if matches!(asked, "Enabled" | "IfPossible") {
                "Enabled"
            } else {
                "Disabled"
            }
            .to_owned()
        }),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(of).collect())
}

/// A container that is about to be started says why it is not running yet.
fn override_waiting(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    known: bool,
    status: &mut ContainerStatus,
) {
    let state = status.state.clone().unwrap_or_default();
    if kind == ContainerKind::Init {
        if known
            && state.terminated.as_ref().is_some_and(|t| t.exit_code == 0)
            && !spec::is_sidecar(container)
        {
            return;
        }
        let view = &inputs.state.view;
        let app_made = spec::spec(inputs.pod)
            .containers
            .iter()
            .any(|c| view.latest(&c.name).is_some());
        if !known && app_made && !spec::is_sidecar(container) && state.waiting.is_some() {
            let message = "Unable to get init container status from container runtime and pod has been initialized, \
                           treat it as exited normally";
            status.state = Some(terminated(ContainerStateTerminated {
                exit_code: 0,
                reason: Some("Completed".into()),
                message: Some(message.into()),
                ..ContainerStateTerminated::default()
            }));
            return;
        }
    }
    let Some(failure) = inputs.state.failures.get(&container.name) else {
        return;
    };
    if !should_start(inputs.state, inputs.pod, container) {
        return;
    }
    if state.terminated.is_some() {
        status.last_state = Some(state);
    }
    status.state = Some(waiting(
        &failure.reason,
        Some(failure.message.clone()).filter(|m| !m.is_empty()),
    ));
}

/// `started` and `ready`, from the probes.
fn readiness(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    latest: Option<&runtime::ContainerState>,
    status: &mut ContainerStatus,
) {
    if kind == ContainerKind::Ephemeral {
        return;
    }
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let probes = latest.map(|l| inputs.state.probes.of(&l.id)).unwrap_or_default();
    let started = running && (container.startup_probe.is_none() || probes.startup == Some(true));
    status.started = Some(started);
    if kind == ContainerKind::Init && !spec::is_sidecar(container) {
        let ended = status.state.as_ref().and_then(|s| s.terminated.as_ref());
        status.ready = ended.is_some_and(|t| t.exit_code == 0);
        return;
    }
    status.ready = started && (container.readiness_probe.is_none() || probes.readiness == Some(true));
}
