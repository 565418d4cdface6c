//! Reading and writing the metadata of objects held as JSON.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The metadata of an object, made if it has none.
pub(crate) fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(map) = object else {
        unreachable!("made an object above")
    };
    let meta = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    let Value::Object(meta) = meta else {
        unreachable!("made an object above")
    };
    meta
}

/// A text of the metadata, empty if absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|m| m.get(field))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// A member of the metadata, if present and not null.
pub(crate) fn field<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object
        .get("metadata")
        .and_then(|m| m.get(field))
        .filter(|v| !v.is_null())
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = field(object, "finalizers").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

/// Sets a member of the metadata; null removes it.
pub(crate) fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    let meta = meta_mut(object);
    if value.is_null() {
        meta.remove(field);
    } else {
        meta.insert(field.to_owned(), value);
    }
}

/// A time as metadata holds it: whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Removes duplicate owner references and gives their UIDs.
pub(crate) fn dedup_owners(object: &mut Value) -> Vec<String> {
    let Some(Value::Array(refs)) = object
        .get_mut("metadata")
        .and_then(|m| m.get_mut("ownerReferences"))
    else {
        return Vec::new();
    };
    let mut duplicates = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(refs.len());
    for owner in refs.drain(..) {
        if kept.contains(&owner) {
            duplicates.push(owner.get("uid").and_then(Value::as_str).unwrap_or("").to_owned());
        } else {
            kept.push(owner);
        }
    }
    *refs = kept;
    duplicates
}
