//! The worker of one pod: looks at the runtime, reports the status, asks [`super::step`] what to do, and does it.
//!
//! One task a pod. It sleeps until the object, the runtime, a probe or an alarm wakes it. Work that takes long is
//! dropped when the pod is deleted or its grace is shortened; every action may be done again.

mod end;
mod infra;
mod resize;
mod start;

use super::{
    context::{Context, PodHandle, PodInput},
    publish::Publisher,
    spec::{self, ContainerKind},
    status::{StatusInputs, pod_status},
    step::{Action, PodState, is_terminating, step},
    view::{PodView, TERMINATION_FILE, TERMINATION_POLICY},
};
use crate::{
    logs,
    probe::{ProbeSet, ProbeTarget},
    runtime::{ContainerId, ContainerPhase, ContainerState},
    volume::VolumePlan,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// The worker.
pub(crate) struct PodWorker {
    ctx: Arc<Context>,
    handle: PodHandle,
    input: watch::Receiver<PodInput>,
    pod: Arc<Pod>,
    state: PodState,
    /// The status reported last.
    status: PodStatus,
    publisher: Publisher,
    probes: ProbeSet,
    messages: BTreeMap<ContainerId, String>,
    plans: BTreeMap<String, VolumePlan>,
    infra_failures: u32,
    /// When a volume's content has to be looked at again.
    refresh_at: Option<Timestamp>,
    /// After something failed that no plan waits for.
    hold_until: Option<Timestamp>,
    hooked: Arc<Mutex<BTreeSet<ContainerId>>>,
    /// It had ended before this agent came: its status is left alone.
    settled: bool,
}

/// How a turn ended.
enum Turn {
    /// Look again at once.
    Again,
    /// Wait for a change, at most until then.
    Wait(Option<Timestamp>),
    /// The pod is gone.
    Gone,
}

impl PodWorker {
    pub(crate) fn new(
        ctx: Arc<Context>,
        handle: PodHandle,
        rejected: Option<super::admit::Rejection>,
    ) -> Self {
        let input = handle.input.subscribe();
        let pod = handle.pod();
        let status = spec::status(&pod).clone();
        let (about, teller) = (pod.clone(), ctx.clone());
        let tell = move |container: &str, warning, reason: &'static str, message: String| {
            let kind = spec::find_container(&about, container).map_or(ContainerKind::App, |(k, _, _)| k);
            teller.event_at(&about, Some((kind, container)), warning, reason, message);
        };
        let probes = ProbeSet::new(
            ctx.env.clone(),
            ctx.runtime.clone(),
            ctx.transport.clone(),
            spec::uid(&pod),
            handle.wake.clone(),
            tell,
        );
        let state = PodState {
            rejected: rejected.is_some(),
            failed: rejected.map(|r| (r.reason, r.message)),
            start_time: Some(
                status
                    .start_time
                    .as_ref()
                    .map_or_else(|| ctx.env.clock.now(), |t| t.0),
            ),
            limits: ctx.config.restart_backoff,
            ..PodState::default()
        };
        Self {
            publisher: Publisher::new(&ctx.env, ctx.client.clone()),
            settled: spec::is_terminal(status.phase.as_deref()),
            ctx,
            handle,
            input,
            pod,
            state,
            status,
            probes,
            messages: BTreeMap::new(),
            plans: BTreeMap::new(),
            infra_failures: 0,
            refresh_at: None,
            hold_until: None,
            hooked: Arc::default(),
        }
    }

    /// Works until the pod is gone or the agent shuts down; then its containers run on.
    pub(crate) async fn run(mut self) {
        let shutdown = self.ctx.shutdown.clone();
        let ctx = self.ctx.clone();
        let uid = spec::uid(&self.pod).to_owned();
        tokio::select! {
            () = shutdown.wait() => {}
            () = self.work() => {
                ctx.objects.release(&uid);
                ctx.tokens.forget(&uid);
                ctx.images.forget(&uid);
            }
        }
    }

    async fn work(&mut self) {
        self.state.volumes_exist = self
            .ctx
            .files
            .pods()
            .await
            .is_ok_and(|pods| pods.iter().any(|uid| uid == spec::uid(&self.pod)));
        if self.look().await.is_ok()
            && self.state.view.ready_sandbox().is_some()
            && self.state.ips.is_empty()
            && !spec::host_network(&self.pod)
            && !is_terminating(&self.state, &self.pod)
        {
            // An earlier agent connected it: ask for its addresses before anything is said about the pod.
            self.attach_network().await;
            if self.state.ips.is_empty() {
                let told = self.status.pod_ips.iter().flatten();
                self.state.ips = told.filter_map(|ip| ip.ip.parse().ok()).collect();
            }
        }
        loop {
            match self.turn().await {
                Turn::Again => {}
                Turn::Gone => return,
                Turn::Wait(until) => self.wait(until).await,
            }
        }
    }

    async fn wait(&mut self, until: Option<Timestamp>) {
        let clock = self.ctx.env.clock.clone();
        let alarm = async {
            match until {
                Some(at) => clock.sleep(super::backoff::elapsed(clock.now(), at)).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            // The sender is in our own handle, so this cannot fail.
            changed = self.input.changed() => drop(changed),
            () = self.handle.wake.notified() => {}
            () = alarm => {}
        }
    }

    async fn turn(&mut self) -> Turn {
        let now = self.ctx.env.clock.now();
        let PodInput { pod, removed } = self.input.borrow_and_update().clone();
        let old = std::mem::replace(&mut self.pod, pod);
        self.state.removed = removed;
        if let Err(error) = self.look().await {
            tracing::warn!(pod = %spec::describe(&self.pod), %error, "cannot look at the runtime");
            return Turn::Wait(Some(super::backoff::plus(now, Duration::from_secs(1))));
        }
        if self.settled && !self.state.view.containers.is_empty() {
            self.settled = false;
        }
        // Twice: what is known of a startup probe decides whether the others begin.
        for _ in 0..2 {
            self.update_probes();
            self.state.probes = self.probes.results();
        }
        self.report();
        let terminating = is_terminating(&self.state, &self.pod);
        self.handle.over.store(
            terminating && self.state.view.alive().next().is_none(),
            Ordering::Relaxed,
        );
        if let Some(hold) = self.hold_until.filter(|hold| *hold > now) {
            return Turn::Wait(Some(hold));
        }
        self.hold_until = None;
        let dirty = self.handle.dirty.swap(false, Ordering::Relaxed);
        if !terminating {
            self.follow_changes(&old, dirty, now).await;
        }
        let mut until = self.refresh_at.filter(|_| !terminating);
        let mut acted = false;
        for action in step(&self.state, &self.pod, now) {
            match action {
                Action::WakeAt(at) => until = Some(until.map_or(at, |u| u.min(at))),
                Action::Finalize => {
                    return if self.finalize().await {
                        Turn::Gone
                    } else {
                        self.hold(now)
                    };
                }
                action => {
                    acted = true;
                    if !self.perform(action).await {
                        break;
                    }
                }
            }
        }
        if acted { Turn::Again } else { Turn::Wait(until) }
    }

    fn hold(&mut self, now: Timestamp) -> Turn {
        let until = super::backoff::plus(now, Duration::from_secs(1));
        self.hold_until = Some(until);
        Turn::Wait(Some(until))
    }

    /// Does one action; `false` if what was planned after it has to be thought over.
    async fn perform(&mut self, action: Action) -> bool {
        tracing::debug!(pod = %spec::describe(&self.pod), ?action, "pod action");
        let mut watched = self.input.clone();
        watched.borrow_and_update();
        let (before, grace) = (self.pod.clone(), self.pod.metadata.deletion_grace_period_seconds);
        // Deletion interrupts everything but itself; a shorter grace interrupts deletion.
        let interrupted = async {
            loop {
                if watched.changed().await.is_err() {
                    return futures::future::pending().await;
                }
                let input = watched.borrow_and_update();
                let now_grace = input.pod.metadata.deletion_grace_period_seconds;
                let newly = (input.removed || spec::is_deleted(&input.pod)) && !spec::is_deleted(&before);
                if newly || (grace.is_some() && now_grace < grace) {
                    return;
                }
            }
        };
        tokio::select! {
            done = self.act(action) => done,
            () = interrupted => false,
        }
    }

    async fn act(&mut self, action: Action) -> bool {
        match action {
            Action::PrepareVolumes => self.prepare_volumes().await,
            Action::RunSandbox { attempt } => self.run_sandbox(attempt).await,
            Action::AttachNetwork => self.attach_network().await,
            Action::Start { kind, name, .. } => self.start(kind, &name).await,
            Action::BackOff {
                kind,
                name,
                delay,
                until,
            } => self.back_off(kind, &name, delay, until),
            Action::Kill {
                id,
                name,
                message,
                reason,
                restart,
            } => {
                if restart {
                    self.state.killed_to_restart.insert(id.clone());
                }
                self.kill(&id, &name, &message, reason).await
            }
            Action::Resize { id, name } => self.resize(&id, &name).await,
            Action::KillPod => self.kill_pod().await,
            Action::StopSandboxes => self.stop_sandboxes().await,
            Action::Remove { id } => self.remove(&id).await,
            Action::TearDownVolumes => self.tear_down_volumes().await,
            Action::Fail { reason, message } => {
                self.ctx.event(&self.pod, false, reason, message.clone());
                self.state.failed = Some((reason.into(), message));
                false
            }
            Action::Finalize | Action::WakeAt(_) => true,
        }
    }

    /// Takes in what the runtime has now.
    async fn look(&mut self) -> Result<(), crate::runtime::RuntimeError> {
        let (sandboxes, containers) =
            futures::try_join!(self.ctx.runtime.list_sandboxes(), self.ctx.runtime.list())?;
        let before = self.state.view.sandbox().map(|s| s.id.clone());
        self.state.view = PodView::of(spec::uid(&self.pod), &sandboxes, &containers);
        let sandbox = self.state.view.sandbox();
        if sandbox.map(|s| &s.id) != before.as_ref() && before.is_some() || sandbox.is_none_or(|s| !s.ready) {
            self.state.ips.clear();
        }
        if let Some(sandbox) = self.state.view.ready_sandbox().filter(|s| !s.ips.is_empty()) {
            self.state.ips = sandbox.ips.clone();
        }
        self.state.probes = self.probes.results();
        let view = &self.state.view;
        self.state
            .killed_to_restart
            .retain(|id| view.containers.iter().any(|c| c.id == *id));
        let ended: Vec<ContainerState> = view
            .containers
            .iter()
            .filter(|c| c.phase.exit().is_some() && !self.messages.contains_key(&c.id))
            .cloned()
            .collect();
        for container in ended {
            let message = self.termination_message(&container).await;
            self.probes.forget(&container.id);
            self.messages.insert(container.id, message);
        }
        let view = &self.state.view;
        self.state
            .applied
            .retain(|id, _| self.state.view.containers.iter().any(|c| c.id == *id));
        self.messages
            .retain(|id, _| view.containers.iter().any(|c| c.id == *id));
        Ok(())
    }

    async fn termination_message(&self, container: &ContainerState) -> String {
        const FILE_BYTES: usize = 4096;
        const LOG_BYTES: usize = 2048;
        const LOG_LINES: usize = 80;
        let noted = |key: &str| container.annotations.get(key).map(String::as_str).unwrap_or("");
        let file = noted(TERMINATION_FILE);
        if !file.is_empty()
            && let Ok(Some(bytes)) = self.ctx.files.read(file.as_ref(), FILE_BYTES).await
            && !bytes.is_empty()
        {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        let failed = container.phase.exit().is_some_and(|e| e.code != 0);
        if failed
            && noted(TERMINATION_POLICY) == "FallbackToLogsOnError"
            && let Ok(Some(bytes)) = self.ctx.files.tail(&container.log_path, 64 * 1024).await
        {
            return logs::tail_text(&bytes, LOG_LINES, LOG_BYTES);
        }
        String::new()
    }

    /// Computes and publishes the status.
    fn report(&mut self) {
        if self.settled || self.state.removed {
            self.state.phase_is_terminal |= self.settled;
            return;
        }
        // A final phase is decided with what is known before it, and then changes what is known.
        for _ in 0..2 {
            let status = pod_status(&StatusInputs {
                pod: &self.pod,
                state: &self.state,
                old: &self.status,
                node_ips: &self.ctx.config.addresses,
                runtime_name: &self.ctx.runtime_name,
                messages: &self.messages,
                now: self.ctx.env.clock.now(),
            });
            let terminal = spec::is_terminal(status.phase.as_deref());
            self.status = status;
            if terminal == self.state.phase_is_terminal {
                break;
            }
            self.state.phase_is_terminal = terminal;
        }
        *self.handle.status.lock() = Some(self.status.clone());
        self.publisher.publish(&self.pod, &self.status);
    }

    fn update_probes(&mut self) {
        if is_terminating(&self.state, &self.pod) {
            self.probes.stop_restarting();
        }
        let api = spec::status(&self.pod);
        let ip = match spec::host_network(&self.pod) {
            true => self.ctx.config.addresses.first().map(IpAddr::to_string),
            false => self.state.ips.first().map(IpAddr::to_string),
        };
        let spec_ = spec::spec(&self.pod);
        let sidecars = spec::init_containers(spec_)
            .iter()
            .filter(|c| spec::is_sidecar(c));
        for container in spec_.containers.iter().chain(sidecars) {
            let latest = self.state.view.latest(&container.name);
            let target = latest.and_then(|c| {
                let ContainerPhase::Running { started_at, .. } = c.phase else {
                    return None;
                };
                let lists = api
                    .container_statuses
                    .iter()
                    .chain(&api.init_container_statuses)
                    .flatten();
                let told = lists.into_iter().find(|s| {
                    s.name == c.name
                        && s.container_id
                            .as_deref()
                            .is_some_and(|id| id.ends_with(c.id.as_str()))
                });
                let started =
                    container.startup_probe.is_none() || self.state.probes.of(&c.id).startup == Some(true);
                Some(ProbeTarget {
                    id: c.id.clone(),
                    started_at,
                    started,
                    pod_ip: ip.clone()?,
                    was_started: told.is_some_and(|s| s.started == Some(true)),
                    was_ready: told.is_some_and(|s| s.ready),
                })
            });
            // What the API said of a container is of interest only when it is seen for the first time.
            self.probes.update(container, target.as_ref());
        }
    }

    fn container(&self, name: &str) -> Option<(ContainerKind, Container)> {
        spec::find_container(&self.pod, name).map(|(kind, _, c)| (kind, c))
    }

    fn pod_ip(&self) -> String {
        let ips = if spec::host_network(&self.pod) {
            &self.ctx.config.addresses
        } else {
            &self.state.ips
        };
        ips.first().map(IpAddr::to_string).unwrap_or_default()
    }
}
