//! Deletion: at once, gracefully, or held by finalizers; of one object or a collection.

use super::{
    Scope,
    create::with_revision,
    meta,
    options::{DeleteOptions, ListOptions, Propagation},
    update::has_namespace_finalizers,
    write::{Current, Written},
};
use crate::{admission::Operation, crd};
use orch_core::{Object, Status};
use orch_kinds::strategy::{self, Deletion};
use serde_json::{Value, json};
use std::sync::Arc;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion did.
pub(crate) struct Deleted {
    /// The object as it was, or as it is now while something holds it; or a `Status`.
    pub(crate) object: Arc<Object>,
    /// Whether it is gone.
    pub(crate) gone: bool,
}

enum Step {
    Done(Deleted),
    Again(Option<Current>),
}

impl Scope<'_> {
    /// Deletes one object.
    pub(crate) async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Deleted, Status> {
        self.delete_in(self.namespace(), name, options).await
    }

    async fn delete_in(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let key = self.resource.key(namespace, name);
        let mut current = self.latest(&key).await?;
        loop {
            let Some(found) = current else {
                return Err(self.not_found(name));
            };
            match self.delete_step(&key, name, &found, options).await? {
                Step::Done(deleted) => return Ok(deleted),
                Step::Again(found) => current = found,
            }
        }
    }

    async fn delete_step(
        &self,
        key: &str,
        name: &str,
        current: &Current,
        options: &DeleteOptions,
    ) -> Result<Step, Status> {
        let resource = &self.resource;
        let existing = resource.conversion.served(&current.object);
        let old = existing.value();
        self.check_preconditions(name, old, options)?;
        let namespace = match self.admission_namespace(old) {
            n if n.is_empty() => meta::text(old, "namespace").to_owned(),
            n => n,
        };
        let attributes = self.attributes(Operation::Delete, &namespace, name, options.dry_run, Some(old));
        self.server
            .admission()
            .validate(self.server, &attributes, None)
            .await?;

        let mut new = old.clone();
        let is_namespace = resource.gvk.kind == "Namespace" && resource.gvk.group.is_empty();
        let deletion = strategy::mark_for_deletion(&resource.gvk, &mut new, options.grace, self.now());
        if deletion == Deletion::Pending {
            return Ok(Step::Done(self.deleted(&existing, false)));
        }
        self.set_deletion_finalizers(&mut new, options);
        if crd::check::is_definition(&resource.gvk) {
            crd::check::hold_for_cleanup(&mut new, &meta::time(self.now()));
        }
        let held = !meta::finalizers(&new).is_empty() || has_namespace_finalizers(&resource.gvk, &new);
        if deletion == Deletion::Now {
            if !held {
                return self.delete_now(key, current, &existing, options).await;
            }
            self.mark_as_deleting(&mut new);
            if is_namespace && let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
                status.insert("phase".into(), "Terminating".into());
            }
        }
        if new == *old {
            return Ok(Step::Done(self.deleted(&existing, false)));
        }
        if options.dry_run {
            return Ok(Step::Done(
                self.deleted(&with_revision(new, current.revision), false),
            ));
        }
        match self.put(key, current.revision, new).await? {
            Written::Done(object) => {
                self.written(Some(&existing), Some(&object));
                Ok(Step::Done(Deleted { object, gone: false }))
            }
            Written::Lost(found) => Ok(Step::Again(found)),
        }
    }

    async fn delete_now(
        &self,
        key: &str,
        current: &Current,
        existing: &Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<Step, Status> {
        if options.dry_run {
            return Ok(Step::Done(self.deleted(existing, true)));
        }
        match self.remove(key, current.revision).await? {
            Ok(revision) => {
                self.written(Some(existing), None);
                let last = with_revision(existing.value().clone(), revision);
                Ok(Step::Done(self.deleted(&last, true)))
            }
            Err(found) => Ok(Step::Again(found)),
        }
    }

    /// Marks what only finalizers hold: there is no grace, the time is now.
    fn mark_as_deleting(&self, object: &mut Value) {
        let marked = meta::field(object, "deletionTimestamp").is_some();
        let generation = meta::field(object, "generation")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if !marked && generation > 0 {
            meta::set(object, "generation", generation.saturating_add(1));
        }
        let now = meta::time(self.now());
        // Times in this form sort as text.
        if !marked || meta::text(object, "deletionTimestamp") > now.as_str() {
            meta::set(object, "deletionTimestamp", now);
        }
        meta::set(object, "deletionGracePeriodSeconds", 0);
    }

    /// Adds or removes the finalizers through which the garbage collector takes part.
    fn set_deletion_finalizers(&self, object: &mut Value, options: &DeleteOptions) {
        let default = self.resource.strategy.behavior().propagation;
        if default == strategy::Propagation::Unsupported {
            return;
        }
        let old = meta::finalizers(object);
        let has = |f: &str| old.iter().any(|x| x == f);
        let wanted = match (options.orphan, options.propagation) {
            (Some(true), _) | (None, Some(Propagation::Orphan)) => Some(ORPHAN),
            (None, Some(Propagation::Foreground)) => Some(FOREGROUND),
            (Some(false), _) | (None, Some(Propagation::Background)) => None,
            (None, None) if has(ORPHAN) => Some(ORPHAN),
            (None, None) if has(FOREGROUND) => Some(FOREGROUND),
            (None, None) if default == strategy::Propagation::Orphan => Some(ORPHAN),
            (None, None) => None,
        };
        let mut new: Vec<String> = old
            .iter()
            .filter(|f| *f != ORPHAN && *f != FOREGROUND)
            .cloned()
            .collect();
        new.extend(wanted.map(ToOwned::to_owned));
        let same = new.len() == old.len() && old.iter().all(|f| new.contains(f));
        if !same {
            meta::set(
                object,
                "finalizers",
                if new.is_empty() {
                    Value::Null
                } else {
                    Value::from(new)
                },
            );
        }
    }

    pub(crate) fn check_preconditions(
        &self,
        name: &str,
        old: &Value,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        // Upstream names the kind here, not the resource.
        let kind = orch_core::GroupResource {
            group: self.resource.gvk.group.clone(),
            resource: self.resource.gvk.kind.clone(),
        };
        let found = meta::text(old, "uid");
        if let Some(uid) = options.uid.as_deref().filter(|u| *u != found) {
            let why = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict(&kind, name, why));
        }
        let found = meta::text(old, "resourceVersion");
        if let Some(version) = options.resource_version.as_deref().filter(|v| *v != found) {
            let why = format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
                 ({found}). The object might have been modified"
            );
            return Err(Status::conflict(&kind, name, why));
        }
        Ok(())
    }

    /// What the client is told of a deleted object: itself for some kinds, a `Status` for the others.
    fn deleted(&self, object: &Arc<Object>, gone: bool) -> Deleted {
        if returns_object(&self.resource.gvk.group, &self.resource.gvk.kind) {
            return Deleted {
                object: object.clone(),
                gone,
            };
        }
        let resource = &self.resource.group_resource;
        let mut details = json!({"name": object.name(), "kind": resource.resource, "uid": object.uid()});
        if !resource.group.is_empty() {
            details["group"] = resource.group.as_str().into();
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Deleted {
            object: Arc::new(Object::from_value(status)),
            gone,
        }
    }

    /// Deletes every object that a list selects; gives them as they were.
    pub(crate) async fn delete_collection(
        &self,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<super::list::Listing, Status> {
        let listing = self.list(list).await?;
        for object in &listing.items {
            match self.delete_in(object.namespace(), object.name(), options).await {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        Ok(listing)
    }
}

/// Kinds whose deletion answers with the object.
fn returns_object(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        (
            "",
            "Pod"
                | "Service"
                | "Namespace"
                | "ServiceAccount"
                | "ResourceQuota"
                | "PersistentVolume"
                | "PersistentVolumeClaim"
                | "PodTemplate"
        ) | (
            "storage.k8s.io",
            "CSIDriver" | "StorageClass" | "VolumeAttachment" | "CSINode" | "VolumeAttributesClass"
        ) | ("resource.k8s.io", _)
    )
}
