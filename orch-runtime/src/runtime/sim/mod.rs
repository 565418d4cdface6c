//! A runtime that runs no process and keeps the contract: starts, exits and failures happen as commands and
//! annotations tell (see [`script`]), on the clock of its [`Env`]. With a virtual clock it is deterministic.
//!
//! It outlives the agents that use it, as a machine outlives its agent: keep the `Arc` to simulate an agent's restart.

mod containers;
mod images;
mod process;
mod sandboxes;
pub mod script;
mod streams;

use super::{
    ContainerId, ContainerPhase, ContainerState, ContainerStats, Exit, ExitReason, Image, Observe, Result,
    RuntimeError, RuntimeEvent, RuntimeInfo, SandboxId, SandboxSpec, SandboxState,
};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use orch_core::Env;
use parking_lot::Mutex;
use script::Behaviour;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{broadcast, watch};

/// Settings of a simulated runtime.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// Whether each reference counts as present without a pull. Otherwise only what was pulled or added is.
    pub all_images_present: bool,
    /// Time that a pull takes.
    pub pull_delay: Duration,
    /// References whose pull fails, by prefix.
    pub unpullable: BTreeSet<String>,
    /// Write the output of containers to their log files.
    pub write_logs: bool,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            all_images_present: false,
            pull_delay: Duration::ZERO,
            unpullable: BTreeSet::new(),
            write_logs: true,
        }
    }
}

/// The simulated runtime of one machine.
pub struct SimRuntime {
    env: Env,
    options: SimOptions,
    state: Mutex<State>,
    events: broadcast::Sender<RuntimeEvent>,
    // The background tasks of a container need the runtime itself.
    this: std::sync::Weak<Self>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    containers: BTreeMap<ContainerId, Container>,
    images: BTreeMap<String, Image>,
    not_ready: Option<String>,
}

struct Sandbox {
    state: SandboxState,
    spec: SandboxSpec,
}

struct Container {
    state: ContainerState,
    behaviour: Behaviour,
    exec_code: i32,
    tty: bool,
    stdin: bool,
    starting: bool,
    pod_uid: String,
    write_log: bool,
    /// True once ended.
    ended: watch::Sender<bool>,
    /// Output, for whoever is attached.
    output: broadcast::Sender<bytes::Bytes>,
}

impl SimRuntime {
    /// An empty machine.
    #[must_use]
    pub fn new(env: Env, options: SimOptions) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            env,
            options,
            state: Mutex::default(),
            events: broadcast::channel(1024).0,
            this: this.clone(),
        })
    }

    /// Makes the runtime say that it is not ready, or ready again with `None`.
    pub fn set_not_ready(&self, reason: Option<String>) {
        self.state.lock().not_ready = reason;
    }

    /// Ends a running container with `code`, as if its process had exited. No effect if it does not run.
    pub fn exit_container(&self, id: &ContainerId, code: i32) {
        self.end(id, code, false);
    }

    /// Ends all and forgets that any sandbox was ready, as a power failure does. No event is sent.
    pub fn reboot(&self) {
        let now = self.env.clock.now();
        let mut state = self.state.lock();
        for container in state.containers.values_mut() {
            if let ContainerPhase::Running { started_at, .. } = container.state.phase {
                container.state.phase = ContainerPhase::Exited(Exit {
                    code: 255,
                    reason: ExitReason::Other("Unknown".into()),
                    message: String::new(),
                    started_at: Some(started_at),
                    finished_at: now,
                });
                container.ended.send_replace(true);
            }
        }
        for sandbox in state.sandboxes.values_mut() {
            sandbox.state.ready = false;
        }
    }

    /// Runs `change` on the phase of the container named `name` in the pod with `uid`, newest attempt; for tests.
    #[must_use]
    pub fn find(&self, pod_uid: &str, name: &str) -> Option<ContainerState> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .filter(|c| c.pod_uid == pod_uid && c.state.name == name)
            .max_by_key(|c| c.state.attempt)
            .map(|c| c.state.clone())
    }

    /// The value of a `sim.orch.dev/` annotation for a container of the pod with `uid`.
    #[must_use]
    pub fn annotation(&self, pod_uid: &str, container: &str, key: &str) -> Option<String> {
        let state = self.state.lock();
        let sandbox = state
            .sandboxes
            .values()
            .filter(|s| s.spec.pod.uid == pod_uid)
            .max_by_key(|s| s.spec.pod.attempt)?;
        script::annotation(&sandbox.spec.annotations, container, key).map(str::to_owned)
    }

    fn new_id(&self) -> String {
        (0..4)
            .map(|_| format!("{:016x}", self.env.rng.next_u64()))
            .collect()
    }

    fn emit(&self, event: RuntimeEvent) {
        // Nobody listening is fine.
        drop(self.events.send(event));
    }

    /// Marks a container as ended, if it runs.
    fn end(&self, id: &ContainerId, code: i32, oom: bool) {
        let finished_at = self.env.clock.now();
        let mut state = self.state.lock();
        let Some(container) = state.containers.get_mut(id) else {
            return;
        };
        let ContainerPhase::Running { started_at, .. } = container.state.phase else {
            return;
        };
        let reason = match code {
            _ if oom => ExitReason::OomKilled,
            0 => ExitReason::Completed,
            _ => ExitReason::Error,
        };
        container.state.phase = ContainerPhase::Exited(Exit {
            code,
            reason,
            message: String::new(),
            started_at: Some(started_at),
            finished_at,
        });
        container.ended.send_replace(true);
        let pod_uid = container.pod_uid.clone();
        drop(state);
        self.emit(RuntimeEvent::Exited {
            id: id.clone(),
            pod_uid,
        });
    }
}

impl std::fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimRuntime")
    }
}

#[async_trait]
impl Observe for SimRuntime {
    fn subscribe(&self) -> BoxStream<'static, RuntimeEvent> {
        futures::stream::unfold(self.events.subscribe(), |mut events| async move {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((RuntimeEvent::Lagged, events)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .boxed()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>> {
        let at = self.env.clock.now();
        let state = self.state.lock();
        let running = state.containers.values().filter(|c| c.state.phase.is_running());
        Ok(running
            .map(|c| ContainerStats {
                id: c.state.id.clone(),
                sandbox: c.state.sandbox.clone(),
                at,
                pids: 1,
                ..ContainerStats::default()
            })
            .collect())
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        Ok(RuntimeInfo {
            name: "sim".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            not_ready: self.state.lock().not_ready.clone(),
            network_not_ready: None,
        })
    }
}
