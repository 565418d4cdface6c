//! Evicts pods from nodes with NoExecute taints that they do not tolerate, or no longer.

use super::taints;
use crate::shared::{Context, PODS_BY_NODE, is_deleting, pods, text};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, EventRecorder, Reconciler, events::EventType::Normal},
    informer::{Delta, Lister},
};
use parking_lot::Mutex;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

struct Evictions {
    ctx: Context,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    recorder: EventRecorder,
    /// When a taint without a time was first seen, by node, key and value.
    first_seen: Mutex<BTreeMap<(String, String, String), Timestamp>>,
}

/// The taint eviction controller.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let (pods, nodes) = (ctx.pods(), ctx.informers.informer::<Node>());
    let reconciler = Arc::new(Evictions {
        ctx: ctx.clone(),
        pods: pods.lister(),
        nodes: nodes.lister(),
        recorder: ctx.recorder("taint-eviction-controller"),
        first_seen: Mutex::default(),
    });
    let on_node = pods.lister();
    Controller::new("taint-eviction", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch_mapped(&pods, |delta: &Delta<Pod>| {
            let pod = delta.object();
            let matters = delta.old().is_none_or(|old| {
                pods::node_name(old) != pods::node_name(pod)
                    || old.spec.as_ref().map(|s| &s.tolerations) != pod.spec.as_ref().map(|s| &s.tolerations)
            });
            let bound = matters && !pods::node_name(pod).is_empty() && !matches!(delta, Delta::Deleted(_));
            bound.then(|| ObjectKey::of(&**pod)).into_iter().collect()
        })
        .watch_mapped(&nodes, move |delta: &Delta<Node>| {
            let node = delta.object();
            let executes = |n: &Node| {
                taints::of(n)
                    .into_iter()
                    .filter(|t| t.effect == "NoExecute")
                    .collect::<Vec<_>>()
            };
            let changed = delta.old().is_none_or(|old| executes(old) != executes(node));
            if !changed || (delta.old().is_none() && executes(node).is_empty()) {
                return Vec::new();
            }
            let pods = on_node.by_index(PODS_BY_NODE, text(&node.metadata.name));
            pods.iter().map(|p| ObjectKey::of(&**p)).collect()
        })
}

/// When a pod is to go because of a node's taints: `None` for never. `since` says since when a taint has been there.
pub(super) fn due(pod: &Pod, taints: &[Taint], since: impl Fn(&Taint) -> Timestamp) -> Option<Timestamp> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.clone())
        .unwrap_or_default();
    let mut due: Option<Timestamp> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let tolerating: Vec<_> = tolerations
            .iter()
            .filter(|t| taints::tolerates(t, taint))
            .collect();
        let seconds = if tolerating.is_empty() {
            Some(0)
        } else {
            tolerating.iter().filter_map(|t| t.toleration_seconds).min()
        };
        let Some(seconds) = seconds else { continue };
        let at = since(taint)
            .checked_add(SignedDuration::from_secs(seconds.max(0)))
            .unwrap_or(Timestamp::MAX);
        due = Some(due.map_or(at, |d| d.min(at)));
    }
    due
}

#[async_trait]
impl Reconciler for Evictions {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Action::AwaitChange);
        };
        let node_name = pods::node_name(&pod);
        let Some(node) = self.nodes.find("", node_name) else {
            return Ok(Action::AwaitChange);
        };
        if is_deleting(&pod.metadata) || pods::is_terminal(&pod) {
            return Ok(Action::AwaitChange);
        }
        let now = self.ctx.env.clock.now();
        let taints = taints::of(&node);
        self.forget_others(node_name, &taints);
        let due = due(&pod, &taints, |taint| match &taint.time_added {
            Some(time) => time.0,
            None => {
                let key = (
                    node_name.to_owned(),
                    taint.key.clone(),
                    text(&taint.value).to_owned(),
                );
                *self.first_seen.lock().entry(key).or_insert(now)
            }
        });
        let Some(due) = due else {
            return Ok(Action::AwaitChange);
        };
        let wait = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        if !wait.is_zero() {
            return Ok(Action::After(wait));
        }
        self.evict(key, &pod).await?;
        Ok(Action::AwaitChange)
    }
}

impl Evictions {
    fn forget_others(&self, node: &str, taints: &[Taint]) {
        self.first_seen.lock().retain(|(n, key, value), _| {
            n != node
                || taints
                    .iter()
                    .any(|t| t.key == *key && text(&t.value) == value && t.effect == "NoExecute")
        });
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        self.recorder.record(
            pod,
            Normal,
            "TaintManagerEviction",
            format!("Marking for deletion Pod {key}"),
        );
        let api = self.ctx.api::<Pod>(&key.namespace);
        let message = "Taint manager: deleting due to NoExecute taint";
        if let Some(marked) = disruption(pod, "DeletionByTaintManager", message, self.ctx.env.clock.now()) {
            match api.replace_status(&marked).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        match api
            .delete(&key.name, json!({"preconditions": {"uid": pod.metadata.uid}}))
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The pod with the condition `DisruptionTarget`; `None` if it has it already.
pub(crate) fn disruption(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Pod> {
    let mut new = pod.clone();
    let conditions = new
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    if conditions
        .iter()
        .any(|c| c.type_ == "DisruptionTarget" && c.status == "True")
    {
        return None;
    }
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Timestamp::from_second(now.as_second()).ok().map(Time),
        ..PodCondition::default()
    });
    Some(new)
}
