//! Rollout progress of what was applied: bars on a terminal, a line per change otherwise.

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Service};
use orch::apply::Applied;
use orch_core::{Api, ApiClient, Env, ObjectKey, informer::SharedInformers, spawn::Shutdown};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::Arc,
};
use tokio::sync::Notify;

const BAR_WIDTH: usize = 30;

/// How far one rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    done: i32,
    of: i32,
    note: String,
    finished: bool,
}

fn deployment_step(deployment: &Deployment) -> Step {
    let of = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let observed = status.observed_generation >= deployment.metadata.generation;
    let stuck = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    let total = status.replicas.unwrap_or(0);
    Step {
        done: updated.min(available),
        of,
        note: stuck.and_then(|c| c.message.clone()).unwrap_or_default(),
        finished: stuck.is_some() || (observed && updated == of && available == of && total == of),
    }
}

fn job_step(job: &Job) -> Step {
    let of = job.spec.as_ref().and_then(|s| s.completions).unwrap_or(1);
    let status = job.status.clone().unwrap_or_default();
    let ended = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"));
    let failed = ended
        .filter(|c| c.type_ == "Failed")
        .and_then(|c| c.message.clone());
    Step {
        done: status.succeeded.unwrap_or(0),
        of,
        note: failed.unwrap_or_default(),
        finished: ended.is_some(),
    }
}

/// Follows the rollouts among `applied` until each is done or stuck, or until `stop`.
pub(crate) async fn follow(env: &Env, client: Arc<dyn ApiClient>, applied: &[Applied], stop: &Shutdown) {
    let shutdown = Shutdown::new();
    let informers = SharedInformers::new(env, client, &shutdown);
    let wake = Arc::new(Notify::new());
    let of_kind = |kind: &str| -> Vec<ObjectKey> {
        let same = applied.iter().filter(|a| a.kind == kind);
        same.map(|a| ObjectKey::new(a.namespace.clone(), a.name.clone()))
            .collect()
    };
    let (deployments, jobs) = (of_kind("Deployment"), of_kind("Job"));
    if deployments.is_empty() && jobs.is_empty() {
        return;
    }
    let notify = wake.clone();
    informers
        .informer::<Deployment>()
        .on_change(move |_| notify.notify_one());
    let notify = wake.clone();
    informers
        .informer::<Job>()
        .on_change(move |_| notify.notify_one());
    let (deployment_lister, job_lister) = (informers.lister::<Deployment>(), informers.lister::<Job>());
    informers.wait_synced().await;
    let mut screen = Screen::new();
    loop {
        let mut steps = BTreeMap::new();
        for key in &deployments {
            if let Some(deployment) = deployment_lister.get(key) {
                steps.insert(format!("deployment/{}", key.name), deployment_step(&deployment));
            }
        }
        for key in &jobs {
            if let Some(job) = job_lister.get(key) {
                steps.insert(format!("job/{}", key.name), job_step(&job));
            }
        }
        screen.show(&steps);
        if steps.values().all(|s| s.finished) {
            break;
        }
        tokio::select! {
            () = wake.notified() => {}
            () = stop.wait() => break,
        }
    }
    shutdown.trigger();
}

struct Screen {
    terminal: bool,
    shown: BTreeMap<String, Step>,
}

impl Screen {
    fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            shown: BTreeMap::new(),
        }
    }

    fn show(&mut self, steps: &BTreeMap<String, Step>) {
        if *steps == self.shown {
            return;
        }
        let mut out = std::io::stdout().lock();
        if self.terminal && !self.shown.is_empty() {
            // Back to the first bar.
            let _ = write!(out, "\x1b[{}A", self.shown.len());
        }
        for (name, step) in steps {
            let Step {
                done,
                of,
                note,
                finished,
            } = step;
            let end = match (finished, note.is_empty()) {
                (true, true) => "done".to_owned(),
                (_, false) => note.clone(),
                _ => String::new(),
            };
            if self.terminal {
                let full = BAR_WIDTH * usize::try_from(*done).unwrap_or(0)
                    / usize::try_from((*of).max(1)).unwrap_or(1);
                let full = full.min(BAR_WIDTH);
                let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR_WIDTH - full));
                let _ = writeln!(out, "\x1b[2K  {name:<30} {bar} {done}/{of} {end}");
            } else if self.shown.get(name) != Some(step) {
                let _ = writeln!(out, "  {name}: {done}/{of} ready {end}");
            }
        }
        let _ = out.flush();
        self.shown.clone_from(steps);
    }
}

/// The addresses at which the Services among `applied` answer.
pub(crate) async fn addresses(client: &Arc<dyn ApiClient>, applied: &[Applied]) -> Vec<String> {
    let mut lines = Vec::new();
    for service in applied.iter().filter(|a| a.kind == "Service") {
        let api = Api::<Service>::namespaced(client.clone(), service.namespace.clone());
        let Ok(object) = api.get(&service.name).await else {
            continue;
        };
        let Some(spec) = &object.spec else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        for port in spec.ports.iter().flatten() {
            let scheme = if port.port == 443 { "https" } else { "http" };
            let (name, namespace, number) = (&service.name, &service.namespace, port.port);
            if port.protocol.as_deref().unwrap_or("TCP") == "TCP" && ip != "None" {
                lines.push(format!("service/{name}: {scheme}://{ip}:{number}  (in pods: {scheme}://{name}.{namespace}:{number})"));
            }
        }
    }
    lines
}
