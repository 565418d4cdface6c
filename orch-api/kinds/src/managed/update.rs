//! Ownership after a create, an update or a patch.

use super::compare::{self, Changes};
use super::entries::{self, Entry, Operation};
use super::set::{subtract, subtract_recursively, union};
use super::{FieldSet, Write, extract};
use crate::schema::empty_object;
use serde_json::{Map, Value};

/// Records in `new` who owns which field after a create (`old` is `None`), update or patch.
///
/// `new` is the object about to be stored, defaulted and valid; `old` the stored one that it replaces. Fields that
/// changed go to the writer and leave everybody else; fields that are gone leave everybody. A writer's time changes
/// only if it changed something. `managedFields` that the request itself carries replace those of the stored object
/// on the main resource; an empty list or one empty entry there forgets all owners.
pub fn track_update(old: Option<&Value>, new: &mut Value, write: &Write<'_>) {
    let given = entries::take(new);
    let mut managed = managed_before(old, given, write);
    follow_schema(&mut managed, write);
    let exists = old.is_some_and(|o| {
        o.pointer("/metadata/uid")
            .and_then(Value::as_str)
            .is_some_and(|u| !u.is_empty())
    });
    if managed.is_empty() && exists {
        // Nobody is tracked on this object: tracking starts with the first apply.
        return;
    }
    let changes = match old {
        Some(old) => changes(old, new, write),
        None => changes(&empty_object(write.ty), new, write),
    };
    if !changes.is_empty() {
        record(&mut managed, changes, write);
        entries::cap(&mut managed);
    }
    entries::put(new, managed);
}

/// The entries to start from.
fn managed_before(old: Option<&Value>, given: Option<Value>, write: &Write<'_>) -> Vec<Entry> {
    let stored = || old.and_then(entries::of).unwrap_or_default();
    let Some(given) = given.filter(|_| write.subresource.is_empty()) else {
        return stored();
    };
    let reset = given.as_array().is_some_and(|list| match list.as_slice() {
        [] => true,
        [only] => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    });
    if reset {
        return Vec::new();
    }
    entries::read(given)
        .filter(|e| !e.is_empty())
        .unwrap_or_else(stored)
}

pub(super) fn changes(old: &Value, new: &Value, write: &Write<'_>) -> Changes {
    let mut changes = compare::objects(write.ty.ty(), old, new);
    let FieldSet(reset) = write.reset;
    if !reset.is_empty() {
        for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
            subtract_recursively(set, reset);
        }
    }
    changes
}

/// The schema of a custom resource may have changed since its entries were recorded.
pub(super) fn follow_schema(managed: &mut [Entry], write: &Write<'_>) {
    if write.ty.is_custom() {
        for entry in managed {
            extract::collapse_atomics(write.ty.ty(), &mut entry.fields);
        }
    }
}

/// Gives the changed fields to the writer.
pub(super) fn record(managed: &mut Vec<Entry>, changes: Changes, write: &Write<'_>) {
    for entry in managed.iter_mut() {
        for set in [&changes.added, &changes.modified, &changes.removed] {
            subtract(&mut entry.fields, set);
        }
    }
    let set = changes.into_set();
    if !set.is_empty() {
        let manager = if write.manager.is_empty() {
            "unknown"
        } else {
            write.manager
        };
        let time = Some(time(write));
        let mine = managed
            .iter_mut()
            .find(|e| e.is(manager, Operation::Update, write.api_version, write.subresource));
        match mine {
            Some(entry) => {
                union(&mut entry.fields, set);
                entry.time = time;
            }
            None => managed.push(Entry {
                manager: manager.into(),
                operation: Operation::Update,
                api_version: write.api_version.into(),
                subresource: write.subresource.into(),
                time,
                fields: set,
            }),
        }
    }
    managed.retain(|e| !e.fields.is_empty());
}

pub(super) fn time(write: &Write<'_>) -> String {
    write.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
