//! Init containers and sidecars: which is next (KEP-753).

use super::{Action, KillReason, PodState, doomed, kill, should_start, spec};
use crate::runtime::ContainerPhase;
use k8s_openapi::api::core::v1::Pod;

/// What the init containers need.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InitPlan {
    /// Indices to start, in order.
    pub start: Vec<usize>,
    /// Containers to kill first.
    pub kill: Vec<Action>,
    /// The ordinary containers may run.
    pub initialized: bool,
    /// Initialization failed for good.
    pub failed: bool,
}

/// Looks from the last init container to the first: the newest that has run tells how far initialization has come,
/// since what came before may already be forgotten by the runtime.
pub(super) fn plan(state: &PodState, pod: &Pod) -> InitPlan {
    let spec = spec::spec(pod);
    let list = spec::init_containers(spec);
    let mut plan = InitPlan {
        initialized: list.is_empty(),
        ..InitPlan::default()
    };
    // A container that runs has been initialized for. One that has ended may be of an earlier sandbox.
    let runs = |name: &str| state.view.latest(name).is_some_and(|c| c.phase.is_running());
    plan.initialized |= spec.containers.iter().any(|c| runs(&c.name));
    let mut later_has_run = plan.initialized;
    let sandbox = state.view.sandbox().map(|s| &s.id);
    for (index, container) in list.iter().enumerate().rev() {
        let sidecar = spec::is_sidecar(container);
        // What ran in an earlier sandbox initialized that one.
        let latest = state
            .view
            .latest(&container.name)
            .filter(|c| Some(&c.sandbox) == sandbox || later_has_run);
        let Some(latest) = latest else {
            if later_has_run && sidecar {
                plan.start.push(index);
            }
            continue;
        };
        if later_has_run && !sidecar {
            continue;
        }
        let done = |plan: &mut InitPlan| {
            if index + 1 == list.len() {
                plan.initialized = true;
            } else if !later_has_run {
                plan.start.push(index + 1);
            }
        };
        match &latest.phase {
            ContainerPhase::Running { .. } if !sidecar => {}
            ContainerPhase::Running { .. } => {
                let probes = state.probes.of(&latest.id);
                let started = container.startup_probe.is_none() || probes.startup == Some(true);
                if started {
                    done(&mut plan);
                }
                let fate = doomed(state, container, latest, "Init container");
                if let Some((message, reason, _)) = fate {
                    plan.kill.push(kill(latest, message, reason, true));
                }
            }
            ContainerPhase::Exited(_) if sidecar => plan.start.push(index),
            ContainerPhase::Exited(exit) if exit.code == 0 => done(&mut plan),
            ContainerPhase::Exited(_) => {
                if !should_start(state, pod, container) {
                    return InitPlan {
                        failed: true,
                        ..InitPlan::default()
                    };
                }
                plan.start.push(index);
            }
            ContainerPhase::Created => plan.start.push(index),
            ContainerPhase::Unknown => {
                if !sidecar && !spec::restarts_after_kill(container, spec) {
                    return InitPlan {
                        failed: true,
                        ..InitPlan::default()
                    };
                }
                let message =
                    "Init container is in \"unknown\" state, try killing it before restart".to_owned();
                plan.kill.push(kill(latest, message, KillReason::Other, true));
                plan.start.push(index);
            }
        }
        later_has_run = true;
    }
    if !later_has_run && !list.is_empty() {
        plan.start.push(0);
    }
    plan.start.reverse();
    plan
}
