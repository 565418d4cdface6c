//! Merging an applied configuration into the live object.

use super::element;
use crate::schema::{Kind, ListKind, Ty};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Merges `intent` into `target`: objects key by key, keyed lists item by item, everything else replaced.
pub(super) fn into(ty: Ty<'_>, target: &mut Value, intent: &Value) {
    match (ty.kind(), &mut *target, intent) {
        (Kind::Struct(fields), Value::Object(target), Value::Object(intent)) if !fields.atomic() => {
            in_object(target, intent, |key| fields.child(key));
        }
        (Kind::Map { value, atomic: false }, Value::Object(target), Value::Object(intent)) => {
            in_object(target, intent, |_| Some(value));
        }
        (Kind::Deduced, Value::Object(target), Value::Object(intent)) => {
            in_object(target, intent, |_| Some(ty));
        }
        (Kind::List { elem, kind }, Value::Array(target), Value::Array(intent))
            if *kind != ListKind::Atomic =>
        {
            // A list that is empty on both sides is a leaf; otherwise an empty one adds nothing.
            if !target.is_empty() || !intent.is_empty() {
                *target = in_list(elem, kind, std::mem::take(target), intent);
            }
        }
        // A null that stands for an object or a list says nothing about what is in it.
        (Kind::Struct(f), Value::Object(target), Value::Null) if !f.atomic() && !target.is_empty() => {}
        (Kind::Map { atomic: false, .. }, Value::Object(target), Value::Null) if !target.is_empty() => {}
        (Kind::List { kind, .. }, Value::Array(target), Value::Null)
            if *kind != ListKind::Atomic && !target.is_empty() => {}
        _ => *target = intent.clone(),
    }
}

fn in_object<'a>(
    target: &mut Map<String, Value>,
    intent: &Map<String, Value>,
    ty_of: impl Fn(&str) -> Option<Ty<'a>>,
) {
    for (key, value) in intent {
        match (target.get_mut(key), ty_of(key)) {
            (Some(old), Some(ty)) => into(ty, old, value),
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Merges two lists: the intent's order for its items, with the live object's own items kept where they are relative
/// to the items that both have.
fn in_list(elem: Ty<'_>, kind: &ListKind, live: Vec<Value>, intent: &[Value]) -> Vec<Value> {
    let key = |item: &Value| element::of_item(kind, elem, item).unwrap_or_default();
    let wanted: Vec<String> = intent.iter().map(key).collect();
    let position: BTreeMap<&str, usize> = wanted.iter().enumerate().map(|(i, k)| (k.as_str(), i)).collect();
    let live_keys: Vec<String> = live.iter().map(key).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in &live_keys {
        *counts.entry(key).or_default() += 1;
    }
    // The items that both have, in the intent's order: the live side may only advance past the next of them.
    let mut shared = wanted.iter().filter(|k| counts.contains_key(k.as_str()));
    let mut next_shared = shared.next();
    let mut originals: BTreeMap<String, Value> = BTreeMap::new();
    let mut own: Vec<Option<Value>> = Vec::with_capacity(live.len());
    for (key, item) in live_keys.iter().zip(live) {
        if position.contains_key(key.as_str()) {
            // Of an item that occurs more than once nothing is kept: the intent's takes its place.
            if counts[key.as_str()] == 1 {
                originals.insert(key.clone(), item);
            }
            own.push(None);
        } else {
            own.push(Some(item));
        }
    }
    let mut merged = |i: usize| match originals.remove(&wanted[i]) {
        Some(mut item) => {
            into(elem, &mut item, &intent[i]);
            item
        }
        None => intent[i].clone(),
    };
    let mut out = Vec::with_capacity(own.len() + intent.len());
    let mut done = vec![false; intent.len()];
    let (mut l, mut r) = (0, 0);
    while l < own.len() || r < intent.len() {
        if l < own.len() && r < intent.len() {
            if live_keys[l] == wanted[r] {
                done[r] = true;
                out.push(merged(r));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if position.contains_key(live_keys[l].as_str()) && next_shared.is_some_and(|n| *n != live_keys[l])
            {
                l += 1;
                continue;
            }
        }
        if l < own.len() {
            match own[l].take() {
                Some(item) => {
                    out.push(item);
                    l += 1;
                    continue;
                }
                None => {
                    if position.get(live_keys[l].as_str()).is_some_and(|i| done[*i]) {
                        l += 1;
                    }
                }
            }
        }
        if r < intent.len() {
            done[r] = true;
            out.push(merged(r));
            if next_shared.is_some_and(|n| *n == wanted[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    out
}
