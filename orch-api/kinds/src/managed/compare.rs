//! What changed between two versions of an object, as field sets.

use super::element;
use super::set::{put, union};
use crate::schema::{Kind, ListKind, Ty};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The paths that were added, changed and removed. No path is in more than one of them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Map<String, Value>,
    pub(super) modified: Map<String, Value>,
    pub(super) removed: Map<String, Value>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
    /// What the writer set.
    pub(super) fn into_set(self) -> Map<String, Value> {
        let mut set = self.added;
        union(&mut set, self.modified);
        set
    }
}

/// How one element changed: itself and what is below it.
#[derive(Default)]
struct Change {
    own: Own,
    below: Changes,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Own {
    #[default]
    Same,
    Added,
    Modified,
    Removed,
}

impl Changes {
    fn take(&mut self, key: impl Into<String>, change: Change) {
        let Change { own, below } = change;
        if own == Own::Same && below.is_empty() {
            return;
        }
        let key = key.into();
        put(
            &mut self.removed,
            key.as_str(),
            own == Own::Removed,
            below.removed,
        );
        put(
            &mut self.modified,
            key.as_str(),
            own == Own::Modified,
            below.modified,
        );
        put(&mut self.added, key, own == Own::Added, below.added);
    }
}

/// Metadata that nobody owns.
const UNOWNED: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Compares two whole objects. Type and identity (`apiVersion`, `kind`, `metadata.name` …) are left out: they are
/// never owned.
pub(super) fn objects(ty: Ty<'_>, old: &Value, new: &Value) -> Changes {
    let mut changes = Changes::default();
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return changes;
    };
    for key in keys(Some(old), Some(new)) {
        let Some(child) = ty.child(key) else { continue };
        let (l, r) = (old.get(key), new.get(key));
        match key {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let mut below = Changes::default();
                for field in keys(l.and_then(Value::as_object), r.and_then(Value::as_object)) {
                    if UNOWNED.contains(&field) {
                        continue;
                    }
                    let Some(ty) = child.child(field) else { continue };
                    below.take(
                        format!("f:{field}"),
                        change(ty, l.and_then(|v| v.get(field)), r.and_then(|v| v.get(field))),
                    );
                }
                changes.take(
                    "f:metadata",
                    Change {
                        own: Own::Same,
                        below,
                    },
                );
            }
            _ => changes.take(format!("f:{key}"), change(child, l, r)),
        }
    }
    changes
}

fn keys<'a>(
    old: Option<&'a Map<String, Value>>,
    new: Option<&'a Map<String, Value>>,
) -> impl Iterator<Item = &'a str> {
    let only_old = old
        .into_iter()
        .flat_map(Map::keys)
        .filter(move |k| !new.is_some_and(|n| n.contains_key(*k)));
    new.into_iter()
        .flat_map(Map::keys)
        .chain(only_old)
        .map(String::as_str)
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Change {
    let own = match (old, new) {
        (None, Some(_)) => Own::Added,
        (Some(_), None) => Own::Removed,
        (Some(l), Some(r)) if !same(l, r) => Own::Modified,
        _ => Own::Same,
    };
    Change {
        own,
        below: Changes::default(),
    }
}

/// Equality of values, in which `1` equals `1.0`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

fn change(ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>) -> Change {
    let below = match ty.kind() {
        Kind::Struct(fields) if !fields.atomic() => in_object(old, new, |key| fields.child(key)),
        Kind::Map { value, atomic: false } => in_object(old, new, |_| Some(value)),
        Kind::Deduced => in_object(old, new, |_| Some(ty)),
        Kind::List { elem, kind } if *kind != ListKind::Atomic => in_list(elem, kind, old, new),
        _ => None,
    };
    let Some(below) = below else { return leaf(old, new) };
    let own = match (old, new) {
        (None, _) => Own::Added,
        (_, None) => Own::Removed,
        _ => Own::Same,
    };
    Change { own, below }
}

/// Compares two objects key by key; `None` if they are to be treated as leaves: nothing in them, or not objects.
fn in_object<'a>(
    old: Option<&Value>,
    new: Option<&Value>,
    ty_of: impl Fn(&str) -> Option<Ty<'a>>,
) -> Option<Changes> {
    let object = |v: Option<&Value>| v.is_none_or(|v| v.is_object() || v.is_null());
    let (l, r) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let empty = |m: Option<&Map<String, Value>>| m.is_none_or(Map::is_empty);
    if !object(old) || !object(new) || (empty(l) && empty(r)) {
        return None;
    }
    let mut changes = Changes::default();
    for key in keys(l, r) {
        let Some(ty) = ty_of(key) else { continue };
        let change = change(ty, l.and_then(|m| m.get(key)), r.and_then(|m| m.get(key)));
        if change.own != Own::Same || !change.below.is_empty() {
            changes.take(format!("f:{key}"), change);
        }
    }
    Some(changes)
}

/// Compares two lists item by item; `None` if they are to be treated as leaves.
fn in_list(elem: Ty<'_>, kind: &ListKind, old: Option<&Value>, new: Option<&Value>) -> Option<Changes> {
    let list = |v: Option<&Value>| v.is_none_or(|v| v.is_array() || v.is_null());
    let l = old
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let r = new
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if !list(old) || !list(new) || (l.is_empty() && r.is_empty()) {
        return None;
    }
    let mut changes = Changes::default();
    if old.is_some() && new.is_some() && l == r {
        return Some(changes);
    }
    let mut found: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in l {
        if let Ok(key) = element::of_item(kind, elem, item) {
            found.entry(key).or_default().0.push(item);
        }
    }
    for item in r {
        if let Ok(key) = element::of_item(kind, elem, item) {
            found.entry(key).or_default().1.push(item);
        }
    }
    for (key, (l, r)) in found {
        let own = |own| Change {
            own,
            below: Changes::default(),
        };
        match (l.as_slice(), r.as_slice()) {
            ([] | [_], [] | [_]) => changes.take(key, change(elem, l.first().copied(), r.first().copied())),
            // Items that occur more than once are compared as wholes, and marked by the bare item.
            ([_, _, ..], [_, _, ..]) => {
                if l != r {
                    changes.take(key, own(Own::Modified));
                }
            }
            ([_, _, ..], _) => {
                if let Some(first) = r.first() {
                    changes.take(key.as_str(), change(elem, None, Some(first)));
                }
                put_member(&mut changes.removed, &key);
            }
            (_, [_, _, ..]) => {
                if let Some(first) = l.first() {
                    changes.take(key.as_str(), change(elem, Some(first), None));
                }
                put_member(&mut changes.added, &key);
            }
        }
    }
    Some(changes)
}

fn put_member(set: &mut Map<String, Value>, key: &str) {
    union(set, Map::from_iter([(key.to_owned(), Value::Object(Map::new()))]));
}
