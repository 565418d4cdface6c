//! Strategic merge patch.
//!
//! Objects merge key by key. Lists whose field has the merge strategy merge item by item, items being identified by
//! the field's merge key (or, for scalars, by value); other lists are replaced. Directives in the patch:
//!
//! | directive | meaning |
//! |---|---|
//! | `$patch: replace` / `delete` | in an object: it replaces, or empties; in a list item: replaces the list, deletes the item |
//! | `$retainKeys: [..]` | keys of the object that are not named are dropped |
//! | `$deleteFromPrimitiveList/FIELD: [..]` | scalars to take out of a list |
//! | `$setElementOrder/FIELD: [..]` | the order of the items that the patch's author knows |
//!
//! A null deletes its key. Items that only the server has keep their place relative to each other.

use super::PatchError;
use crate::schema::{Kind, PatchStrategy, Ty, TypeRef};
use serde_json::{Map, Value};
use std::fmt::Write as _;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of a built-in type.
///
/// # Errors
/// `BadRequest` for a custom type or a malformed directive, `Unprocessable` for lists of lists, `Unmergeable` where
/// items lack their merge key or differ in kind.
pub fn strategic(original: &Value, patch: &Value, ty: &TypeRef) -> Result<Value, PatchError> {
    if ty.is_custom() {
        return Err(bad("strategic merge patch format is not supported"));
    }
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(bad("invalid JSON document"));
    };
    merge_map(original.clone(), patch, Some(ty.ty())).map(Value::Object)
}

fn bad(text: &str) -> PatchError {
    PatchError::BadRequest(text.into())
}

/// How a field merges.
struct Lookup<'a> {
    /// The field's type; for a list, its items' type.
    ty: Option<Ty<'a>>,
    strategy: PatchStrategy,
    merge_key: Option<&'a str>,
}

fn lookup<'a>(ty: Option<Ty<'a>>, key: &str) -> Lookup<'a> {
    let free = |ty| Lookup {
        ty,
        strategy: PatchStrategy::default(),
        merge_key: None,
    };
    let found = match ty.map(Ty::kind) {
        Some(Kind::Struct(fields)) => match fields.get(key) {
            Some(f) => Lookup {
                ty: Some(fields.type_of(f)),
                strategy: f.strategy(),
                merge_key: f.merge_key(),
            },
            None => free(fields.others()),
        },
        Some(Kind::Map { value, .. }) => free(Some(value)),
        _ => free(None),
    };
    match found.ty.map(Ty::kind) {
        Some(Kind::List { elem, .. }) => Lookup {
            ty: Some(elem),
            ..found
        },
        _ => found,
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    ty: Option<Ty<'_>>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(DIRECTIVE) {
        Some(Value::String(d)) if d == "replace" => {
            let mut replaced = patch.clone();
            replaced.remove(DIRECTIVE);
            return Ok(replaced);
        }
        Some(Value::String(d)) if d == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, patch)),
        None => {}
    }
    retain_keys(&mut original, patch)?;
    let mut ordered: Vec<&str> = Vec::new();
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ORDER_PREFIX) {
            merge_ordered(&mut original, patch, field, order, ty)?;
            ordered.push(field);
        } else if key.starts_with("$setElementOrder") {
            return Err(bad("invalid patch format of setElementOrder list"));
        }
    }
    for (key, value) in patch {
        if key == RETAIN_KEYS || key.starts_with(ORDER_PREFIX) || ordered.contains(&key.as_str()) {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_PREFIX) {
            delete_scalars(&mut original, field, value)?;
        } else if key.starts_with("$deleteFromPrimitiveList") {
            return Err(bad("invalid patch format of primitive list"));
        } else {
            merge_field(&mut original, key, value, ty)?;
        }
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    ty: Option<Ty<'_>>,
) -> Result<(), PatchError> {
    let merged = match (original.get_mut(key), value) {
        (_, Value::Null) => None,
        (Some(Value::Object(old)), Value::Object(new)) => {
            let field = lookup(ty, key);
            Some(Value::Object(if field.strategy.replace {
                new.clone()
            } else {
                merge_map(std::mem::take(old), new, field.ty)?
            }))
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let field = lookup(ty, key);
            Some(Value::Array(if field.strategy.merge {
                merge_list(std::mem::take(old), new, &field)?
            } else {
                new.clone()
            }))
        }
        _ => cleaned(value),
    };
    match merged {
        Some(value) => original.insert(key.to_owned(), value),
        None => original.remove(key),
    };
    Ok(())
}

/// A value that the original lacks, without nulls and directives; `None` if it is itself a directive.
fn cleaned(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => return None,
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(k, v)| {
                    !v.is_null()
                        && *k != RETAIN_KEYS
                        && !k.starts_with(ORDER_PREFIX)
                        && !k.starts_with(DELETE_PREFIX)
                })
                .filter_map(|(k, v)| Some((k.clone(), cleaned(v)?)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().filter_map(cleaned).collect()),
        scalar => scalar.clone(),
    })
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(keep) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || bad("invalid patch format of retainKeys");
    let keep: Vec<&str> = keep
        .as_array()
        .ok_or_else(malformed)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (key, value) in patch {
        let special = key == RETAIN_KEYS || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX);
        if !special && !value.is_null() && !keep.contains(&key.as_str()) {
            return Err(malformed());
        }
    }
    original.retain(|key, _| keep.contains(&key.as_str()));
    Ok(())
}

fn delete_scalars(original: &mut Map<String, Value>, field: &str, value: &Value) -> Result<(), PatchError> {
    match (original.get_mut(field), value) {
        (Some(Value::Array(items)), Value::Array(gone)) => {
            if items.iter().chain(gone).any(Value::is_object) {
                return Err(bad("invalid patch format of primitive list"));
            }
            items.retain(|item| !gone.contains(item));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Merges a list field that comes with the order of its items.
fn merge_ordered(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
    order: &Value,
    ty: Option<Ty<'_>>,
) -> Result<(), PatchError> {
    let order = list(order)?;
    let look = lookup(ty, field);
    let old = original.get(field).map(list).transpose()?.cloned();
    let new = patch.get(field).filter(|v| !v.is_null()).map(list).transpose()?;
    if patch.get(field).is_some_and(Value::is_null) {
        original.remove(field);
        return Ok(());
    }
    if let Some(new) = new {
        check_order(new, order, look.merge_key)?;
    }
    let server_order = old.clone().unwrap_or_default();
    let merged = match (old, new) {
        (Some(old), None) => old,
        (None, Some(new)) => new.iter().filter_map(cleaned).collect(),
        (Some(old), Some(new)) if look.strategy.merge => merge_list(old, new, &look)?,
        (Some(_), Some(new)) => new.clone(),
        (None, None) => return Ok(()),
    };
    let arranged = arrange(merged, order, &server_order, look.merge_key)?;
    original.insert(field.to_owned(), Value::Array(arranged));
    Ok(())
}

/// The items of the patch must come in the order that it sets.
fn check_order(new: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if new.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in new.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        let key = identity(item, merge_key)?;
        loop {
            let Some(candidate) = rest.next() else {
                return Err(PatchError::Unmergeable(format!(
                    "The order in patch list:\n{}\n doesn't match {} list:\n{}\n",
                    go_print(&Value::Array(new.to_vec())),
                    "$setElementOrder",
                    go_print(&Value::Array(order.to_vec())),
                )));
            };
            if identity(candidate, merge_key)? == key {
                break;
            }
        }
    }
    Ok(())
}

fn list(value: &Value) -> Result<&Vec<Value>, PatchError> {
    value.as_array().ok_or_else(|| {
        PatchError::Unmergeable(format!(
            "expected a []interface {{}}, but received a {}",
            go_type(value)
        ))
    })
}

/// What identifies a list item: its merge key's value, or the item itself in a list of scalars.
fn identity<'a>(item: &'a Value, merge_key: Option<&str>) -> Result<&'a Value, PatchError> {
    let Some(key) = merge_key else { return Ok(item) };
    let Value::Object(map) = item else {
        return Err(PatchError::Unmergeable(format!(
            "expected a map[string]interface {{}}, but received a {}",
            go_type(item)
        )));
    };
    map.get(key).ok_or_else(|| {
        PatchError::Unmergeable(format!(
            "map: {} does not contain declared merge key: {key}",
            go_print(item)
        ))
    })
}

fn merge_list(mut old: Vec<Value>, new: &[Value], look: &Lookup<'_>) -> Result<Vec<Value>, PatchError> {
    let Some(first) = old.first().or(new.first()) else {
        return Ok(old);
    };
    if first.is_array() {
        return Err(PatchError::Unprocessable(
            "lists of lists are not supported".into(),
        ));
    }
    let of_objects = first.is_object();
    if old.iter().chain(new).any(|i| i.is_object() != of_objects) {
        return Err(PatchError::Unmergeable(format!(
            "list element types are not identical: [{} {}]",
            go_print(&Value::Array(old)),
            go_print(&Value::Array(new.to_vec()))
        )));
    }
    if !of_objects {
        let server_order = old.clone();
        for item in new {
            if !old.contains(item) {
                old.push(item.clone());
            }
        }
        return arrange(old, new, &server_order, None);
    }
    let Some(merge_key) = look.merge_key else {
        let name = look
            .ty
            .map(|t| t.name().rsplit('.').next().unwrap_or_default())
            .unwrap_or_default();
        return Err(PatchError::Unmergeable(format!(
            "cannot merge lists without merge key for {name}"
        )));
    };
    let mut plain = Vec::new();
    let mut replace = false;
    for item in new {
        match item.get(DIRECTIVE) {
            None => plain.push(item.clone()),
            Some(Value::String(d)) if d == "delete" => {
                let key = identity(item, Some(merge_key))?;
                old.retain(|o| o.get(merge_key) != Some(key));
            }
            Some(Value::String(d)) if d == "replace" => replace = true,
            Some(Value::String(d)) if d == "merge" => {
                return Err(PatchError::Unmergeable(
                    "merging lists cannot yet be specified in the patch".into(),
                ));
            }
            Some(other) => return Err(unknown_directive(other, item.as_object().unwrap_or(&Map::new()))),
        }
    }
    if replace {
        return Ok(plain);
    }
    let server_order = old.clone();
    for item in &plain {
        let key = identity(item, Some(merge_key))?;
        match (old.iter_mut().find(|o| o.get(merge_key) == Some(key)), item) {
            (Some(Value::Object(target)), Value::Object(item)) => {
                *target = merge_map(std::mem::take(target), item, look.ty)?;
            }
            _ => old.extend(cleaned(item)),
        }
    }
    arrange(old, &plain, &server_order, Some(merge_key))
}

/// Orders a merged list: items named in `order` by it, the server's own items by `server_order`, and between the two
/// by the server's order where it has both.
fn arrange(
    merged: Vec<Value>,
    order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let position = |list: &[Value], item: &Value| -> Option<usize> {
        match merge_key {
            Some(k) => list
                .iter()
                .position(|o| o.get(k).is_some() && o.get(k) == item.get(k)),
            None => list.iter().position(|o| o == item),
        }
    };
    if merge_key.is_some() {
        for item in merged.iter().chain(order) {
            identity(item, merge_key)?;
        }
    }
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|i| position(order, i).is_some());
    named.sort_by_key(|i| position(order, i));
    others.sort_by_key(|i| position(server_order, i).unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut left, mut right) = (others.into_iter().peekable(), named.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(arranged),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => match (position(server_order, l), position(server_order, r)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
        };
        arranged.extend(if take_left { left.next() } else { right.next() });
    }
}

fn unknown_directive(directive: &Value, map: &Map<String, Value>) -> PatchError {
    let printed = go_print(&Value::Object(map.clone()));
    PatchError::Unmergeable(format!(
        "unknown patch type: {} in map: {printed}",
        go_print(directive)
    ))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it.
fn go_print(value: &Value) -> String {
    let mut out = String::new();
    go_print_into(value, &mut out);
    out
}

fn go_print_into(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(s) => out.push_str(s),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                go_print_into(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(k, _)| *k);
            for (i, (key, item)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                go_print_into(item, out);
            }
            out.push(']');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}
