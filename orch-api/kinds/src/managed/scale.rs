//! `managedFields` of the scale subresource: its `spec.replicas` stands for a field of the scaled object.

use super::FieldSet;
use super::entries::{self, Entry};
use super::set::subtract;
use serde_json::Value;

const SCALE_VERSION: &str = "autoscaling/v1";
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// The entries that a Scale shows for its parent: of each manager that owns the replicas field at `path`.
#[must_use]
pub fn to_scale(parent: &Value, path: &[&str]) -> Value {
    let managed = entries::of(parent).unwrap_or_default();
    let scaled = managed
        .into_iter()
        .filter(|e| FieldSet(e.fields.clone()).has_fields(path))
        .map(|e| Entry {
            api_version: SCALE_VERSION.into(),
            fields: FieldSet::of(&[&REPLICAS]).0,
            ..e
        })
        .collect();
    as_list(scaled)
}

/// The parent's entries after its Scale was written with `scale_entries`: whoever owns `spec.replicas` there owns the
/// field at `path`, and nobody else does. `api_version` is the parent's.
#[must_use]
pub fn to_parent(parent: &Value, scale_entries: &Value, path: &[&str], api_version: &str) -> Value {
    let mut managed = entries::of(parent).unwrap_or_default();
    let mut scale = entries::read(scale_entries.clone()).unwrap_or_default();
    let replicas = FieldSet::of(&[path]);
    for entry in &mut managed {
        if !FieldSet(entry.fields.clone()).has_fields(path) {
            continue;
        }
        let same = |s: &Entry| {
            s.manager == entry.manager && s.operation == entry.operation && s.subresource == entry.subresource
        };
        match scale.iter().position(same) {
            Some(i) => drop(scale.remove(i)),
            None => subtract(&mut entry.fields, &replicas.0),
        }
    }
    managed.retain(|e| !e.fields.is_empty());
    for entry in scale {
        if FieldSet(entry.fields.clone()).has_fields(&REPLICAS) {
            managed.push(Entry {
                api_version: api_version.into(),
                fields: replicas.0.clone(),
                ..entry
            });
        }
    }
    as_list(managed)
}

fn as_list(managed: Vec<Entry>) -> Value {
    let mut holder = Value::Object(serde_json::Map::new());
    entries::put(&mut holder, managed);
    entries::take(&mut holder).unwrap_or(Value::Array(Vec::new()))
}
