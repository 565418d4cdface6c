//! The phase of a pod, from the states of its containers.

use crate::agent::spec::{self, is_sidecar, should_restart};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

pub(super) fn state(status: &ContainerStatus) -> ContainerState {
    status.state.clone().unwrap_or_default()
}

/// Exit code of the state that counts as the container's end: terminated now, or waiting after a termination.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let now = state(status);
    if let Some(terminated) = now.terminated {
        return Some(terminated.exit_code);
    }
    now.waiting.as_ref()?;
    Some(status.last_state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// `Pending`, `Running`, `Succeeded` or `Failed`. `over`: no container of the pod will be started any more.
/// `was_initialized`: an ordinary container of the present sandbox has been started.
#[must_use]
pub fn phase(
    pod: &Pod,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
    over: bool,
    was_initialized: bool,
) -> &'static str {
    let spec = spec::spec(pod);
    let find = |list: &'_ [ContainerStatus], name: &str| list.iter().find(|s| s.name == name).cloned();
    let (mut pending_init, mut pending_sidecars, mut init_failed) = (0, 0, false);
    let (mut unknown, mut running, mut waiting) = (0, 0, 0);
    for container in spec::init_containers(spec) {
        let status = find(init, &container.name);
        let Some(status) = status else {
            if is_sidecar(container) {
                unknown += 1;
            } else {
                pending_init += 1;
            }
            continue;
        };
        let now = state(&status);
        if is_sidecar(container) {
            // One that has ended says nothing about the pod.
            if now.running.is_some() {
                running += 1;
                pending_sidecars += u32::from(status.started != Some(true));
            } else if ended(&status).is_none() {
                pending_sidecars += 1;
                if now.waiting.is_some() {
                    waiting += 1;
                } else {
                    unknown += 1;
                }
            }
            continue;
        }
        match ended(&status) {
            None => pending_init += 1,
            Some(0) if now.terminated.is_some() => {}
            Some(0) => {}
            Some(code) => init_failed |= !should_restart(container, spec, code),
        }
    }
    let (mut stopped, mut final_, mut succeeded) = (0, 0, 0);
    for container in &spec.containers {
        let Some(status) = find(app, &container.name) else {
            unknown += 1;
            continue;
        };
        let now = state(&status);
        match ended(&status) {
            _ if now.running.is_some() => running += 1,
            Some(code) => {
                stopped += 1;
                final_ += u32::from(!should_restart(container, spec, code));
                succeeded += u32::from(now.terminated.is_some() && code == 0);
            }
            None if now.waiting.is_some() => waiting += 1,
            None => unknown += 1,
        }
    }
    if init_failed {
        return "Failed";
    }
    if pending_init > 0 || (pending_sidecars > 0 && !was_initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        return match () {
            () if !over && stopped != final_ => "Running",
            () if stopped == succeeded => "Succeeded",
            () => "Failed",
        };
    }
    "Pending"
}
