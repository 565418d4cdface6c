//! The field set of a value: every path that it sets.

use super::element;
use super::set::{children, is_member, put};
use crate::schema::{Kind, ListKind, Ty};
use serde_json::{Map, Value};

/// The paths of a whole object.
pub(super) fn field_set(ty: Ty<'_>, value: &Value) -> Map<String, Value> {
    below(ty, value).unwrap_or_default()
}

/// The paths below a value; `None` if the value is a leaf.
fn below(ty: Ty<'_>, value: &Value) -> Option<Map<String, Value>> {
    match (ty.kind(), value) {
        (Kind::Struct(fields), Value::Object(map)) if !fields.atomic() => {
            let mut out = Map::new();
            for (key, child) in map {
                let named = fields.get(key).is_some();
                if let Some(ty) = fields.child(key) {
                    add(&mut out, format!("f:{key}"), ty, child, !named);
                }
            }
            Some(out)
        }
        (
            Kind::Map {
                value: ty,
                atomic: false,
            },
            Value::Object(map),
        ) => {
            let mut out = Map::new();
            for (key, child) in map {
                add(&mut out, format!("f:{key}"), ty, child, true);
            }
            Some(out)
        }
        (Kind::Deduced, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, child) in map {
                add(&mut out, format!("f:{key}"), ty, child, true);
            }
            Some(out)
        }
        (Kind::List { elem, kind }, Value::Array(items)) if *kind != ListKind::Atomic => {
            Some(of_list(elem, kind, items))
        }
        // Nothing is set by a null that stands for an object or a list.
        (Kind::List { kind, .. }, Value::Null) if *kind != ListKind::Atomic => Some(Map::new()),
        _ => None,
    }
}

fn add(out: &mut Map<String, Value>, key: String, ty: Ty<'_>, value: &Value, always: bool) {
    let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
    match below(ty, value) {
        Some(kids) => put(out, key, always || empty, kids),
        None => put(out, key, true, Map::new()),
    }
}

fn of_list(elem: Ty<'_>, kind: &ListKind, items: &[Value]) -> Map<String, Value> {
    let mut out: Map<String, Value> = Map::new();
    for item in items {
        let Ok(key) = element::of_item(kind, elem, item) else {
            continue;
        };
        if let Some(twice) = out.get_mut(&key) {
            // An item that occurs more than once is owned as a whole.
            *twice = Value::Object(Map::new());
            continue;
        }
        let kids = below(elem, item).unwrap_or_default();
        put(&mut out, key, true, kids);
    }
    out
}

/// Brings a set that was recorded under an earlier schema in line with the type: what has become atomic is owned as a
/// whole by whoever owned a part of it.
pub(super) fn collapse_atomics(ty: Ty<'_>, set: &mut Map<String, Value>) {
    for (key, content) in set.iter_mut() {
        let Value::Object(content) = content else { continue };
        let child = match (ty.kind(), key.split_at_checked(2)) {
            (Kind::Struct(fields), Some(("f:", name))) => fields.child(name),
            (Kind::Map { value, .. }, Some(("f:", _))) => Some(value),
            (Kind::List { elem, .. }, Some(("k:", _))) => Some(elem),
            _ => None,
        };
        match child.map(|ty| (ty, ty.kind())) {
            Some((_, Kind::Map { atomic: true, .. })) => content.clear(),
            Some((_, Kind::Struct(fields))) if fields.atomic() => content.clear(),
            Some((
                _,
                Kind::List {
                    kind: ListKind::Atomic,
                    ..
                },
            )) => content.clear(),
            Some((ty, _)) => collapse_atomics(ty, content),
            None => {}
        }
    }
}

/// The set with each named field that has something below it added as a path of its own.
pub(super) fn with_named_fields(ty: Option<Ty<'_>>, set: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, content) in children(set) {
        let (child, named) = match (ty.map(Ty::kind), key.split_at_checked(2)) {
            (Some(Kind::Struct(fields)), Some(("f:", name))) => {
                (fields.child(name), fields.get(name).is_some())
            }
            (Some(Kind::Map { value, .. }), Some(("f:", _))) => (Some(value), false),
            (Some(Kind::Deduced), Some(("f:", _))) => (ty, false),
            (Some(Kind::List { elem, .. }), Some(("k:", _))) => (Some(elem), false),
            _ => (None, false),
        };
        let has_children = children(content).next().is_some();
        let member = is_member(content) || (named && has_children);
        put(&mut out, key.as_str(), member, with_named_fields(child, content));
    }
    out
}
