//! The behaviour of a custom kind in one version.

use super::{defaults, openapi::Validator, text, texts};
use crate::{registry::Strategy, server::CustomFacts};
use jiff::Timestamp;
use orch_core::Object;
use orch_kinds::{
    field::FieldErrors,
    schema::{self, TypeRef},
    strategy::{Behavior, Propagation, semantic_eq},
    table::CustomTable,
    validate::{NameRule, validate_object_meta, validate_object_meta_update},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The strategy of a custom kind in one version.
pub(super) struct Custom {
    ty: TypeRef,
    validator: Validator,
    has_status: bool,
    namespaced: bool,
    table: CustomTable,
    selectable: Vec<String>,
}

impl Custom {
    /// From one version of a definition.
    pub(super) fn new(version: &Value, namespaced: bool, facts: &CustomFacts) -> Result<Self, String> {
        let schema = &version["schema"]["openAPIV3Schema"];
        let ty = schema::from_crd(Some(schema)).map_err(|e| e.to_string())?;
        let columns = version["additionalPrinterColumns"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            ty,
            validator: Validator::new(schema.clone()),
            has_status: !version["subresources"]["status"].is_null(),
            namespaced,
            table: CustomTable::new(&columns).map_err(|e| e.to_string())?,
            selectable: facts.selectable_fields.clone(),
        })
    }

    fn errors(&self, object: &Value) -> FieldErrors {
        let mut errors = self.validator.validate(object);
        errors.append(self.validator.lists(object));
        errors
    }
}

/// All of an object but its metadata.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    if let Some(map) = content.as_object_mut() {
        map.remove("metadata");
    }
    content
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(held) => drop(map.insert(field.to_owned(), held.clone())),
        None => drop(map.remove(field)),
    }
}

impl Strategy for Custom {
    fn ty(&self) -> &TypeRef {
        &self.ty
    }
    fn behavior(&self) -> Behavior {
        Behavior {
            create_on_update: false,
            unconditional_update: false,
            propagation: Propagation::Background,
        }
    }
    fn apply_defaults(&self, object: &mut Value) {
        defaults::apply(self.validator.schema(), object);
    }
    fn prepare_for_create(&self, object: &mut Value) {
        if self.has_status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        crate::registry::meta::set(object, "generation", 1);
    }
    fn validate_create(&self, object: &Value) -> FieldErrors {
        let mut errors = validate_object_meta(object, self.namespaced, NameRule::Subdomain);
        errors.append(self.errors(object));
        errors
    }
    fn prepare_for_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        let held = old.get("metadata").cloned().unwrap_or_else(|| json!({}));
        if subresource == "status" {
            // Of everything but the status, only managed fields follow the writer.
            let status = new.get("status").cloned();
            let managed = new.get("metadata").and_then(|m| m.get("managedFields")).cloned();
            let version = new
                .get("metadata")
                .and_then(|m| m.get("resourceVersion"))
                .cloned();
            *new = old.clone();
            if let (Some(status), Some(map)) = (status, new.as_object_mut()) {
                map.insert("status".into(), status);
            }
            crate::registry::meta::set(new, "managedFields", managed.unwrap_or_default());
            crate::registry::meta::set(new, "resourceVersion", version.unwrap_or_default());
            return;
        }
        if self.has_status {
            keep(new, old, "status");
        }
        let meta = crate::registry::meta::meta_mut(new);
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
            "deletionGracePeriodSeconds",
        ] {
            let unsent = field != "uid" && field != "deletionGracePeriodSeconds" || !meta.contains_key(field);
            if let Some(value) = held.get(field).filter(|_| unsent) {
                meta.insert(field.to_owned(), value.clone());
            }
        }
        let mut counted = (content(new), content(old));
        for side in [&mut counted.0, &mut counted.1] {
            if let Some(map) = side.as_object_mut().filter(|_| self.has_status) {
                map.remove("status");
            }
        }
        if !semantic_eq(&counted.0, &counted.1) {
            let generation = held.get("generation").and_then(Value::as_i64).unwrap_or(0);
            crate::registry::meta::set(new, "generation", generation.saturating_add(1));
        }
    }
    fn validate_update(&self, _: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = validate_object_meta_update(new, old);
        // What was wrong before and is unchanged does not stand in the way of other changes.
        if content(new) != content(old) {
            let known = self.errors(old);
            let fresh = self.errors(new).0.into_iter().filter(|e| !known.0.contains(e));
            fresh.for_each(|e| errors.push(e));
        }
        errors
    }
    fn warnings_on_create(&self, _: &Value) -> Vec<String> {
        Vec::new()
    }
    fn warnings_on_update(&self, _: &Value, _: &Value) -> Vec<String> {
        Vec::new()
    }
    fn canonicalize(&self, _: &mut Value) {}
    fn supports_field(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.namespaced)
            || self.selectable.iter().any(|f| f == field)
    }
    fn field_value(&self, object: &Value, field: &str) -> String {
        match field.split('.').try_fold(object, |v, key| v.get(key)) {
            Some(Value::String(s)) => s.clone(),
            Some(v @ (Value::Number(_) | Value::Bool(_))) => v.to_string(),
            _ => String::new(),
        }
    }
    fn table(&self, objects: &[Arc<Object>], now: Timestamp) -> (Value, Vec<Value>) {
        let columns = serde_json::to_value(self.table.columns()).unwrap_or_default();
        (
            columns,
            objects
                .iter()
                .map(|o| json!({"cells": self.table.row(o.value(), now)}))
                .collect(),
        )
    }
}

/// What a version of a definition says beside its schema.
pub(super) fn facts(crd: &Value, version: &Value) -> CustomFacts {
    let spec = &crd["spec"];
    let storage = super::items(spec, "versions")
        .iter()
        .find(|v| v["storage"] == true);
    let selectable = super::items(version, "selectableFields").iter();
    CustomFacts {
        crd: crate::registry::meta::text(crd, "name").to_owned(),
        schema: Arc::new(version["schema"]["openAPIV3Schema"].clone()),
        prune: spec["preserveUnknownFields"] != true,
        columns: version["additionalPrinterColumns"].clone(),
        scale: version["subresources"]["scale"].clone(),
        selectable_fields: selectable
            .map(|f| text(f, "jsonPath").trim_start_matches('.').to_owned())
            .collect(),
        storage_version: storage.map(|v| text(v, "name").to_owned()).unwrap_or_default(),
    }
}

/// The short names and categories that were accepted.
pub(super) fn accepted(crd: &Value, field: &str) -> Vec<String> {
    texts(&crd["status"]["acceptedNames"], field)
}
