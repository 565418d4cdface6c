//! Whether an applied configuration fits its type; the texts are upstream's.

use super::element;
use crate::schema::{Kind, ListKind, Scalar, Ty};
use serde_json::Value;
use std::collections::BTreeSet;

/// What does not fit: `.spec.foo: field not declared in schema`.
pub(super) fn errors(ty: Ty<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(ty, value, &mut String::new(), &mut found);
    found
}

fn report(path: &str, text: &str, found: &mut Vec<String>) {
    found.push(if path.is_empty() {
        text.to_owned()
    } else {
        format!("{path}: {text}")
    });
}

fn walk(ty: Ty<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    match (ty.kind(), value) {
        (_, Value::Null) | (Kind::Any | Kind::Raw | Kind::Deduced, _) => {}
        (Kind::Scalar(scalar), _) => {
            if let Some(text) = scalar_error(scalar, value) {
                report(path, &text, found);
            }
        }
        (Kind::Struct(_) | Kind::Map { .. }, Value::Object(map)) => {
            for (key, child) in map {
                let mark = path.len();
                path.push('.');
                path.push_str(key);
                match ty.child(key) {
                    Some(ty) => walk(ty, child, path, found),
                    None => report(path, "field not declared in schema", found),
                }
                path.truncate(mark);
            }
        }
        (Kind::List { elem, kind }, Value::Array(items)) => list(elem, kind, items, path, found),
        (Kind::List { .. }, _) => report(path, &format!("expected list, got &{{{}}}", plain(value)), found),
        (Kind::Struct(_) | Kind::Map { .. }, _) => {
            report(path, &format!("expected map, got &{{{}}}", plain(value)), found);
        }
    }
}

fn list(elem: Ty<'_>, kind: &ListKind, items: &[Value], path: &mut String, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        let key = if *kind == ListKind::Atomic {
            format!("i:{i}")
        } else {
            match element::of_item(kind, elem, item) {
                Ok(key) => key,
                Err(error) => return report(path, &format!("element {i}: {}", error.0), found),
            }
        };
        let mark = path.len();
        element::print(&key, path);
        if !seen.insert(key) {
            let shown = path[mark..].to_owned();
            report(
                &path[..mark],
                &format!("duplicate entries for key {shown}"),
                found,
            );
        }
        walk(elem, item, path, found);
        path.truncate(mark);
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    let go_type = || match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(n) if n.is_f64() => "float64",
        _ => "int64",
    };
    let go_syntax = || match value {
        Value::String(s) => format!("{s:?}"),
        other => other.to_string(),
    };
    match scalar {
        Scalar::Int32 | Scalar::Int64 | Scalar::Double if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", go_type()))
        }
        Scalar::String | Scalar::Bytes if !value.is_string() => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax()
        )),
        Scalar::Bool if !value.is_boolean() => Some(format!("expected boolean, got &{{{}}}", plain(value))),
        _ if value.is_object() || value.is_array() => {
            Some(format!("expected any scalar, got &{{{}}}", plain(value)))
        }
        _ => None,
    }
}
