//! What a Deployment needs; pure.
//!
//! One pass decides once from what is observed. Several changes may be planned together (create the new ReplicaSet
//! and scale old ones down), because each is computed from numbers that the others do not change: what is *asked of*
//! ReplicaSets is tracked through the pass, what is *available* is what they reported.

use super::{
    POD_TEMPLATE_HASH,
    annotations::{self, Annotations},
    rolling, sets,
    sets::{Limits, asked, available},
    status,
};
use crate::shared::{is_deleting, text, uid};
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use orch_core::{
    controller::{Error, owner_reference},
    validate::DNS_SUBDOMAIN_MAX,
};
use std::{sync::Arc, time::Duration};

/// A Deployment and its ReplicaSets.
pub(super) struct Observed {
    pub(super) deployment: Arc<Deployment>,
    /// Its ReplicaSets, oldest first.
    pub(super) sets: Vec<Arc<ReplicaSet>>,
    /// UIDs of ReplicaSets with pods that have not ended.
    pub(super) live_pods: Vec<String>,
}

/// A change of one ReplicaSet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SetChange {
    pub(super) set: Arc<ReplicaSet>,
    pub(super) replicas: Option<i32>,
    pub(super) min_ready_seconds: Option<i32>,
    pub(super) annotations: Annotations,
}

/// What is to be written, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Option<ReplicaSet>,
    pub(super) changes: Vec<SetChange>,
    pub(super) delete: Vec<Arc<ReplicaSet>>,
    /// The Deployment's own revision annotation.
    pub(super) revision: Option<String>,
    pub(super) status: DeploymentStatus,
    /// The selector selects everything: only say so.
    pub(super) selects_all: bool,
    pub(super) next_check: Option<Duration>,
}

/// The pass in the middle.
pub(super) struct Pass<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) limits: Limits,
    /// The ReplicaSet of the current template, as it is or as it will be created.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
    pub(super) live_pods: &'a [String],
    pub(super) status: DeploymentStatus,
    pub(super) plan: Plan,
    pub(super) now: Timestamp,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Result<Plan, Error> {
    let deployment = &*observed.deployment;
    let Some(spec) = &deployment.spec else {
        return Err(Error::Invalid("no spec".into()));
    };
    let status = deployment.status.clone().unwrap_or_default();
    if spec.selector.match_labels.is_none() && spec.selector.match_expressions.is_none() {
        let status = DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            ..status
        };
        return Ok(Plan {
            status,
            selects_all: true,
            ..Plan::default()
        });
    }
    let mut old = observed.sets.clone();
    let new = sets::find_new(deployment, &old).map(|at| old.remove(at));
    let limits = Limits::of(spec)?;
    let live_pods = &observed.live_pods;
    let mut pass = Pass {
        deployment,
        spec,
        limits,
        new,
        old,
        live_pods,
        status,
        plan: Plan::default(),
        now,
    };
    if is_deleting(&deployment.metadata) {
        pass.sync_revision();
        return Ok(pass.end_with_counts());
    }
    pass.paused_condition();
    pass.sync_revision();
    if spec.paused == Some(true) || pass.is_scaling() {
        pass.scale();
        if spec.paused == Some(true) {
            pass.clean_up();
        }
        return Ok(pass.end_with_counts());
    }
    if limits.rolling {
        pass.roll();
    } else {
        pass.recreate();
    }
    Ok(pass.end_with_progress())
}

impl Pass<'_> {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(self.new.iter())
    }
    pub(super) fn active_old(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().filter(|s| asked(s) > 0).cloned().collect()
    }
    pub(super) fn has_deadline(&self) -> bool {
        self.spec.progress_deadline_seconds.is_some_and(|s| s != i32::MAX)
    }

    /// Gives the new ReplicaSet its revision and the Deployment's annotations.
    fn sync_revision(&mut self) {
        let Some(new) = self.new.clone() else { return };
        let wanted = self.next_revision();
        let annotations =
            annotations::for_new_set(self.deployment, new.metadata.annotations.as_ref(), wanted);
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        let current = new.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
        let revision = annotations
            .get(annotations::REVISION)
            .map(String::as_str)
            .or_else(|| annotations::get(&new.metadata, annotations::REVISION))
            .map(str::to_owned);
        if !annotations.is_empty() || min_ready != current {
            let change = self.change(&new);
            change.annotations.extend(annotations);
            change.min_ready_seconds = Some(min_ready).filter(|m| *m != current);
        }
        if let Some(revision) = revision {
            self.set_revision(revision);
        }
        if self.has_deadline() && status::condition(&self.status, "Progressing").is_none() {
            let message = format!("Found new replica set {:?}", text(&new.metadata.name));
            self.set_condition("Progressing", "True", "FoundNewReplicaSet", message);
        }
    }

    fn set_revision(&mut self, revision: String) {
        if annotations::get(&self.deployment.metadata, annotations::REVISION) != Some(&revision) {
            self.plan.revision = Some(revision);
        }
    }

    fn next_revision(&self) -> i64 {
        self.old
            .iter()
            .filter_map(|s| annotations::revision(s))
            .max()
            .unwrap_or(0)
            .saturating_add(1)
    }

    /// The planned change of a ReplicaSet, begun if there is none.
    fn change(&mut self, set: &Arc<ReplicaSet>) -> &mut SetChange {
        let changes = &mut self.plan.changes;
        let at = changes
            .iter()
            .position(|c| uid(&c.set.metadata) == uid(&set.metadata));
        let at = at.unwrap_or_else(|| {
            let (set, annotations) = (set.clone(), Annotations::new());
            changes.push(SetChange {
                set,
                replicas: None,
                min_ready_seconds: None,
                annotations,
            });
            changes.len() - 1
        });
        &mut changes[at]
    }

    /// Plans the ReplicaSet of the current template.
    pub(super) fn create_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let revision = self.next_revision();
        let hash = sets::template_hash(&self.spec.template, self.status.collision_count);
        let mut template = self.spec.template.clone();
        let labels = template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default();
        labels.insert(POD_TEMPLATE_HASH.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(POD_TEMPLATE_HASH.into(), hash.clone());
        let mut stem = text(&self.deployment.metadata.name);
        let room = DNS_SUBDOMAIN_MAX.saturating_sub(hash.len() + 1);
        if stem.len() > room {
            stem = stem.get(..room).unwrap_or(stem);
        }
        let replicas = self.replicas_of_new(0);
        let mut annotations = annotations::for_new_set(self.deployment, None, revision);
        annotations.extend(annotations::for_scale(
            self.limits.replicas,
            self.limits.max_total(),
        ));
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{stem}-{hash}")),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owner_reference(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: self.spec.min_ready_seconds.filter(|s| *s != 0),
                selector,
                template: Some(template),
            }),
            status: None,
        };
        self.set_revision(revision.to_string());
        if self.has_deadline() {
            let message = format!("Created new replica set {:?}", text(&set.metadata.name));
            self.set_condition("Progressing", "True", "NewReplicaSetCreated", message);
        }
        self.new = Some(Arc::new(set.clone()));
        self.plan.create = Some(set);
    }

    /// How many pods a rollout may ask of the new ReplicaSet that is now asked for `current`.
    pub(super) fn replicas_of_new(&self, current: i32) -> i32 {
        if !self.limits.rolling {
            return self.limits.replicas;
        }
        let room = self.limits.max_total() - sets::total(self.all(), asked);
        current + room.min(self.limits.replicas - current).max(0)
    }

    /// Plans a ReplicaSet's size. Answers whether that changes it.
    pub(super) fn resize(&mut self, set: &Arc<ReplicaSet>, replicas: i32, refresh: bool) -> bool {
        let resized = asked(set) != replicas;
        if !resized && !refresh {
            return false;
        }
        let recorded = annotations::for_scale(self.limits.replicas, self.limits.max_total());
        let stale = recorded
            .iter()
            .any(|(k, v)| annotations::get(&set.metadata, k) != Some(v));
        if !resized && !stale {
            return false;
        }
        if uid(&set.metadata).is_empty() {
            // Not created yet: it is created in its new size.
            let size = |s: &mut ReplicaSet| s.spec.get_or_insert_default().replicas = Some(replicas);
            if let Some(create) = &mut self.plan.create {
                size(create);
            }
            if let Some(new) = &mut self.new {
                size(Arc::make_mut(new));
            }
            return resized;
        }
        let change = self.change(set);
        change.annotations.extend(recorded);
        if resized {
            change.replicas = Some(replicas);
            for held in self.old.iter_mut().chain(self.new.iter_mut()) {
                if uid(&held.metadata) == uid(&set.metadata) {
                    Arc::make_mut(held).spec.get_or_insert_default().replicas = Some(replicas);
                }
            }
        }
        resized
    }

    /// Whether somebody scaled the Deployment since its ReplicaSets were last scaled.
    fn is_scaling(&self) -> bool {
        let mut active = self.all().filter(|s| asked(s) > 0);
        active.any(|s| {
            annotations::replicas(s, annotations::DESIRED).is_some_and(|d| d != self.limits.replicas)
        })
    }

    /// Whether the new ReplicaSet is all that is needed.
    fn is_saturated(&self) -> bool {
        let replicas = self.limits.replicas;
        self.new.as_ref().is_some_and(|new| {
            asked(new) == replicas
                && annotations::replicas(new, annotations::DESIRED) == Some(replicas)
                && available(new) == replicas
        })
    }

    /// Scales without rolling: the one active ReplicaSet, or all of them in proportion.
    fn scale(&mut self) {
        if let Some(set) = self.active_or_latest() {
            self.resize(&set, self.limits.replicas, true);
            return;
        }
        if self.is_saturated() {
            for set in self.active_old() {
                self.resize(&set, 0, false);
            }
            return;
        }
        if self.limits.rolling {
            rolling::scale_in_proportion(self);
        }
    }

    fn active_or_latest(&self) -> Option<Arc<ReplicaSet>> {
        let active: Vec<_> = self.all().filter(|s| asked(s) > 0).collect();
        match active[..] {
            [] => self.new.clone().or_else(|| self.old.last().cloned()),
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    /// Deletes the oldest ReplicaSets without pods beyond the history limit.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|l| *l != i32::MAX) else {
            return;
        };
        let mut alive: Vec<_> = self
            .old
            .iter()
            .filter(|s| !is_deleting(&s.metadata))
            .cloned()
            .collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        // By age already; by revision where there is one. The sort is stable.
        alive.sort_by_key(|s| annotations::revision(s).unwrap_or(0));
        for set in alive.into_iter().take(surplus) {
            let observed = set
                .status
                .as_ref()
                .and_then(|s| s.observed_generation)
                .unwrap_or(0);
            let settled = set.metadata.generation.unwrap_or(0) <= observed;
            if sets::actual(&set) == 0 && asked(&set) == 0 && settled {
                self.plan.delete.push(set);
            }
        }
    }
}
