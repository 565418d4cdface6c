//! Simulated containers.

use super::{
    Behaviour, Container, ContainerId, ContainerPhase, ContainerState, Exit, ExitReason, Result,
    RuntimeError, RuntimeEvent, SandboxId, SimRuntime, script,
};
use crate::runtime::{ContainerRuntime, ContainerSpec, ImageService, Resources};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio::sync::{broadcast, oneshot, watch};

#[async_trait]
impl ContainerRuntime for SimRuntime {
    async fn create(&self, sandbox: &SandboxId, spec: &ContainerSpec) -> Result<ContainerId> {
        if spec.name.is_empty() {
            return Err(RuntimeError::invalid("name", "must not be empty"));
        }
        let image = self.image(&spec.image).await?;
        let image = image.ok_or_else(|| RuntimeError::ImageNotPresent {
            image: spec.image.clone(),
        })?;
        let id = ContainerId(self.new_id());
        let mut state = self.state.lock();
        let parent = state
            .sandboxes
            .get(sandbox)
            .ok_or_else(|| RuntimeError::no_sandbox(sandbox))?;
        if !parent.state.ready {
            return Err(RuntimeError::WrongState {
                what: format!("sandbox {sandbox}"),
                state: "not ready".into(),
            });
        }
        let mut words = spec.command.clone();
        words.extend(spec.args.iter().cloned());
        let annotations = &parent.spec.annotations;
        let behaviour = Behaviour::of_command(&words, None).with_annotations(annotations, &spec.name);
        let behaviour = missing_program(&words)
            .map(|e| Behaviour {
                start_error: Some(e),
                ..behaviour.clone()
            })
            .unwrap_or(behaviour);
        let exec_code = script::annotation(annotations, &spec.name, "exec-code").and_then(|v| v.parse().ok());
        let pod_uid = parent.spec.pod.uid.clone();
        let taken = |c: &Container| {
            c.pod_uid == pod_uid && c.state.name == spec.name && c.state.attempt == spec.attempt
        };
        if state.containers.values().any(taken) {
            return Err(RuntimeError::AlreadyExists {
                what: format!("container {} attempt {}", spec.name, spec.attempt),
            });
        }
        let container = Container {
            state: ContainerState {
                id: id.clone(),
                sandbox: sandbox.clone(),
                name: spec.name.clone(),
                attempt: spec.attempt,
                image: spec.image.clone(),
                image_id: image.id,
                labels: spec.labels.clone(),
                annotations: spec.annotations.clone(),
                created_at: self.env.clock.now(),
                phase: ContainerPhase::Created,
                log_path: spec.log_path.clone(),
            },
            behaviour,
            exec_code: exec_code.unwrap_or(0),
            tty: spec.tty,
            stdin: spec.stdin,
            starting: false,
            pod_uid,
            write_log: self.options.write_logs && !spec.log_path.as_os_str().is_empty(),
            ended: watch::channel(false).0,
            output: broadcast::channel(256).0,
        };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        {
            let mut state = self.state.lock();
            let container = state
                .containers
                .get_mut(id)
                .ok_or_else(|| RuntimeError::no_container(id))?;
            if container.starting || container.state.phase != ContainerPhase::Created {
                return Err(wrong_state(id, &container.state.phase));
            }
            container.starting = true;
        }
        // In a task of its own, so that a caller who goes away leaves no container half started.
        let (done, outcome) = oneshot::channel();
        let (this, id) = (self.this.upgrade().ok_or_else(gone)?, id.clone());
        self.env.spawner.spawn(
            "sim-start",
            Box::pin(async move { drop(done.send(this.begin(&id).await)) }),
        );
        outcome.await.map_err(|_| gone())?
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let (mut ended, delay, code) = {
            let state = self.state.lock();
            let Some(container) = state.containers.get(id) else {
                return Ok(());
            };
            if !container.state.phase.is_running() {
                return Ok(());
            }
            let graceful = container.behaviour.stop_delay.filter(|delay| *delay < grace);
            let (delay, code) = graceful.map_or((grace, 137), |delay| (delay, container.behaviour.stop_code));
            (container.ended.subscribe(), delay, code)
        };
        if delay.is_zero() {
            self.end(id, code, false);
        } else {
            let (this, id) = (self.this.upgrade().ok_or_else(gone)?, id.clone());
            self.env.spawner.spawn(
                "sim-stop",
                Box::pin(async move {
                    this.env.clock.sleep(delay).await;
                    this.end(&id, code, false);
                }),
            );
        }
        // A container removed meanwhile has ended too.
        drop(ended.wait_for(|ended| *ended).await);
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.stop(id, Duration::ZERO).await?;
        self.state.lock().containers.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerState>> {
        Ok(self
            .state
            .lock()
            .containers
            .values()
            .map(|c| c.state.clone())
            .collect())
    }

    async fn update(&self, id: &ContainerId, _: &Resources) -> Result<()> {
        let state = self.state.lock();
        let container = state
            .containers
            .get(id)
            .ok_or_else(|| RuntimeError::no_container(id))?;
        match container.state.phase {
            ContainerPhase::Created | ContainerPhase::Running { .. } => Ok(()),
            ref phase => Err(wrong_state(id, phase)),
        }
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let state = self.state.lock();
        let container = state
            .containers
            .get(id)
            .ok_or_else(|| RuntimeError::no_container(id))?;
        if container.state.phase.is_running() {
            Ok(())
        } else {
            Err(wrong_state(id, &container.state.phase))
        }
    }
}

/// The error of an operation that does not fit the phase.
pub(super) fn wrong_state(id: &ContainerId, phase: &ContainerPhase) -> RuntimeError {
    let state = match phase {
        ContainerPhase::Created => "created",
        ContainerPhase::Running { .. } => "running",
        ContainerPhase::Exited(_) => "exited",
        ContainerPhase::Unknown => "unknown",
    };
    RuntimeError::WrongState {
        what: format!("container {id}"),
        state: state.into(),
    }
}

/// A program under `/nonexistent` cannot be started, as on any machine.
pub(super) fn missing_program(words: &[String]) -> Option<String> {
    let program = words.first().filter(|p| p.starts_with("/nonexistent"))?;
    Some(format!(
        "exec: {program:?}: stat {program}: no such file or directory"
    ))
}

fn gone() -> RuntimeError {
    RuntimeError::Unavailable {
        reason: "the simulated machine is gone".into(),
        source: None,
    }
}

impl SimRuntime {
    async fn begin(self: &Arc<Self>, id: &ContainerId) -> Result<()> {
        let behaviour = {
            let state = self.state.lock();
            state
                .containers
                .get(id)
                .ok_or_else(|| RuntimeError::no_container(id))?
                .behaviour
                .clone()
        };
        self.env.clock.sleep(behaviour.start_delay).await;
        let now = self.env.clock.now();
        let pod_uid = {
            let mut state = self.state.lock();
            let container = state
                .containers
                .get_mut(id)
                .ok_or_else(|| RuntimeError::no_container(id))?;
            container.starting = false;
            if let Some(reason) = behaviour.start_error.clone() {
                container.state.phase = ContainerPhase::Exited(Exit {
                    code: 128,
                    reason: ExitReason::StartError,
                    message: reason.clone(),
                    started_at: None,
                    finished_at: now,
                });
                container.ended.send_replace(true);
                let pod_uid = container.pod_uid.clone();
                drop(state);
                self.emit(RuntimeEvent::Exited {
                    id: id.clone(),
                    pod_uid,
                });
                return Err(RuntimeError::StartFailed { reason });
            }
            container.state.phase = ContainerPhase::Running {
                started_at: now,
                pid: None,
            };
            container.pod_uid.clone()
        };
        self.emit(RuntimeEvent::Started {
            id: id.clone(),
            pod_uid,
        });
        if !behaviour.steps.is_empty() || behaviour.exit.is_some() {
            let (this, id) = (self.clone(), id.clone());
            self.env.spawner.spawn(
                "sim-process",
                Box::pin(async move { this.live(&id, behaviour).await }),
            );
        }
        Ok(())
    }
}
