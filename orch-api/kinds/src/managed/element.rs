//! Path elements in their wire form: `f:name`, `k:{"name":"a"}`, `v:"a"`, `i:0`.

use crate::schema::{Fields, Kind, ListKind, Scalar, Ty};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Whether `text` is the wire form of a path element.
pub(super) fn is_valid(text: &str) -> bool {
    match text.split_at_checked(2) {
        Some(("f:", _)) => true,
        Some(("i:", rest)) => rest.parse::<i64>().is_ok(),
        Some(("k:", rest)) => serde_json::from_str::<Map<String, Value>>(rest).is_ok(),
        Some(("v:", rest)) => serde_json::from_str::<Value>(rest).is_ok(),
        _ => false,
    }
}

/// Why a list item has no path element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoElement(pub(super) String);

/// The path element of an item of a list that is merged by item.
pub(super) fn of_item(kind: &ListKind, elem: Ty<'_>, item: &Value) -> Result<String, NoElement> {
    let refuse = |text: &str| Err(NoElement(text.into()));
    match kind {
        ListKind::Atomic => refuse("invalid indexing of non-associative list"),
        ListKind::Set => match item {
            Value::Object(_) => refuse("associative list without keys has an element that's a map type"),
            Value::Array(_) => refuse("not supported: associative list with lists as elements"),
            Value::Null => refuse("associative list without keys has an element that's an explicit null"),
            scalar => {
                let mut out = String::with_capacity(24);
                out.push_str("v:");
                write_scalar(&mut out, scalar);
                Ok(out)
            }
        },
        ListKind::Map(keys) => match item {
            Value::Object(map) => of_keys(keys, elem, map),
            Value::Null => refuse("associative list with keys may not have a null element"),
            _ => refuse("associative list with keys may not have non-map elements"),
        },
    }
}

fn of_keys(
    keys: &[std::borrow::Cow<'static, str>],
    elem: Ty<'_>,
    map: &Map<String, Value>,
) -> Result<String, NoElement> {
    let fields = match elem.kind() {
        Kind::Struct(fields) => Some(fields),
        _ => None,
    };
    let mut out = String::with_capacity(40);
    out.push_str("k:{");
    // Keys are written in name order; there are one to three of them.
    let mut last: Option<&str> = None;
    for _ in 0..keys.len() {
        let Some(key) = keys
            .iter()
            .map(AsRef::as_ref)
            .filter(|k| last.is_none_or(|l| *k > l))
            .min()
        else {
            break;
        };
        last = Some(key);
        match map.get(key) {
            Some(value) => write_pair(&mut out, key, value),
            None => match fields.and_then(|f| default_of(f, key)) {
                Some(value) => write_pair(&mut out, key, &value),
                None => continue,
            },
        }
    }
    if out.ends_with('{') {
        let names: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(NoElement(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        )));
    }
    out.push('}');
    Ok(out)
}

fn default_of(fields: Fields<'_>, key: &str) -> Option<Value> {
    let field = fields.get(key)?;
    if let Some(default) = field.default() {
        return Some(default.clone());
    }
    if !field.zero_default() {
        return None;
    }
    Some(match fields.type_of(field).kind() {
        Kind::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => Value::from(0),
        Kind::Scalar(Scalar::Bool) => Value::Bool(false),
        Kind::Scalar(_) => Value::String(String::new()),
        _ => return None,
    })
}

fn write_pair(out: &mut String, key: &str, value: &Value) {
    if !out.ends_with('{') {
        out.push(',');
    }
    write_string(out, key);
    out.push(':');
    write_scalar(out, value);
}

fn write_scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(s) => write_string(out, s),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// A JSON string, escaped as Go does, so that equal elements are equal strings whoever wrote them.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends an element as upstream prints it: `.name`, `[name="a"]`, `[="a"]`, `[0]`.
pub(super) fn print(element: &str, out: &mut String) {
    let (kind, rest) = element.split_at_checked(2).unwrap_or(("", element));
    match kind {
        "f:" => {
            out.push('.');
            out.push_str(rest);
        }
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            out.push('[');
            for (i, (key, value)) in keys.iter().enumerate() {
                let _ = write!(out, "{}{key}={value}", if i > 0 { "," } else { "" });
            }
            out.push(']');
        }
        "v:" => {
            let value: Value = serde_json::from_str(rest).unwrap_or(Value::Null);
            let _ = write!(out, "[={value}]");
        }
        _ => {
            let _ = write!(out, "[{rest}]");
        }
    }
}
