//! Taking owned paths out of a value.

use super::element;
use super::set::{below, children, is_member};
use crate::schema::{Kind, ListKind, Ty};
use serde_json::{Map, Value};

/// The value without the paths in `set`. Objects and lists that become empty are left as nulls.
pub(super) fn without(ty: Ty<'_>, value: &Value, set: &Map<String, Value>) -> Value {
    match (ty.kind(), value) {
        (Kind::Struct(fields), Value::Object(map)) if !fields.atomic() => {
            in_object(map, set, |key| fields.child(key))
        }
        (
            Kind::Map {
                value: ty,
                atomic: false,
            },
            Value::Object(map),
        ) => in_object(map, set, |_| Some(ty)),
        (Kind::Deduced, Value::Object(map)) => in_object(map, set, |_| Some(ty)),
        (Kind::List { elem, kind }, Value::Array(items)) if *kind != ListKind::Atomic => {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let content = element::of_item(kind, elem, item)
                    .ok()
                    .and_then(|key| below(set, &key));
                match content {
                    Some(content) if is_member(content) => {}
                    Some(content) => kept.push(without(elem, item, content)),
                    None => kept.push(item.clone()),
                }
            }
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        (Kind::Scalar(_), _) => value.clone(),
        _ => Value::Null,
    }
}

fn in_object<'a>(
    map: &Map<String, Value>,
    set: &Map<String, Value>,
    ty_of: impl Fn(&str) -> Option<Ty<'a>>,
) -> Value {
    let mut kept = Map::new();
    for (key, value) in map {
        let Some(content) = below(set, &format!("f:{key}")) else {
            kept.insert(key.clone(), value.clone());
            continue;
        };
        if is_member(content) {
            continue;
        }
        let value = match ty_of(key) {
            Some(ty) if children(content).next().is_some() => without(ty, value, content),
            _ => value.clone(),
        };
        kept.insert(key.clone(), value);
    }
    if kept.is_empty() {
        Value::Null
    } else {
        Value::Object(kept)
    }
}
