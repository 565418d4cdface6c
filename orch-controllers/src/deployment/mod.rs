//! Deployments: rolling one template over to another by scaling ReplicaSets.
//!
//! Behaviour of upstream's `pkg/controller/deployment`. One pass plans everything that follows from what is observed
//! (see [`plan`]) and applies it in order: create the new ReplicaSet, scale and annotate ReplicaSets, delete old ones,
//! write the revision and the status. `kubectl rollout undo` needs nothing here: it writes an old template back.

mod annotations;
mod apply;
mod plan;
mod rolling;
mod sets;
mod status;

use crate::shared::{Context, PODS_BY_CONTROLLER, adopt, controller_index, is_deleting, pods, text, uid};
use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, EventRecorder, Reconciler, controller_of},
    informer::{Delta, Lister},
    selector::LabelSelector,
};
use plan::Observed;
use std::sync::Arc;

/// Label that tells the pods of a Deployment's ReplicaSets apart.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

struct Deployments {
    ctx: Context,
    deployments: Lister<Deployment>,
    sets: Lister<ReplicaSet>,
    pods: Lister<Pod>,
    recorder: EventRecorder,
}

/// The Deployment controller.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let deployments = ctx.informers.informer::<Deployment>();
    let sets = ctx.informers.informer::<ReplicaSet>();
    sets.add_index(crate::replicaset::BY_CONTROLLER, |s: &ReplicaSet| {
        vec![controller_index(&s.metadata)]
    });
    let pods = ctx.pods();
    let reconciler = Arc::new(Deployments {
        ctx: ctx.clone(),
        deployments: deployments.lister(),
        sets: sets.lister(),
        pods: pods.lister(),
        recorder: ctx.recorder("deployment-controller"),
    });
    let (orphans, by_pod) = (deployments.lister(), sets.lister());
    Controller::new("deployment", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch(&deployments)
        .watch_owned::<Deployment, ReplicaSet>(&sets)
        .watch_mapped(&sets, move |delta| orphan_matches(&orphans, delta))
        .watch_mapped(&pods, move |delta| last_pod_gone(&by_pod, delta))
}

fn selector_of(deployment: &Deployment) -> Option<LabelSelector> {
    LabelSelector::from_api(deployment.spec.as_ref().map(|s| &s.selector)).ok()
}

/// The Deployments that may adopt an orphaned ReplicaSet.
fn orphan_matches(deployments: &Lister<Deployment>, delta: &Delta<ReplicaSet>) -> Vec<ObjectKey> {
    let set = delta.object();
    if matches!(delta, Delta::Deleted(_))
        || controller_of(&set.metadata).is_some()
        || is_deleting(&set.metadata)
    {
        return Vec::new();
    }
    let candidates = deployments.list_in(text(&set.metadata.namespace));
    let matching = candidates.iter().filter(|d| {
        selector_of(d).is_some_and(|s| !s.is_everything() && s.matches_opt(set.metadata.labels.as_ref()))
    });
    matching.map(|d| ObjectKey::of(&**d)).collect()
}

/// A Recreate rollout waits for the last old pod to be gone.
fn last_pod_gone(sets: &Lister<ReplicaSet>, delta: &Delta<Pod>) -> Vec<ObjectKey> {
    let Delta::Deleted(pod) = delta else {
        return Vec::new();
    };
    let namespace = text(&pod.metadata.namespace);
    let set = controller_of(&pod.metadata).and_then(|o| sets.find(namespace, &o.name));
    let owner = set
        .as_ref()
        .and_then(|s| controller_of(&s.metadata))
        .filter(|o| o.kind == "Deployment");
    owner
        .map(|o| ObjectKey::new(namespace, o.name.clone()))
        .into_iter()
        .collect()
}

#[async_trait]
impl Reconciler for Deployments {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(Action::AwaitChange);
        };
        let observed = self.observe(key, deployment).await?;
        let plan = plan::plan(&observed, self.ctx.env.clock.now())?;
        let next = plan.next_check;
        self.apply(key, &observed, plan).await?;
        Ok(next.map_or(Action::AwaitChange, Action::After))
    }
}

impl Deployments {
    async fn observe(&self, key: &ObjectKey, deployment: Arc<Deployment>) -> Result<Observed, Error> {
        let selector = LabelSelector::from_api(deployment.spec.as_ref().map(|s| &s.selector))
            .map_err(|e| Error::Invalid(format!("selector: {e}")))?;
        let mut owned = Vec::new();
        if !selector.is_everything() {
            let index = crate::replicaset::BY_CONTROLLER;
            let mut sets = self.sets.by_index(index, uid(&deployment.metadata));
            sets.extend(self.sets.by_index(index, &format!("/{}", key.namespace)));
            let claims = adopt::plan_claims(&deployment.metadata, &selector, sets);
            owned = adopt::apply_claims(&self.ctx, &*deployment, claims).await?;
        }
        owned.sort_by(|a, b| crate::shared::age_key(&a.metadata).cmp(&crate::shared::age_key(&b.metadata)));
        let mut live_pods = Vec::new();
        for set in &owned {
            let pods = self.pods.by_index(PODS_BY_CONTROLLER, uid(&set.metadata));
            if pods.iter().any(|p| !pods::is_terminal(p)) {
                live_pods.push(uid(&set.metadata).to_owned());
            }
        }
        Ok(Observed {
            deployment,
            sets: owned,
            live_pods,
        })
    }
}

#[cfg(test)]
mod tests;
