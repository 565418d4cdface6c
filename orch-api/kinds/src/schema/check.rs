//! Fields that a type does not name: finding and dropping them.

use super::types::{Kind, Ty, TypeRef};
use serde_json::Value;
use std::fmt::Write as _;

/// The paths of fields in `value` that `ty` does not name, in document order, spelled as upstream reports them:
/// `spec.foo`, `spec.containers[0].imagee`.
#[must_use]
pub fn unknown_fields(ty: &TypeRef, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(ty.ty(), value, &mut String::new(), &mut found);
    found
}

fn walk(ty: Ty<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    match (ty.kind(), value) {
        (Kind::Struct(fields), Value::Object(map)) => {
            for (key, child) in map {
                let mark = push_key(path, key);
                match fields.child(key) {
                    Some(t) => walk(t, child, path, found),
                    None => found.push(path.clone()),
                }
                path.truncate(mark);
            }
        }
        (Kind::Map { value: t, .. }, Value::Object(map)) => {
            for (key, child) in map {
                let mark = push_key(path, key);
                walk(t, child, path, found);
                path.truncate(mark);
            }
        }
        (Kind::List { elem, .. }, Value::Array(items)) => {
            for (i, child) in items.iter().enumerate() {
                let mark = path.len();
                push_index(path, i);
                walk(elem, child, path, found);
                path.truncate(mark);
            }
        }
        _ => {}
    }
}

pub(super) fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

pub(super) fn push_key(path: &mut String, key: &str) -> usize {
    let mark = path.len();
    if mark > 0 {
        path.push('.');
    }
    path.push_str(key);
    mark
}

/// Drops the fields that `ty` does not name from `value`; returns their paths.
pub fn prune(ty: &TypeRef, value: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    prune_at(ty.ty(), value, &mut String::new(), &mut dropped);
    dropped
}

fn prune_at(ty: Ty<'_>, value: &mut Value, path: &mut String, dropped: &mut Vec<String>) {
    match (ty.kind(), value) {
        (Kind::Struct(fields), Value::Object(map)) => map.retain(|key, child| {
            let mark = push_key(path, key);
            let known = fields.child(key);
            match known {
                Some(t) => prune_at(t, child, path, dropped),
                None => dropped.push(path.clone()),
            }
            path.truncate(mark);
            known.is_some()
        }),
        (Kind::Map { value: t, .. }, Value::Object(map)) => {
            for (key, child) in map.iter_mut() {
                let mark = push_key(path, key);
                prune_at(t, child, path, dropped);
                path.truncate(mark);
            }
        }
        (Kind::List { elem, .. }, Value::Array(items)) => {
            for (i, child) in items.iter_mut().enumerate() {
                let mark = path.len();
                push_index(path, i);
                prune_at(elem, child, path, dropped);
                path.truncate(mark);
            }
        }
        _ => {}
    }
}
