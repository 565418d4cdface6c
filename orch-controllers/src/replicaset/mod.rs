//! ReplicaSets: the asked number of pods of one template.
//!
//! Behaviour of upstream's `pkg/controller/replicaset`. Stale copies are handled by an [`Overlay`] of its own writes.

mod plan;

use crate::shared::{
    Context, PODS_BY_CONTROLLER, adopt,
    overlay::Overlay,
    pods, text, uid,
    write::{create_pod, delete_pod, is_namespace_terminating, pod_from_template, slow_start},
};
use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, EventRecorder, Reconciler, controller_of, owner_reference},
    informer::{Delta, Informer, Lister},
    selector::LabelSelector,
};
use plan::{Observed, Scale};
use std::sync::Arc;

/// Index of ReplicaSets by the UID of their controller.
pub(crate) const BY_CONTROLLER: &str = "controller";

struct ReplicaSets {
    ctx: Context,
    sets: Lister<ReplicaSet>,
    pods: Informer<Pod>,
    recorder: EventRecorder,
    overlay: Overlay<Pod>,
}

/// The ReplicaSet controller.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let sets = ctx.informers.informer::<ReplicaSet>();
    sets.add_index(BY_CONTROLLER, |s: &ReplicaSet| {
        vec![crate::shared::controller_index(&s.metadata)]
    });
    let pods = ctx.pods();
    let reconciler = Arc::new(ReplicaSets {
        ctx: ctx.clone(),
        sets: sets.lister(),
        pods: pods.clone(),
        recorder: ctx.recorder("replicaset-controller"),
        overlay: Overlay::default(),
    });
    let lister = sets.lister();
    Controller::new("replicaset", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch(&sets)
        .watch_owned::<ReplicaSet, Pod>(&pods)
        .watch_mapped(&pods, move |delta| orphan_matches(&lister, delta))
}

/// The ReplicaSets that may adopt an orphan.
fn orphan_matches(sets: &Lister<ReplicaSet>, delta: &Delta<Pod>) -> Vec<ObjectKey> {
    let (Delta::Added(pod) | Delta::Updated { new: pod, .. }) = delta else {
        return Vec::new();
    };
    if controller_of(&pod.metadata).is_some() || crate::shared::is_deleting(&pod.metadata) {
        return Vec::new();
    }
    let candidates = sets.list_in(text(&pod.metadata.namespace));
    let matching = candidates.iter().filter(|set| {
        let selector = set
            .spec
            .as_ref()
            .and_then(|s| LabelSelector::from_api(Some(&s.selector)).ok());
        selector.is_some_and(|s| !s.is_everything() && s.matches_opt(pod.metadata.labels.as_ref()))
    });
    matching.map(|set| ObjectKey::of(&**set)).collect()
}

#[async_trait]
impl Reconciler for ReplicaSets {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(set) = self.sets.get(key) else {
            self.overlay.forget(key);
            return Ok(Action::AwaitChange);
        };
        let observed = self.observe(key, set).await?;
        let now = self.ctx.env.clock.now();
        let scale = plan::scale(&observed, now, self.ctx.config.burst_replicas);
        let outcome = self.apply(key, &observed.set, &scale).await;
        let failure = outcome.as_ref().err().map(ToString::to_string);
        let status = plan::status(&observed, failure.as_deref(), now);
        if observed.set.status.as_ref() != Some(&status) {
            let mut set = (*observed.set).clone();
            set.status = Some(status);
            self.ctx
                .api::<ReplicaSet>(&key.namespace)
                .replace_status(&set)
                .await?;
        }
        outcome?;
        Ok(plan::next_check(&observed, now).map_or(Action::AwaitChange, Action::After))
    }
}

impl ReplicaSets {
    async fn observe(&self, key: &ObjectKey, set: Arc<ReplicaSet>) -> Result<Observed, Error> {
        let spec = set.spec.clone().unwrap_or_default();
        let selector = LabelSelector::from_api(Some(&spec.selector))
            .map_err(|e| Error::Invalid(format!("selector: {e}")))?;
        // The version is read first: the list may be newer, never older.
        let version = self.pods.raw().resource_version();
        let lister = self.pods.lister();
        let mut all = lister.by_index(PODS_BY_CONTROLLER, uid(&set.metadata));
        all.extend(lister.by_index(PODS_BY_CONTROLLER, &format!("/{}", key.namespace)));
        let all = self.overlay.apply(key, all, &version);
        let (terminating, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter(|p| !pods::is_terminal(p))
            .partition(|p| pods::is_terminating(p));
        let claims = adopt::plan_claims(&set.metadata, &selector, rest);
        let active = adopt::apply_claims(&self.ctx, &*set, claims).await?;
        let terminating = adopt::plan_claims(&set.metadata, &selector, terminating).keep;
        let related = self.related(&set);
        Ok(Observed {
            set,
            active,
            terminating,
            related,
        })
    }

    /// The pods of all ReplicaSets of the same owner, for spreading deletions over nodes.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let owner = controller_of(&set.metadata).map(|o| o.uid.clone());
        let siblings = match owner {
            Some(owner) => self.sets.by_index(BY_CONTROLLER, &owner),
            None => self.sets.get(&ObjectKey::of(set)).into_iter().collect(),
        };
        let lister = self.pods.lister();
        siblings
            .iter()
            .flat_map(|s| lister.by_index(PODS_BY_CONTROLLER, uid(&s.metadata)))
            .collect()
    }

    async fn apply(&self, key: &ObjectKey, set: &Arc<ReplicaSet>, scale: &Scale) -> Result<(), Error> {
        let api = self.ctx.api::<Pod>(&key.namespace);
        match scale {
            Scale::Keep => Ok(()),
            Scale::Create(count) => {
                let template = set
                    .spec
                    .as_ref()
                    .and_then(|s| s.template.clone())
                    .unwrap_or_default();
                let pod = pod_from_template(&template, &key.name, owner_reference(&**set));
                let (_, outcome) = slow_start(*count, |_| async {
                    match create_pod(&api, &self.recorder, &**set, &pod).await {
                        Ok(created) => {
                            self.overlay.created(key, created);
                            Ok(())
                        }
                        Err(error) if is_namespace_terminating(&error) => Ok(()),
                        Err(error) => Err(error),
                    }
                })
                .await;
                outcome.map_err(Error::from)
            }
            Scale::Delete(surplus) => {
                let deletes = surplus.iter().map(|pod| async {
                    delete_pod(&api, &self.recorder, &**set, pod).await?;
                    self.overlay.deleted(key, uid(&pod.metadata));
                    Ok::<(), orch_core::Status>(())
                });
                join_all(deletes)
                    .await
                    .into_iter()
                    .find_map(Result::err)
                    .map_or(Ok(()), |e| Err(e.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
