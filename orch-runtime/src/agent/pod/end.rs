//! Ending containers and pods.

use super::PodWorker;
use crate::{
    agent::{backoff::plus, context::Context, hooks, kill, spec, spec::ContainerKind, step::KillReason},
    runtime::{ContainerId, RuntimeError},
};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use orch_core::{Api, status::StatusReason};
use parking_lot::Mutex;
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::watch;

/// One container to end, with all that this takes.
struct Ending {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    pod_ip: String,
    hooked: Arc<Mutex<BTreeSet<ContainerId>>>,
    id: ContainerId,
    name: String,
    container: Option<(ContainerKind, Container)>,
    grace: Duration,
    message: String,
    /// Names that have to end first.
    after: Vec<String>,
}

impl Ending {
    async fn run(self, ended: &watch::Sender<BTreeSet<String>>) -> Result<(), RuntimeError> {
        let clock = &self.ctx.env.clock;
        let started = clock.monotonic();
        let kind = self.container.as_ref().map_or(ContainerKind::App, |(k, _)| *k);
        let at = Some((kind, self.name.as_str()));
        // Said once, even if the ending is interrupted and taken up again.
        let first = self.hooked.lock().insert(self.id.clone());
        if first {
            self.ctx
                .event_at(&self.pod, at, false, "Killing", self.message.clone());
        }
        let hook = self
            .container
            .as_ref()
            .and_then(|(_, c)| Some((c, c.lifecycle.as_ref()?.pre_stop.as_ref()?)));
        if let Some((container, hook)) = hook
            && first
            && !self.grace.is_zero()
        {
            tokio::select! {
                () = clock.sleep(self.grace) => {}
                done = hooks::run(&self.ctx, &self.pod, container, &self.id, &self.pod_ip, hook) => {
                    if done.is_err() {
                        self.ctx.event_at(&self.pod, at, true, "FailedPreStopHook", "PreStopHook failed");
                    }
                }
            }
        }
        let left = || self.grace.saturating_sub(clock.monotonic().since(started));
        if !self.after.is_empty() && !left().is_zero() {
            let mut seen = ended.subscribe();
            let turn = async {
                drop(
                    seen.wait_for(|gone| self.after.iter().all(|name| gone.contains(name)))
                        .await,
                );
            };
            tokio::select! {
                () = clock.sleep(left()) => {}
                () = turn => {}
            }
        }
        let stopped = self.ctx.runtime.stop(&self.id, left().max(kill::MIN_GRACE)).await;
        ended.send_if_modified(|gone| gone.insert(self.name.clone()));
        match stopped {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl PodWorker {
    fn ending(
        &self,
        id: &ContainerId,
        name: &str,
        message: &str,
        reason: KillReason,
        after: Vec<String>,
    ) -> Ending {
        let container = self.container(name);
        Ending {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            pod_ip: self.pod_ip(),
            hooked: self.hooked.clone(),
            id: id.clone(),
            name: name.into(),
            grace: kill::grace(&self.pod, container.as_ref().map(|(_, c)| c), reason),
            container,
            message: if message.is_empty() {
                format!("Stopping container {name}")
            } else {
                message.into()
            },
            after,
        }
    }

    /// After a failure that nothing else delays.
    fn pause(&mut self, warning: &str, message: String) -> bool {
        tracing::warn!(pod = %spec::describe(&self.pod), reason = warning, message, "pod does not end");
        self.ctx.event(&self.pod, true, warning, message);
        self.hold_until = Some(plus(self.ctx.env.clock.now(), Duration::from_secs(2)));
        false
    }

    pub(super) async fn kill(
        &mut self,
        id: &ContainerId,
        name: &str,
        message: &str,
        reason: KillReason,
    ) -> bool {
        let ended = watch::channel(BTreeSet::new()).0;
        match self
            .ending(id, name, message, reason, Vec::new())
            .run(&ended)
            .await
        {
            Ok(()) => true,
            Err(error) => self.pause(
                "FailedKillPod",
                format!("error killing container {name}: {error}"),
            ),
        }
    }

    pub(super) async fn kill_pod(&mut self) -> bool {
        let alive: Vec<(ContainerId, String)> = self
            .state
            .view
            .alive()
            .map(|c| (c.id.clone(), c.name.clone()))
            .collect();
        let names: Vec<String> = alive.iter().map(|(_, name)| name.clone()).collect();
        let mut order = kill::order(&self.pod, &names);
        let ended = watch::channel(BTreeSet::new()).0;
        let endings: Vec<Ending> = alive
            .iter()
            .map(|(id, name)| {
                self.ending(
                    id,
                    name,
                    "",
                    KillReason::Other,
                    order.remove(name).unwrap_or_default(),
                )
            })
            .collect();
        let results = join_all(endings.into_iter().map(|e| e.run(&ended))).await;
        for (id, _) in &alive {
            // Half-made ones never ran.
            let made = self.state.view.containers.iter().find(|c| c.id == *id);
            if made.is_some_and(|c| c.phase == crate::runtime::ContainerPhase::Created) {
                drop(self.ctx.runtime.remove(id).await);
            }
        }
        match results.into_iter().find_map(Result::err) {
            None => false,
            Some(error) => self.pause("FailedKillPod", format!("error killing pod: {error}")),
        }
    }

    pub(super) async fn stop_sandboxes(&mut self) -> bool {
        for sandbox in self.state.view.sandboxes.clone().iter().filter(|s| s.ready) {
            if let Some(netns) = &sandbox.netns
                && sandbox.ips.is_empty()
                && let Err(error) = self.ctx.network.detach(spec::uid(&self.pod), netns).await
            {
                return self.pause("FailedKillPod", format!("error killing pod: {error}"));
            }
            if let Err(error) = self.ctx.runtime.stop_sandbox(&sandbox.id).await {
                return self.pause("FailedKillPod", format!("error killing pod: {error}"));
            }
        }
        false
    }

    pub(super) async fn remove(&mut self, id: &ContainerId) -> bool {
        let log = self
            .state
            .view
            .containers
            .iter()
            .find(|c| c.id == *id)
            .map(|c| c.log_path.clone());
        if let Err(error) = self.ctx.runtime.remove(id).await {
            tracing::warn!(container = %id, %error, "cannot remove a container");
            self.hold_until = Some(plus(self.ctx.env.clock.now(), Duration::from_secs(5)));
            return false;
        }
        if let Some(log) = log {
            drop(self.ctx.files.remove_logs(&log).await);
        }
        true
    }

    pub(super) async fn tear_down_volumes(&mut self) -> bool {
        match self.ctx.files.unmount(spec::uid(&self.pod)).await {
            Ok(()) => {
                (self.state.volumes_exist, self.state.volumes_ready) = (false, false);
                false
            }
            Err(error) => self.pause("FailedUnmount", error.to_string()),
        }
    }

    /// Deletes the object, now that nothing of the pod runs, and then what is left of it on the machine. `false` if it
    /// has to be tried again.
    pub(super) async fn finalize(&mut self) -> bool {
        let (uid, namespace, name) = (
            spec::uid(&self.pod).to_owned(),
            spec::namespace(&self.pod).to_owned(),
            spec::name(&self.pod).to_owned(),
        );
        if !self.state.removed {
            self.publisher.flush().await;
            let pods = Api::<Pod>::namespaced(self.ctx.client.clone(), namespace.clone());
            let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
            match pods.delete(&name, options).await {
                Ok(()) => {}
                Err(e) if matches!(e.reason, StatusReason::NotFound | StatusReason::Conflict) => {}
                Err(error) => {
                    tracing::warn!(pod = %spec::describe(&self.pod), %error, "cannot delete the pod's object");
                    return false;
                }
            }
        }
        for sandbox in &self.state.view.sandboxes {
            if let Err(error) = self.ctx.runtime.remove_sandbox(&sandbox.id).await {
                tracing::warn!(sandbox = %sandbox.id, %error, "cannot remove a sandbox");
                return false;
            }
        }
        let logs = self.ctx.config.pod_log_dir(&namespace, &name, &uid);
        drop(self.ctx.files.remove_logs(&logs).await);
        if let Err(error) = self.ctx.files.remove_pod(&uid).await {
            tracing::warn!(pod = %spec::describe(&self.pod), %error, "cannot remove the pod's files");
            return false;
        }
        true
    }
}
