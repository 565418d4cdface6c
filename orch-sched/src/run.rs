//! The shell: informers in, bindings out.

use crate::{
    cache::{PodInfo, Snapshot},
    decide::{Decision, decide},
    framework::{CycleState, PermitVerdict, Profile},
    queue::{QueuedPod, SchedulingQueue},
};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Namespace, Node, Pod, Service},
};
use orch_core::{
    Api, ApiClient, Env, Status,
    client::Patch,
    controller::events::{EventRecorder, EventType},
    informer::{Delta, SharedInformers},
    selector::LabelSelector,
    spawn::Shutdown,
};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;

/// What a scheduler process runs with.
#[derive(Clone)]
pub struct SchedulerConfig {
    /// One profile per `schedulerName`.
    pub profiles: Vec<Profile>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            profiles: vec![Profile::default_plugins("default-scheduler")],
        }
    }
}

struct State {
    snapshot: Snapshot,
    queue: SchedulingQueue,
}

struct Inner {
    env: Env,
    client: Arc<dyn ApiClient>,
    profiles: Vec<Profile>,
    recorder: EventRecorder,
    state: Mutex<State>,
    wake: Notify,
}

/// Schedules pods of an API server. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler(Arc<Inner>);

impl Scheduler {
    /// A scheduler that is not running yet.
    pub fn new(env: &Env, client: Arc<dyn ApiClient>, config: SchedulerConfig) -> Self {
        let name = config
            .profiles
            .first()
            .map_or("default-scheduler", |p| p.scheduler_name.as_str());
        let recorder = EventRecorder::new(env, client.clone(), name, "");
        Self(Arc::new(Inner {
            env: env.clone(),
            client,
            profiles: config.profiles,
            recorder,
            state: Mutex::new(State {
                snapshot: Snapshot::default(),
                queue: SchedulingQueue::default(),
            }),
            wake: Notify::new(),
        }))
    }

    /// Schedules until `shutdown`, on informers shared with others.
    pub async fn run(&self, informers: &SharedInformers, shutdown: Shutdown) {
        self.follow(informers);
        informers.wait_synced().await;
        loop {
            let next = {
                let now = self.0.env.clock.monotonic();
                let mut state = self.0.state.lock();
                let order = self.0.profiles.first();
                order.and_then(|profile| state.queue.pop(profile, now))
            };
            if let Some(queued) = next {
                self.schedule(&queued);
                // Let bindings and informers have their turn between two decisions.
                tokio::task::yield_now().await;
                if shutdown.is_triggered() {
                    return;
                }
                continue;
            }
            let until = self.0.state.lock().queue.next_wake();
            let timer = async {
                match until {
                    Some(at) => self.0.env.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = timer => {}
                () = shutdown.wait() => return,
            }
        }
    }

    /// The scheduler's picture of the cluster, pods that are being bound included.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.state.lock().snapshot.clone()
    }

    /// Decides for a pod as if it were pending now, with the scores of every plugin; binds nothing.
    ///
    /// # Errors
    /// When a plugin fails or no profile has the pod's `schedulerName`.
    pub fn explain(&self, pod: Arc<Pod>) -> Result<Decision, Status> {
        let pod = PodInfo::new(pod);
        let profile = self
            .profile_of(&pod)
            .ok_or_else(|| Status::bad_request("no profile has this schedulerName"))?;
        let mut snapshot = self.snapshot();
        snapshot.remove_pod(&pod.uid);
        decide(&snapshot, &pod, profile, &*self.0.env.rng, true).map_err(|e| Status::internal(e.to_string()))
    }

    fn profile_of(&self, pod: &PodInfo) -> Option<&Profile> {
        let name = pod
            .spec()
            .and_then(|s| s.scheduler_name.as_deref())
            .filter(|n| !n.is_empty());
        let name = name.unwrap_or("default-scheduler");
        self.0.profiles.iter().find(|p| p.scheduler_name == name)
    }

    fn follow(&self, informers: &SharedInformers) {
        let this = self.clone();
        informers
            .informer::<Node>()
            .on_change(move |delta| this.node_changed(delta));
        let this = self.clone();
        informers
            .informer::<Pod>()
            .on_change(move |delta| this.pod_changed(delta));
        let this = self.clone();
        informers.informer::<Namespace>().on_change(move |delta| {
            let namespace = delta.object();
            let labels = match delta {
                Delta::Deleted(_) => None,
                _ => Some(namespace.metadata.labels.clone().unwrap_or_default()),
            };
            let name = namespace.metadata.name.as_deref().unwrap_or_default();
            this.0.state.lock().snapshot.set_namespace(name, labels);
        });
        let this = self.clone();
        informers.informer::<Service>().on_change(move |delta| {
            let service = delta.object();
            let labels = service
                .spec
                .as_ref()
                .and_then(|s| s.selector.as_ref())
                .filter(|s| !s.is_empty());
            let selector = labels.map(LabelSelector::from_labels);
            this.selector_changed(
                "Service",
                &service.metadata,
                selector,
                matches!(delta, Delta::Deleted(_)),
            );
        });
        let this = self.clone();
        informers.informer::<ReplicaSet>().on_change(move |delta| {
            let set = delta.object();
            let selector = set
                .spec
                .as_ref()
                .and_then(|s| LabelSelector::from_api(Some(&s.selector)).ok());
            this.selector_changed(
                "ReplicaSet",
                &set.metadata,
                selector,
                matches!(delta, Delta::Deleted(_)),
            );
        });
    }

    fn selector_changed(
        &self,
        kind: &'static str,
        meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        selector: Option<LabelSelector>,
        deleted: bool,
    ) {
        let (namespace, name) = (
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let selector = selector.filter(|_| !deleted);
        self.0
            .state
            .lock()
            .snapshot
            .set_selector(kind, namespace, name, selector);
    }

    fn node_changed(&self, delta: &Delta<Node>) {
        let now = self.0.env.clock.monotonic();
        let mut state = self.0.state.lock();
        let node = delta.object();
        let name = node.metadata.name.clone().unwrap_or_default();
        if matches!(delta, Delta::Deleted(_)) {
            state.snapshot.remove_node(&name);
            return;
        }
        let useful = delta.old().is_none_or(|old| {
            // Heartbeats change conditions only; what can make room for a pod is elsewhere.
            let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
            old.spec != node.spec
                || old.metadata.labels != node.metadata.labels
                || allocatable(old) != allocatable(node)
        });
        state.snapshot.set_node(node.clone());
        if useful {
            state.queue.move_on_event(now, |_| true);
            self.0.wake.notify_one();
        }
    }

    fn pod_changed(&self, delta: &Delta<Pod>) {
        let now = self.0.env.clock.monotonic();
        let pod = Arc::new(PodInfo::new(delta.object().clone()));
        let mut state = self.0.state.lock();
        let gone = matches!(delta, Delta::Deleted(_)) || pod.is_terminal();
        if gone {
            state.queue.remove(&pod.uid);
            if state.snapshot.remove_pod(&pod.uid).is_some() {
                // A pod that leaves makes room.
                state.queue.move_on_event(now, |_| true);
                self.0.wake.notify_one();
            }
            return;
        }
        if let Some(node) = pod.node_name() {
            let node = node.to_owned();
            state.queue.remove(&pod.uid);
            let labels_changed = delta
                .old()
                .is_none_or(|old| old.metadata.labels != pod.pod.metadata.labels);
            let known = state.snapshot.place_of(&pod.uid) == Some(&node);
            state.snapshot.place_pod(pod, &node);
            if !known || labels_changed {
                // Only pods that want to be near others can profit from one more.
                state
                    .queue
                    .move_on_event(now, |waiting| !waiting.affinity.is_empty());
                self.0.wake.notify_one();
            }
            return;
        }
        if pod.pod.metadata.deletion_timestamp.is_some() {
            state.queue.remove(&pod.uid);
            return;
        }
        let Some(profile) = self.profile_of(&pod) else {
            return;
        };
        if state.snapshot.place_of(&pod.uid).is_some() {
            // Being bound: the informer will bring it back with its node.
            return;
        }
        let only_status = delta
            .old()
            .is_some_and(|old| old.spec == pod.pod.spec && old.metadata.labels == pod.pod.metadata.labels);
        if only_status {
            return;
        }
        let gated = profile.pre_enqueue.iter().any(|p| p.pre_enqueue(&pod).is_err());
        state.queue.add(pod, gated, now);
        self.0.wake.notify_one();
    }

    /// One scheduling cycle: decide, assume, and bind in the background.
    fn schedule(&self, queued: &QueuedPod) {
        let pod = queued.pod.clone();
        let Some(profile) = self.profile_of(&pod).cloned() else {
            self.0.state.lock().queue.remove(&pod.uid);
            return;
        };
        let decided = {
            let mut state = self.0.state.lock();
            let decided = decide(&state.snapshot, &pod, &profile, &*self.0.env.rng, false);
            if let Ok(Decision { node: Some(node), .. }) = &decided {
                state.snapshot.place_pod(pod.clone(), node);
            }
            decided
        };
        let this = self.clone();
        match decided {
            Ok(Decision {
                node: Some(node),
                cycle,
                ..
            }) => {
                let task = async move { this.bind(profile, pod, node, cycle).await };
                self.0.env.spawner.spawn("bind", Box::pin(task));
            }
            Ok(decision) => {
                let now = self.0.env.clock.monotonic();
                self.0.state.lock().queue.failed(&pod.uid, false, now);
                let message = decision.message();
                let task = async move { this.tell_failed(&pod, "Unschedulable", &message).await };
                self.0.env.spawner.spawn("unschedulable", Box::pin(task));
            }
            Err(e) => {
                let now = self.0.env.clock.monotonic();
                self.0.state.lock().queue.failed(&pod.uid, true, now);
                let task = async move { this.tell_failed(&pod, "SchedulerError", &e.to_string()).await };
                self.0.env.spawner.spawn("scheduler-error", Box::pin(task));
            }
        }
    }

    async fn bind(&self, profile: Profile, pod: Arc<PodInfo>, node: String, cycle: CycleState) {
        let result = self.try_bind(&profile, &pod, &node, &cycle).await;
        match result {
            Ok(()) => {
                profile
                    .post_bind
                    .iter()
                    .for_each(|p| p.post_bind(&cycle, &pod, &node));
                self.0.state.lock().queue.remove(&pod.uid);
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.0
                    .recorder
                    .record(&*pod.pod, EventType::Normal, "Scheduled", message);
            }
            Err(e) => {
                profile
                    .reserve
                    .iter()
                    .rev()
                    .for_each(|p| p.unreserve(&cycle, &pod, &node));
                {
                    let now = self.0.env.clock.monotonic();
                    let mut state = self.0.state.lock();
                    // Only what was assumed: the informer may already have placed the pod elsewhere.
                    let assumed = state
                        .snapshot
                        .node(&node)
                        .is_some_and(|n| n.pods().any(|p| Arc::ptr_eq(p, &pod)));
                    if assumed {
                        state.snapshot.remove_pod(&pod.uid);
                    }
                    if e.is_not_found() {
                        state.queue.remove(&pod.uid);
                    } else {
                        state.queue.failed(&pod.uid, true, now);
                    }
                    state.queue.move_on_event(now, |_| true);
                }
                self.0.wake.notify_one();
                if !e.is_not_found() {
                    self.tell_failed(&pod, "SchedulerError", &format!("binding rejected: {e}"))
                        .await;
                }
            }
        }
    }

    async fn try_bind(
        &self,
        profile: &Profile,
        pod: &PodInfo,
        node: &str,
        cycle: &CycleState,
    ) -> Result<(), Status> {
        let failed = |e: crate::framework::PluginError| Status::internal(e.to_string());
        for plugin in &profile.reserve {
            plugin.reserve(cycle, pod, node).map_err(failed)?;
        }
        for plugin in &profile.permit {
            match plugin.permit(cycle, pod, node).map_err(failed)? {
                PermitVerdict::Allow => {}
                PermitVerdict::Wait(at_most) => self.0.env.clock.sleep(at_most).await,
                PermitVerdict::Reject(why) => {
                    return Err(Status::new(orch_core::StatusReason::Forbidden, why));
                }
            }
        }
        for plugin in &profile.pre_bind {
            plugin.pre_bind(&self.0.client, cycle, pod, node).await?;
        }
        for plugin in &profile.bind {
            if plugin.bind(&self.0.client, cycle, pod, node).await? {
                return Ok(());
            }
        }
        Err(Status::internal("no bind plugin took the pod"))
    }

    async fn tell_failed(&self, pod: &PodInfo, reason: &str, message: &str) {
        self.0
            .recorder
            .record(&*pod.pod, EventType::Warning, "FailedScheduling", message);
        let now = self.0.env.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let unchanged = pod
            .pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| {
                c.type_ == "PodScheduled"
                    && c.reason.as_deref() == Some(reason)
                    && c.message.as_deref() == Some(message)
            });
        if unchanged {
            return;
        }
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": now, "observedGeneration": pod.pod.metadata.generation});
        let patch =
            Patch::strategic(json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}));
        let api = Api::<Pod>::namespaced(self.0.client.clone(), pod.key.namespace.clone());
        if let Err(e) = api.patch_subresource(&pod.key.name, "status", patch).await
            && !e.is_not_found()
        {
            tracing::warn!(pod = %pod.key, "condition not written: {e}");
        }
    }
}
