//! Running the probes of a pod: a task each, on the clock, driven by changes of its container.

use super::{Outcome, ProbeKind, ProbeResults, ProbeTransport, Subject, Tracker, http_target, port_of};
use crate::{
    agent::backoff::go_duration,
    env::expand,
    runtime::{ContainerId, Runtime, RuntimeError},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use orch_core::{Env, spawn::TaskHandle};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, watch};

/// The running container that a probe is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Container.
    pub id: ContainerId,
    /// When it started.
    pub started_at: Timestamp,
    /// Its startup probe has succeeded, or it has none.
    pub started: bool,
    /// Primary address of the pod; of the node with the host's network.
    pub pod_ip: String,
    /// The API says that this very container has started (before this agent did).
    pub was_started: bool,
    /// The API says that this very container is ready.
    pub was_ready: bool,
}

type Tell = Arc<dyn Fn(&str, bool, &'static str, String) + Send + Sync>;

/// Tells a probe of its container, and ends it.
type ProbeTask = (watch::Sender<Option<ProbeTarget>>, TaskHandle);

/// The probes of one pod.
pub struct ProbeSet {
    env: Env,
    runtime: Arc<dyn Runtime>,
    transport: Arc<dyn ProbeTransport>,
    pod_uid: String,
    results: Arc<Mutex<ProbeResults>>,
    changed: Arc<Notify>,
    tell: Tell,
    tasks: BTreeMap<(String, ProbeKind), ProbeTask>,
}

impl std::fmt::Debug for ProbeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.tasks.keys()).finish()
    }
}

impl Drop for ProbeSet {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

impl ProbeSet {
    /// No probes yet. `changed` is notified when a result changes; `tell` records an event about a container: its name,
    /// whether it is a warning, reason, message.
    pub fn new(
        env: Env,
        runtime: Arc<dyn Runtime>,
        transport: Arc<dyn ProbeTransport>,
        pod_uid: impl Into<String>,
        changed: Arc<Notify>,
        tell: impl Fn(&str, bool, &'static str, String) + Send + Sync + 'static,
    ) -> Self {
        Self {
            env,
            runtime,
            transport,
            pod_uid: pod_uid.into(),
            results: Arc::default(),
            changed,
            tell: Arc::new(tell),
            tasks: BTreeMap::new(),
        }
    }

    /// What the probes say now.
    #[must_use]
    pub fn results(&self) -> ProbeResults {
        self.results.lock().clone()
    }

    /// Forgets what was said about a container that is gone.
    pub fn forget(&self, id: &ContainerId) {
        self.results.lock().forget(id);
    }

    /// Probes a container if it has probes: `target` is the running one, `None` while there is none.
    pub fn update(&mut self, container: &Container, target: Option<&ProbeTarget>) {
        let probes = [
            (ProbeKind::Startup, &container.startup_probe),
            (ProbeKind::Liveness, &container.liveness_probe),
            (ProbeKind::Readiness, &container.readiness_probe),
        ];
        for (kind, probe) in probes {
            let Some(probe) = probe else { continue };
            let key = (container.name.clone(), kind);
            let before = self
                .tasks
                .get(&key)
                .and_then(|(sender, _)| sender.borrow().as_ref().map(|t| t.id.clone()));
            if let Some(target) = target.filter(|t| before.as_ref() != Some(&t.id)) {
                // Known at once, so that a container that was ready does not cease to be while nobody has asked it yet.
                let initial = match kind {
                    ProbeKind::Startup => target.was_started.then_some(true),
                    ProbeKind::Liveness => None,
                    ProbeKind::Readiness => Some(target.was_ready),
                };
                self.results.lock().set(&target.id, kind, initial);
            }
            if let Some((sender, _)) = self.tasks.get(&key) {
                sender.send_if_modified(|now| {
                    let changed = now.as_ref() != target;
                    *now = target.cloned();
                    changed
                });
                continue;
            }
            if target.is_none() {
                continue;
            }
            let (sender, targets) = watch::channel(target.cloned());
            let worker = Worker {
                env: self.env.clone(),
                runtime: self.runtime.clone(),
                transport: self.transport.clone(),
                subject: Subject {
                    pod_uid: self.pod_uid.clone(),
                    container: container.name.clone(),
                },
                kind,
                container: container.clone(),
                probe: probe.clone(),
                results: self.results.clone(),
                changed: self.changed.clone(),
                tell: self.tell.clone(),
                targets,
            };
            let task = self.env.spawner.spawn("probe", Box::pin(worker.run()));
            self.tasks.insert(key, (sender, task));
        }
    }

    /// Ends the probes that restart containers, for a pod on its way out; readiness goes on.
    pub fn stop_restarting(&mut self) {
        self.tasks.retain(|(_, kind), (_, task)| {
            let keep = *kind == ProbeKind::Readiness;
            if !keep {
                task.abort();
            }
            keep
        });
    }
}

struct Worker {
    env: Env,
    runtime: Arc<dyn Runtime>,
    transport: Arc<dyn ProbeTransport>,
    subject: Subject,
    kind: ProbeKind,
    container: Container,
    probe: Probe,
    results: Arc<Mutex<ProbeResults>>,
    changed: Arc<Notify>,
    tell: Tell,
    targets: watch::Receiver<Option<ProbeTarget>>,
}

fn seconds(n: Option<i32>, least: u64, default: u64) -> Duration {
    Duration::from_secs(n.map_or(default, |n| u64::try_from(n).unwrap_or(0)).max(least))
}

impl Worker {
    fn set(&self, id: &ContainerId, result: Option<bool>) {
        if self.results.lock().set(id, self.kind, result) {
            self.changed.notify_one();
        }
    }

    async fn run(mut self) {
        let mut tracker = Tracker::default();
        let mut current: Option<ContainerId> = None;
        let mut held = false;
        loop {
            let target = self.targets.borrow_and_update().clone();
            let Some(target) = target else {
                current = None;
                if self.targets.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if current.as_ref() != Some(&target.id) {
                current = Some(target.id.clone());
                tracker.reset();
                held = self.kind == ProbeKind::Startup && target.was_started;
            }
            // The startup probe goes first and then rests; the others wait for it.
            if held || (self.kind != ProbeKind::Startup && !target.started) {
                if self.targets.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let due = seconds(self.probe.initial_delay_seconds, 0, 0);
            let since = crate::agent::backoff::elapsed(target.started_at, self.env.clock.now());
            if since < due && !self.wait(due - since, &target.id).await {
                continue;
            }
            if let Some(result) = self.once(&target).await {
                let up = u32::try_from(self.probe.success_threshold.unwrap_or(1)).unwrap_or(1);
                let down = u32::try_from(self.probe.failure_threshold.unwrap_or(3)).unwrap_or(3);
                if let Some(state) = tracker.observe(result, up, down) {
                    self.set(&target.id, Some(state));
                    // It will be restarted, or has started: either way this probe is done with this container.
                    held = self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !state);
                    if held {
                        continue;
                    }
                }
            }
            self.wait(seconds(self.probe.period_seconds, 1, 10), &target.id)
                .await;
        }
    }

    /// Waits; `false` if the container changed meanwhile.
    async fn wait(&mut self, time: Duration, id: &ContainerId) -> bool {
        let end = self.env.clock.monotonic() + time;
        loop {
            tokio::select! {
                () = self.env.clock.sleep_until(end) => return true,
                changed = self.targets.changed() => {
                    let same = self.targets.borrow().as_ref().is_some_and(|t| t.id == *id);
                    if changed.is_err() || !same {
                        return false;
                    }
                }
            }
        }
    }

    /// One probe; `None` if it says nothing.
    async fn once(&self, target: &ProbeTarget) -> Option<bool> {
        let outcome = self.probe(target).await;
        let tell = |reason, message| (self.tell)(&self.container.name, true, reason, message);
        let kind = self.kind.as_str();
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(why) => {
                tell("ProbeWarning", format!("{kind} probe warning: {why}"));
                Some(true)
            }
            Outcome::Failure(why) => {
                tell("Unhealthy", format!("{kind} probe failed: {why}"));
                Some(false)
            }
            Outcome::Error(why) => {
                tell(
                    "Unhealthy",
                    format!("{kind} probe errored and resulted in unknown state: {why}"),
                );
                None
            }
        }
    }

    async fn probe(&self, target: &ProbeTarget) -> Outcome {
        let timeout = seconds(self.probe.timeout_seconds, 1, 1);
        let ip = &target.pod_ip;
        if let Some(exec) = &self.probe.exec {
            let env = self.container.env.as_deref().unwrap_or_default();
            let lookup = |name: &str| {
                let found = env.iter().find(|v| v.name == name && v.value_from.is_none());
                found.map(|v| v.value.clone().unwrap_or_default())
            };
            let command: Vec<String> = exec.command.iter().flatten().map(|w| expand(w, lookup)).collect();
            return match self.runtime.exec_sync(&target.id, &command, Some(timeout)).await {
                Ok(out) if out.code == 0 => Outcome::Success,
                Ok(out) => {
                    let mut text = out.stdout;
                    text.extend(out.stderr);
                    text.truncate(10 * 1024);
                    Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
                }
                Err(RuntimeError::Timeout { .. }) => {
                    let line = command.join(" ");
                    Outcome::Failure(format!(
                        "command timed out: {line:?} timed out after {}",
                        go_duration(timeout)
                    ))
                }
                Err(RuntimeError::StartFailed { reason }) => Outcome::Failure(reason),
                Err(error) => Outcome::Error(error.to_string()),
            };
        }
        if let Some(action) = &self.probe.http_get {
            return match http_target(action, &self.container, ip, "kube-probe") {
                Ok(to) => self.transport.http(&self.subject, &to, timeout).await,
                Err(why) => Outcome::Error(why),
            };
        }
        if let Some(action) = &self.probe.tcp_socket {
            let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
            return match port_of(&action.port, &self.container) {
                Ok(port) => self.transport.tcp(&self.subject, host, port, timeout).await,
                Err(why) => Outcome::Error(why),
            };
        }
        if let Some(action) = &self.probe.grpc {
            let service = action.service.as_deref().unwrap_or("");
            return match u16::try_from(action.port) {
                Ok(port) => {
                    self.transport
                        .grpc(&self.subject, ip, port, service, timeout)
                        .await
                }
                Err(_) => Outcome::Error(format!("invalid port number: {}", action.port)),
            };
        }
        Outcome::Error("missing probe handler".into())
    }
}
