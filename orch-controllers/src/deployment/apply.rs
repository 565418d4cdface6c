//! Writes a plan.

use super::{
    Deployments, annotations,
    plan::{Observed, Plan, SetChange},
    sets,
};
use crate::shared::{text, uid, write::is_namespace_terminating};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use orch_core::{
    ObjectKey,
    client::Patch,
    controller::{
        Error, controller_of,
        events::EventType::{Normal, Warning},
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

impl Deployments {
    pub(super) async fn apply(&self, key: &ObjectKey, observed: &Observed, plan: Plan) -> Result<(), Error> {
        let deployment = &observed.deployment;
        if plan.selects_all {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder
                .record(&**deployment, Warning, "SelectingAll", message);
        }
        if let Some(set) = &plan.create {
            self.create(key, deployment, set, &plan.status).await?;
        }
        for change in &plan.changes {
            self.change(key, deployment, change).await?;
        }
        let sets = self.ctx.api::<ReplicaSet>(&key.namespace);
        for set in &plan.delete {
            match sets
                .delete_uid(text(&set.metadata.name), uid(&set.metadata), "Background")
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        let mut new = (**deployment).clone();
        new.status = Some(plan.status);
        // The revision goes along with the status: written to the object itself it would count as a new generation.
        if let Some(revision) = plan.revision {
            new.metadata
                .annotations
                .get_or_insert_default()
                .insert(annotations::REVISION.into(), revision);
        }
        if new != **deployment {
            self.ctx
                .api::<Deployment>(&key.namespace)
                .replace_status(&new)
                .await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        key: &ObjectKey,
        deployment: &Arc<Deployment>,
        set: &ReplicaSet,
        status: &DeploymentStatus,
    ) -> Result<(), Error> {
        let api = self.ctx.api::<ReplicaSet>(&key.namespace);
        let name = text(&set.metadata.name);
        match api.create(set).await {
            Ok(created) => {
                let replicas = sets::asked(&created);
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.recorder
                        .record(&**deployment, Normal, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Err(error) if error.is_already_exists() => {
                let existing = api.get(name).await?;
                let ours =
                    controller_of(&existing.metadata).is_some_and(|o| o.uid == uid(&deployment.metadata));
                let wanted = deployment.spec.as_ref().map(|s| &s.template);
                let template = existing.spec.as_ref().and_then(|s| s.template.as_ref());
                if ours
                    && wanted
                        .zip(template)
                        .is_some_and(|(a, b)| sets::same_template(a, b))
                {
                    // Only the local copy did not have it yet.
                    return Ok(());
                }
                // Another template has the same hash: count it in, and try again with another name.
                let collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                let mut bumped = (**deployment).clone();
                bumped.status = Some(DeploymentStatus {
                    collision_count,
                    ..deployment.status.clone().unwrap_or_default()
                });
                self.ctx
                    .api::<Deployment>(&key.namespace)
                    .replace_status(&bumped)
                    .await?;
                Err(Error::NotYet(format!("hash collision of replica set {name}")))
            }
            Err(error) if is_namespace_terminating(&error) => Err(Error::Invalid(error.to_string())),
            Err(error) => {
                let message = format!("Failed to create new replica set {name:?}: {error}");
                self.recorder
                    .record(&**deployment, Warning, "ReplicaSetCreateError", message.clone());
                self.report_failure(key, deployment, message).await;
                Err(error.into())
            }
        }
    }

    /// Says in the status that the ReplicaSet could not be created; best effort.
    async fn report_failure(&self, key: &ObjectKey, deployment: &Arc<Deployment>, message: String) {
        let deadline = deployment.spec.as_ref().and_then(|s| s.progress_deadline_seconds);
        if deadline.is_none_or(|s| s == i32::MAX) {
            return;
        }
        let mut status = deployment.status.clone().unwrap_or_default();
        super::status::set_progressing(
            &mut status,
            "False",
            "ReplicaSetCreateError",
            message,
            self.ctx.env.clock.now(),
        );
        if deployment.status.as_ref() == Some(&status) {
            return;
        }
        let mut new = (**deployment).clone();
        new.status = Some(status);
        drop(
            self.ctx
                .api::<Deployment>(&key.namespace)
                .replace_status(&new)
                .await,
        );
    }

    async fn change(
        &self,
        key: &ObjectKey,
        deployment: &Arc<Deployment>,
        change: &SetChange,
    ) -> Result<(), Error> {
        let set = &change.set;
        let name = text(&set.metadata.name);
        let mut spec = serde_json::Map::new();
        if let Some(replicas) = change.replicas {
            spec.insert("replicas".into(), json!(replicas));
        }
        if let Some(seconds) = change.min_ready_seconds {
            spec.insert("minReadySeconds".into(), json!(seconds));
        }
        let mut patch = json!({"metadata": {
            "uid": set.metadata.uid, "resourceVersion": set.metadata.resource_version, "annotations": change.annotations,
        }});
        if !spec.is_empty() {
            patch["spec"] = Value::Object(spec);
        }
        self.ctx
            .api::<ReplicaSet>(&key.namespace)
            .patch(name, Patch::merge(patch))
            .await?;
        if let Some(to) = change.replicas {
            let from = sets::asked(set);
            let direction = if from < to { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            self.recorder
                .record(&**deployment, Normal, "ScalingReplicaSet", message);
        }
        Ok(())
    }
}
