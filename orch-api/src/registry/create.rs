//! Creation.

use super::{Scope, body::Body, meta, options::WriteOptions, write::Written};
use crate::{
    admission::{Attributes, Operation},
    cache::at_revision,
};
use orch_core::{Object, Status, status::StatusReason};
use serde_json::Value;
use std::sync::Arc;

/// How often a generated name is tried anew when it is taken.
const GENERATE_TRIES: usize = 8;
/// Characters of a generated suffix.
const SUFFIX: usize = 5;
/// Longest generated name, in bytes.
const GENERATED_MAX: usize = 63;

impl Scope<'_> {
    /// Creates the object in `body`.
    pub(crate) async fn create(&self, body: Body, options: &WriteOptions) -> Result<Arc<Object>, Status> {
        let strategy = &self.resource.strategy;
        let mut object = self.decode(body, &self.resource.gvk, strategy.ty(), options.validation)?;
        strategy.apply_defaults(&mut object);
        self.check_namespace(&mut object)?;
        wipe_system_fields(&mut object);
        if !meta::text(&object, "resourceVersion").is_empty() {
            let mut status = Status::new(
                StatusReason::Unknown,
                "resourceVersion should not be set on objects to be created",
            );
            status.code = 500;
            return Err(status);
        }
        self.dedup_owners(&mut object, false);
        self.own_create(&mut object, self.manager(&options.field_manager));
        self.create_decoded(object, options).await
    }

    /// Creates a decoded object: admission, a name if it asks for one, validation, storage.
    pub(crate) async fn create_decoded(
        &self,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let namespace = self.admission_namespace(&object);
        let name = meta::text(&object, "name").to_owned();
        let attributes = self.attributes(Operation::Create, &namespace, &name, options.dry_run, None);
        self.server
            .admission()
            .mutate(self.server, &attributes, &mut object)
            .await?;
        self.dedup_owners(&mut object, true);
        let base = meta::text(&object, "generateName").to_owned();
        if !meta::text(&object, "name").is_empty() || base.is_empty() {
            return self.finish_create(object, options, &attributes).await;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let mut named = object.clone();
            meta::set(&mut named, "name", generate_name(self, &base));
            match self.finish_create(named, options, &attributes).await {
                Err(e) if e.is_already_exists() && tries < GENERATE_TRIES => {}
                Err(e) if e.is_already_exists() => {
                    let name = e.details.as_ref().map(|d| d.name.clone()).unwrap_or_default();
                    let message = format!(
                        "{} {name:?} already exists, the server was not able to generate a unique name for the object",
                        self.resource.group_resource
                    );
                    return Err(Status { message, ..e });
                }
                done => return done,
            }
        }
    }

    /// The part of a creation behind mutating admission, shared by create and create-on-update.
    pub(crate) async fn finish_create(
        &self,
        mut object: Value,
        options: &WriteOptions,
        attributes: &Attributes<'_>,
    ) -> Result<Arc<Object>, Status> {
        let strategy = &self.resource.strategy;
        let uid = self.env().rng.uuid();
        meta::set(&mut object, "uid", uid);
        meta::set(&mut object, "creationTimestamp", meta::time(self.now()));
        strategy.prepare_for_create(&mut object);
        let reserved = self.reserve(&mut object, None, options.dry_run)?;
        let name = meta::text(&object, "name").to_owned();
        let errors = strategy.validate_create(&object);
        if !errors.is_empty() {
            return Err(errors.into_status(&self.resource.gvk, &name));
        }
        strategy
            .warnings_on_create(&object)
            .into_iter()
            .for_each(|w| self.warn(w));
        strategy.canonicalize(&mut object);
        self.server
            .admission()
            .validate(self.server, attributes, Some(&object))
            .await?;
        let key = self.resource.key(meta::text(&object, "namespace"), &name);
        let found = if options.dry_run {
            match self.latest(&key).await? {
                Some(found) => Some(found),
                None => return Ok(Arc::new(Object::from_value(object))),
            }
        } else {
            match self.put(&key, 0, object).await? {
                Written::Done(object) => {
                    reserved.keep();
                    self.written(None, Some(&object));
                    return Ok(object);
                }
                Written::Lost(found) => found,
            }
        };
        let mut status = Status::already_exists(&self.resource.group_resource, &name);
        if found.is_some_and(|f| meta::field(f.object.value(), "deletionTimestamp").is_some()) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        Err(status)
    }

    /// Makes the object's namespace the request's, or refuses another one.
    pub(crate) fn check_namespace(&self, object: &mut Value) -> Result<(), Status> {
        let expected = self.namespace();
        let given = meta::text(object, "namespace");
        if given == expected {
            return Ok(());
        }
        if given.is_empty() {
            meta::set(object, "namespace", expected);
        } else if expected.is_empty() && !self.resource.served.namespaced {
            meta::set(object, "namespace", Value::Null);
        } else {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(message));
        }
        Ok(())
    }

    /// The namespace that admission sees: that of the request; a Namespace object is in itself.
    pub(crate) fn admission_namespace(&self, object: &Value) -> String {
        if self.resource.gvk.kind == "Namespace" && self.resource.gvk.group.is_empty() {
            return meta::text(object, "name").to_owned();
        }
        self.namespace().to_owned()
    }

    /// Removes duplicate owners, with upstream's warning.
    pub(crate) fn dedup_owners(&self, object: &mut Value, after_admission: bool) {
        let duplicates = meta::dedup_owners(object);
        if !duplicates.is_empty() {
            let when = if after_admission {
                " after mutating admission happens"
            } else {
                ""
            };
            self.warn(format!(
                ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in \
                 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) \
                 observed: {}",
                duplicates.join(", ")
            ));
        }
    }

    /// What admission is told of this request.
    pub(crate) fn attributes<'b>(
        &'b self,
        operation: Operation,
        namespace: &'b str,
        name: &'b str,
        dry_run: bool,
        old: Option<&'b Value>,
    ) -> Attributes<'b> {
        Attributes {
            operation,
            resource: &self.resource.served.gvr,
            kind: &self.resource.gvk,
            subresource: &self.info.subresource,
            namespace,
            name,
            user: self.user,
            dry_run,
            old,
            warnings: self,
        }
    }
}

/// Drops what only the server may set.
pub(crate) fn wipe_system_fields(object: &mut Value) {
    let meta = meta::meta_mut(object);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        meta.remove(field);
    }
}

fn generate_name(scope: &Scope<'_>, base: &str) -> String {
    let mut end = base.len().min(GENERATED_MAX - SUFFIX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], scope.env().rng.name_suffix(SUFFIX))
}

/// The object as it would be at `revision`.
pub(crate) fn with_revision(value: Value, revision: u64) -> Arc<Object> {
    Arc::new(Object::from_value(at_revision(value, revision)))
}
