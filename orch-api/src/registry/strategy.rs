//! What is particular about a kind, behind one trait: built-in kinds from facts, custom resources from their schema.

use jiff::Timestamp;
use orch_core::{GroupVersionKind, GroupVersionResource, Object};
use orch_kinds::{
    defaults,
    field::FieldErrors,
    resources::ResourceDef,
    schema::{self, TypeRef},
    strategy::{self, Behavior},
    table, validate,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The particulars of a kind. All functions are pure; objects are in the served version and defaulted.
pub(crate) trait Strategy: Send + Sync + 'static {
    /// The structural type, for decoding, merging and field ownership.
    fn ty(&self) -> &TypeRef;
    /// How the kind behaves under the generic verbs.
    fn behavior(&self) -> Behavior;
    /// Fills in defaults after decoding or patching.
    fn apply_defaults(&self, object: &mut Value);
    /// Sets and drops what creation sets and drops.
    fn prepare_for_create(&self, object: &mut Value);
    /// What is wrong with a new object, metadata included.
    fn validate_create(&self, object: &Value) -> FieldErrors;
    /// Makes `new` a lawful successor of `old` for an update of the object or of a subresource.
    fn prepare_for_update(&self, subresource: &str, new: &mut Value, old: &Value);
    /// What is wrong with an update.
    fn validate_update(&self, subresource: &str, new: &Value, old: &Value) -> FieldErrors;
    /// What to warn of at creation.
    fn warnings_on_create(&self, object: &Value) -> Vec<String>;
    /// What to warn of at an update.
    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String>;
    /// Puts a valid object into its final form.
    fn canonicalize(&self, object: &mut Value);
    /// Whether a field selector may name `field`.
    fn supports_field(&self, field: &str) -> bool;
    /// The field selector value of `field`.
    fn field_value(&self, object: &Value, field: &str) -> String;
    /// Column definitions and rows (with `cells`) of the table that people see.
    fn table(&self, objects: &[Arc<Object>], now: Timestamp) -> (Value, Vec<Value>);
}

/// A built-in kind.
pub(crate) struct BuiltIn {
    gvr: GroupVersionResource,
    gvk: GroupVersionKind,
    ty: TypeRef,
}

impl BuiltIn {
    /// The strategy of a built-in resource.
    pub(crate) fn new(def: &ResourceDef) -> Self {
        let (gvr, gvk) = (def.gvr.clone(), def.gvk());
        let ty = schema::builtin(&gvk).unwrap_or_else(schema::untyped);
        Self { gvr, gvk, ty }
    }
}

impl Strategy for BuiltIn {
    fn ty(&self) -> &TypeRef {
        &self.ty
    }
    fn behavior(&self) -> Behavior {
        strategy::behavior(&self.gvk)
    }
    fn apply_defaults(&self, object: &mut Value) {
        defaults::apply(&self.gvk, object);
    }
    fn prepare_for_create(&self, object: &mut Value) {
        strategy::prepare_for_create(&self.gvk, object);
    }
    fn validate_create(&self, object: &Value) -> FieldErrors {
        validate::validate_create(&self.gvk, object)
    }
    fn prepare_for_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource.is_empty() {
            strategy::prepare_for_update(&self.gvk, new, old);
        } else {
            strategy::prepare_for_subresource(&self.gvk, subresource, new, old);
        }
    }
    fn validate_update(&self, subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        if subresource.is_empty() {
            validate::validate_update(&self.gvk, new, old)
        } else {
            validate::validate_subresource_update(&self.gvk, subresource, new, old)
        }
    }
    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        strategy::warnings_on_create(&self.gvk, object)
    }
    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        strategy::warnings_on_update(&self.gvk, new, old)
    }
    fn canonicalize(&self, object: &mut Value) {
        strategy::canonicalize(&self.gvk, object);
    }
    fn supports_field(&self, field: &str) -> bool {
        strategy::supports_field(&self.gvk, field)
    }
    fn field_value(&self, object: &Value, field: &str) -> String {
        strategy::field_value(&self.gvk, object, field)
    }
    fn table(&self, objects: &[Arc<Object>], now: Timestamp) -> (Value, Vec<Value>) {
        let columns = serde_json::to_value(table::columns(&self.gvr)).unwrap_or_default();
        let row = |object: &Arc<Object>| {
            let mut row = json!({"cells": table::row(&self.gvk, object.value(), now)});
            let conditions = table::row_conditions(&self.gvk, object.value());
            if !conditions.is_empty() {
                row["conditions"] = conditions.into();
            }
            row
        };
        (columns, objects.iter().map(row).collect())
    }
}
