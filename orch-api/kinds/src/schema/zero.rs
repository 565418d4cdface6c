//! Zero values: what Go writes for fields that were not given, and what it leaves out.

use super::types::{Field, Fields, Kind, Scalar, Ty, TypeRef, flag};
use serde_json::{Map, Value};

/// What Go writes for a new, empty object of a type: structs by value, zero scalars and nulls that are not omitted.
/// An object is compared with it when its creation is to be told as a change. Empty for custom types.
#[must_use]
pub fn empty_object(ty: &TypeRef) -> Value {
    match ty.ty().kind() {
        Kind::Struct(fields) if !ty.is_custom() => Value::Object(empty_fields(fields)),
        _ => Value::Object(Map::new()),
    }
}

fn empty_fields(fields: Fields<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    for field in fields.all() {
        let ty = fields.type_of(field);
        let pointer = field.is(flag::POINTER);
        let value = match ty.kind() {
            _ if field.is(flag::OMIT_ZERO) => continue,
            Kind::Struct(inner) if !pointer => Value::Object(empty_fields(inner)),
            Kind::Scalar(Scalar::Quantity | Scalar::IntOrString) if !pointer => {
                zero(ty).unwrap_or(Value::Null)
            }
            _ if field.is(flag::OMIT_EMPTY) => continue,
            Kind::Scalar(_) if !pointer => zero(ty).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        out.insert(field.name().to_owned(), value);
    }
    out
}

/// Whether Go would leave this value out when it writes the struct.
pub(super) fn omitted(field: &Field, ty: Ty<'_>, value: &Value) -> bool {
    if field.is(flag::POINTER) {
        return false;
    }
    if field.is(flag::OMIT_ZERO) && value.as_object().is_some_and(Map::is_empty) {
        return true;
    }
    field.is(flag::OMIT_EMPTY)
        && match value {
            // These are Go structs, which are never empty.
            Value::String(_) | Value::Number(_)
                if matches!(ty.kind(), Kind::Scalar(Scalar::Quantity | Scalar::IntOrString)) =>
            {
                false
            }
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Number(n) => n.as_f64() == Some(0.0),
            Value::String(s) => s.is_empty(),
            // An empty list of owners is how a request asks to forget them; ownership tracking takes it out.
            Value::Array(a) => a.is_empty() && field.name() != "managedFields",
            Value::Object(o) => o.is_empty() && matches!(ty.kind(), Kind::Map { .. }),
        }
}

/// Adds what Go writes even when it was not given: structs by value, and scalars without `omitempty`.
pub(super) fn add_always_written(fields: Fields<'_>, out: &mut Map<String, Value>) {
    for field in fields.all() {
        if field.flags & (flag::POINTER | flag::OMIT_ZERO) != 0 {
            continue;
        }
        let ty = fields.type_of(field);
        let by_value = match ty.kind() {
            Kind::Struct(_) | Kind::Scalar(Scalar::Quantity | Scalar::IntOrString) => true,
            Kind::Scalar(_) => !field.is(flag::OMIT_EMPTY),
            _ => false,
        };
        if by_value
            && !out.contains_key(field.name())
            && let Some(value) = zero(ty)
        {
            out.insert(field.name().to_owned(), value);
        }
    }
}

/// The zero value as Go writes it; `None` where that is null.
pub(super) fn zero(ty: Ty<'_>) -> Option<Value> {
    Some(match ty.kind() {
        _ if ty.is_custom() => return None,
        Kind::Scalar(Scalar::String) => Value::String(String::new()),
        Kind::Scalar(Scalar::Quantity) => Value::String("0".into()),
        Kind::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => Value::from(0),
        Kind::Scalar(Scalar::Bool) => Value::Bool(false),
        Kind::Struct(fields) => {
            let mut out = Map::new();
            add_always_written(fields, &mut out);
            Value::Object(out)
        }
        _ => return None,
    })
}
