//! Updates: one loop that reads, changes, checks and swaps, for PUT and PATCH, objects and subresources.

use super::{
    Scope,
    body::Body,
    create::with_revision,
    meta,
    options::WriteOptions,
    write::{Current, Written},
};
use crate::{admission::Operation, authz::Attributes as Authorization, server::forbidden};
use async_trait::async_trait;
use orch_core::{GroupVersionKind, Object, Status};
use orch_kinds::field::{FieldErrors, Path};
use serde_json::Value;
use std::sync::Arc;

/// Upstream's text for a lost race.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// What an update wants to make of an object. It is asked again when the object changed meanwhile.
#[async_trait]
pub(crate) trait Edit: Send + Sync {
    /// The new object in the served version, with its fields' owners; `existing` is `None` if there is none.
    async fn edit(&mut self, scope: &Scope<'_>, existing: Option<&Arc<Object>>) -> Result<Value, Status>;
    /// The UID that the object must have.
    fn uid(&self) -> Option<String> {
        None
    }
}

/// What an update did.
pub(crate) struct Updated {
    /// The object.
    pub(crate) object: Arc<Object>,
    /// Whether it was created.
    pub(crate) created: bool,
}

/// One round's result.
enum Round {
    Done(Updated),
    Again(Option<Current>),
}

impl Scope<'_> {
    /// PUT of an object or of one of its subresources that have the object's own kind.
    pub(crate) async fn replace(&self, body: Body, options: &WriteOptions) -> Result<Updated, Status> {
        let strategy = &self.resource.strategy;
        let mut object = self.decode(body, &self.resource.gvk, strategy.ty(), options.validation)?;
        strategy.apply_defaults(&mut object);
        self.check_namespace(&mut object)?;
        self.check_name(&object, &self.info.name)?;
        self.dedup_owners(&mut object, false);
        let mut edit = Replace {
            object,
            manager: self.manager(&options.field_manager).to_owned(),
        };
        self.update(&self.info.name, &mut edit, options, false).await
    }

    /// Reads, lets `edit` change, checks, swaps; until it is done or refused.
    pub(crate) async fn update(
        &self,
        name: &str,
        edit: &mut dyn Edit,
        options: &WriteOptions,
        force_create: bool,
    ) -> Result<Updated, Status> {
        let key = self.resource.key(self.namespace(), name);
        // The cache is right but for a moment, so it is tried first; what it lets fail is tried again on the truth.
        let (mut current, mut certain) = (self.cached(&key), false);
        if current.is_none() {
            (current, certain) = (self.latest(&key).await?, true);
        }
        loop {
            match self
                .round(&key, name, current.as_ref(), edit, options, force_create)
                .await
            {
                Ok(Round::Done(updated)) => return Ok(updated),
                Ok(Round::Again(found)) => (current, certain) = (found, true),
                Err(refused) if certain => return Err(refused),
                Err(refused) => {
                    let latest = self.latest(&key).await?;
                    if latest.as_ref().map(|c| c.revision) == current.as_ref().map(|c| c.revision) {
                        return Err(refused);
                    }
                    (current, certain) = (latest, true);
                }
            }
        }
    }

    async fn round(
        &self,
        key: &str,
        name: &str,
        current: Option<&Current>,
        edit: &mut dyn Edit,
        options: &WriteOptions,
        force_create: bool,
    ) -> Result<Round, Status> {
        let Some(current) = current else {
            let allowed = force_create || self.resource.strategy.behavior().create_on_update;
            if !allowed || !self.info.subresource.is_empty() {
                return Err(self.not_found(name));
            }
            return self.create_by_update(name, edit, options).await.map(Round::Done);
        };
        let resource = &self.resource;
        let existing = resource.conversion.served(&current.object);
        let old = existing.value();
        self.check_uid(key, edit.uid().as_deref(), old)?;
        let mut new = edit.edit(self, Some(&existing)).await?;
        self.check_namespace(&mut new)?;
        self.check_name(&new, name)?;
        let namespace = self.admission_namespace(&new);
        let attributes = self.attributes(Operation::Update, &namespace, name, options.dry_run, Some(old));
        self.server
            .admission()
            .mutate(self.server, &attributes, &mut new)
            .await?;
        self.dedup_owners(&mut new, true);
        self.check_revision(&new, name, current.revision)?;
        meta::set(&mut new, "resourceVersion", current.revision.to_string());
        self.resource
            .strategy
            .prepare_for_update(self.rules(), &mut new, old);
        let reserved = self.reserve(&mut new, Some(old), options.dry_run)?;
        self.check_update(&mut new, old, name)?;
        self.keep_owner_times(&mut new, old);
        self.server
            .admission()
            .validate(self.server, &attributes, Some(&new))
            .await?;
        if self.deletes_by_update(&new, old) {
            return self.delete_by_update(key, current, new, options, reserved).await;
        }
        if new == *old {
            // Nothing to write; but only the store knows whether what was compared with is still there.
            let latest = if options.dry_run {
                Some(current.clone())
            } else {
                self.latest(key).await?
            };
            if latest.as_ref().map(|c| c.revision) != Some(current.revision) {
                return Ok(Round::Again(latest));
            }
            return Ok(Round::Done(Updated {
                object: existing,
                created: false,
            }));
        }
        if options.dry_run {
            let object = with_revision(new, current.revision);
            return Ok(Round::Done(Updated {
                object,
                created: false,
            }));
        }
        match self.put(key, current.revision, new).await? {
            Written::Done(object) => {
                reserved.keep();
                self.written(Some(&existing), Some(&object));
                Ok(Round::Done(Updated {
                    object,
                    created: false,
                }))
            }
            Written::Lost(found) => Ok(Round::Again(found)),
        }
    }

    async fn create_by_update(
        &self,
        name: &str,
        edit: &mut dyn Edit,
        options: &WriteOptions,
    ) -> Result<Updated, Status> {
        let mut object = edit.edit(self, None).await?;
        let uid = edit
            .uid()
            .unwrap_or_else(|| meta::text(&object, "uid").to_owned());
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(&self.resource.group_resource, name, why));
        }
        self.check_namespace(&mut object)?;
        self.check_name(&object, name)?;
        let authorization = Authorization {
            user: self.user,
            verb: "create",
            group: &self.info.group,
            version: &self.info.version,
            resource: &self.info.resource,
            subresource: &self.info.subresource,
            namespace: &self.info.namespace,
            name,
            path: &self.info.path,
            resource_request: true,
            field_selector: "",
            label_selector: "",
        };
        let decision = self.server.decide(&authorization).await;
        if !decision.allowed() {
            return Err(forbidden(&authorization, decision.reason()));
        }
        super::create::wipe_system_fields(&mut object);
        meta::set(&mut object, "resourceVersion", Value::Null);
        let created = self.create_decoded(object, options).await?;
        Ok(Updated {
            object: created,
            created: true,
        })
    }

    /// By whose rules an update is prepared and validated: those of the object or of a view of it. A scale is another
    /// document that leads to an update of the object.
    fn rules(&self) -> &str {
        if self.info.subresource == "scale" {
            ""
        } else {
            &self.info.subresource
        }
    }

    /// Validation of an update.
    fn check_update(&self, new: &mut Value, old: &Value, name: &str) -> Result<(), Status> {
        let strategy = &self.resource.strategy;
        let subresource = self.rules();
        let errors = strategy.validate_update(subresource, new, old);
        if !errors.is_empty() {
            return Err(errors.into_status(&self.resource.gvk, name));
        }
        if subresource.is_empty() {
            strategy
                .warnings_on_update(new, old)
                .into_iter()
                .for_each(|w| self.warn(w));
        }
        strategy.canonicalize(new);
        Ok(())
    }

    fn check_revision(&self, new: &Value, name: &str, current: u64) -> Result<(), Status> {
        let resource = &self.resource.group_resource;
        match meta::text(new, "resourceVersion") {
            "" | "0" if self.resource.strategy.behavior().unconditional_update => Ok(()),
            "" | "0" => {
                let mut errors = FieldErrors::new();
                let metadata = Path::new("metadata");
                errors.invalid(
                    &metadata.child("resourceVersion"),
                    0,
                    "must be specified for an update",
                );
                let kind = GroupVersionKind::new(&*resource.group, "", &*resource.resource);
                Err(errors.into_status(&kind, name))
            }
            given if given.parse() == Ok(current) => Ok(()),
            _ => Err(Status::conflict(resource, name, MODIFIED)),
        }
    }

    pub(crate) fn check_name(&self, object: &Value, name: &str) -> Result<(), Status> {
        let given = meta::text(object, "name");
        if given.is_empty() {
            let why = format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            );
            return Err(Status::bad_request(why));
        }
        if given != name {
            let why = format!("the name of the object ({given}) does not match the name on the URL ({name})");
            return Err(Status::bad_request(why));
        }
        Ok(())
    }

    /// Refuses to touch an object with another UID than expected.
    pub(crate) fn check_uid(&self, key: &str, expected: Option<&str>, old: &Value) -> Result<(), Status> {
        let found = meta::text(old, "uid");
        let Some(expected) = expected.filter(|u| *u != found) else {
            return Ok(());
        };
        Err(self.precondition(key, meta::text(old, "name"), "UID", "UID", expected, found))
    }

    /// The 409 of a precondition that does not hold.
    pub(crate) fn precondition(
        &self,
        key: &str,
        name: &str,
        what: &str,
        of: &str,
        expected: &str,
        found: &str,
    ) -> Status {
        let key = format!("{}{key}", self.resource.cache.prefix());
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
             failed: {what} in precondition: {expected}, {of} in object meta: {found}"
        );
        Status::conflict(&self.resource.group_resource, name, why)
    }

    /// Whether this update removes the last thing that held a deleted object.
    fn deletes_by_update(&self, new: &Value, old: &Value) -> bool {
        if !meta::finalizers(new).is_empty() || meta::field(old, "deletionTimestamp").is_none() {
            return false;
        }
        let grace = meta::field(old, "deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        grace == 0 && !has_namespace_finalizers(&self.resource.gvk, new)
    }

    async fn delete_by_update(
        &self,
        key: &str,
        current: &Current,
        new: Value,
        options: &WriteOptions,
        reserved: crate::alloc::Reserved,
    ) -> Result<Round, Status> {
        let object = with_revision(new, current.revision);
        if !options.dry_run {
            match self.remove(key, current.revision).await? {
                Ok(_) => {
                    reserved.keep();
                    self.written(Some(&object), None);
                }
                Err(Some(found)) => return Ok(Round::Again(Some(found))),
                Err(None) => {}
            }
        }
        Ok(Round::Done(Updated {
            object,
            created: false,
        }))
    }
}

/// Whether a Namespace still waits for its content to go.
pub(crate) fn has_namespace_finalizers(gvk: &GroupVersionKind, object: &Value) -> bool {
    let is_namespace = gvk.kind == "Namespace" && gvk.group.is_empty();
    let list = object
        .get("spec")
        .and_then(|s| s.get("finalizers"))
        .and_then(Value::as_array);
    is_namespace && list.is_some_and(|l| !l.is_empty())
}

struct Replace {
    object: Value,
    manager: String,
}

#[async_trait]
impl Edit for Replace {
    async fn edit(&mut self, scope: &Scope<'_>, existing: Option<&Arc<Object>>) -> Result<Value, Status> {
        let mut new = self.object.clone();
        match existing {
            Some(existing) => scope.own_update(existing.value(), &mut new, &self.manager),
            None => scope.own_create(&mut new, &self.manager),
        }
        Ok(new)
    }
    fn uid(&self) -> Option<String> {
        Some(meta::text(&self.object, "uid").to_owned()).filter(|u| !u.is_empty())
    }
}
