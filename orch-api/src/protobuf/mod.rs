//! Request bodies in Kubernetes' protobuf encoding, which kubectl and the clients of upstream's components send for
//! built-in kinds, turned into JSON values. Answers go out as JSON, which the same clients accept.
//!
//! A body is the magic `k8s\0` and a `runtime.Unknown` message, which names the kind and holds the object's message
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>). Field numbers and types come
//! from a table of facts (`data/protobuf-v1.36.tsv`). Zero values of fields that are not optional in Go are left out, as
//! Go's JSON leaves them out, so that an object says the same in both encodings.

mod scalar;
mod table;
mod wire;

use orch_core::Status;
use serde_json::{Map, Value};
use table::{Field, Message, Table, Type};
use wire::{Reader, Wire};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Nesting beyond this is an attack.
const MAX_DEPTH: usize = 100;

fn broken(what: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("the body is not a valid protobuf object: {what}"))
}

/// The object in a protobuf body.
///
/// # Errors
/// `BadRequest` for what is no such body, or of a kind that has no protobuf encoding.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Status> {
    let unknown = body.strip_prefix(MAGIC).ok_or_else(|| {
        broken("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    })?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(unknown);
    while let Some((number, wire)) = reader.next().map_err(broken)? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader::new(meta);
                while let Some((number, wire)) = meta.next().map_err(broken)? {
                    match (number, wire) {
                        (1, Wire::Bytes(text)) => api_version = scalar::text(text)?,
                        (2, Wire::Bytes(text)) => kind = scalar::text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let table = Table::get();
    let message = table.kind(&api_version, &kind).ok_or_else(|| {
        broken(format!(
            "no kind {kind:?} is registered for version {api_version:?}"
        ))
    })?;
    let mut object = Map::new();
    fill(table, message, raw, &mut object, 0)?;
    if !api_version.is_empty() {
        object.insert("apiVersion".into(), api_version.into());
    }
    object.insert("kind".into(), kind.into());
    Ok(object.into())
}

/// Decodes a message's fields into `object`.
fn fill(
    table: &Table,
    message: &Message,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Status> {
    if depth > MAX_DEPTH {
        return Err(broken("too deeply nested"));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next().map_err(broken)? {
        let Some(field) = message.field(number) else {
            continue;
        };
        if field.inline {
            if let (Type::Message(id), Wire::Bytes(bytes)) = (&field.ty, wire) {
                fill(table, table.message(*id), bytes, object, depth + 1)?;
            }
            continue;
        }
        add(table, field, wire, object, depth)?;
    }
    Ok(())
}

fn add(
    table: &Table,
    field: &Field,
    wire: Wire<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Status> {
    match &field.ty {
        Type::List(item) => {
            let list = object
                .entry(field.name.as_str())
                .or_insert_with(|| Value::Array(Vec::new()));
            let Some(list) = list.as_array_mut() else {
                return Ok(());
            };
            if let (Type::Integer, Wire::Bytes(packed)) = (&**item, wire) {
                let mut reader = Reader::new(packed);
                while let Some(number) = reader.packed().map_err(broken)? {
                    list.push(number.into());
                }
            } else {
                list.push(value(table, item, wire, depth)?);
            }
        }
        Type::Map(item) => {
            let Wire::Bytes(entry) = wire else {
                return Err(broken("a map entry is not a message"));
            };
            let (mut key, mut held) = (String::new(), None);
            let mut reader = Reader::new(entry);
            while let Some((number, wire)) = reader.next().map_err(broken)? {
                match (number, wire) {
                    (1, Wire::Bytes(text)) => key = scalar::text(text)?,
                    (2, wire) => held = Some(value(table, item, wire, depth)?),
                    _ => {}
                }
            }
            let held = match held {
                Some(held) => held,
                None => value(table, item, Wire::Bytes(&[]), depth)?,
            };
            let map = object
                .entry(field.name.as_str())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, held);
            }
        }
        ty => {
            let found = value(table, ty, wire, depth)?;
            if found.is_null() || (!field.keep && is_zero(&found)) {
                return Ok(());
            }
            // A message field that comes twice is merged, as protobuf wants it.
            match (object.get_mut(&field.name), found) {
                (Some(Value::Object(held)), Value::Object(more)) => held.extend(more),
                (_, found) => drop(object.insert(field.name.clone(), found)),
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

fn value(table: &Table, ty: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, Status> {
    let mismatch = || broken(format!("a field is encoded as another type than {ty:?}"));
    Ok(match (ty, wire) {
        (Type::Boolean, Wire::Varint(n)) => (n != 0).into(),
        (Type::Integer, Wire::Varint(n)) => (n as i64).into(),
        (Type::Float, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::Text, Wire::Bytes(bytes)) => scalar::text(bytes)?.into(),
        // An empty map value: the zero of its type.
        (Type::Boolean, Wire::Bytes([])) => false.into(),
        (Type::Integer, Wire::Bytes([])) => 0.into(),
        (Type::Message(id), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            fill(table, table.message(*id), bytes, &mut object, depth + 1)?;
            object.into()
        }
        (Type::Strings, Wire::Bytes(bytes)) => {
            let mut list = Vec::new();
            let mut reader = Reader::new(bytes);
            while let Some((_, wire)) = reader.next().map_err(broken)? {
                if let Wire::Bytes(item) = wire {
                    list.push(Value::from(scalar::text(item)?));
                }
            }
            list.into()
        }
        (Type::SchemaOr(or), Wire::Bytes(bytes)) => schema_or(table, *or, bytes, depth)?,
        (special, Wire::Bytes(bytes)) => scalar::special(special, bytes)?.ok_or_else(mismatch)?,
        _ => return Err(mismatch()),
    })
}

/// The unions of JSON schema: a schema, or something simpler.
fn schema_or(table: &Table, or: table::SchemaOr, bytes: &[u8], depth: usize) -> Result<Value, Status> {
    use table::SchemaOr;
    let schema = |bytes: &[u8]| -> Result<Value, Status> {
        let mut object = Map::new();
        if let Some(message) = table.named("apiextensions/v1.JSONSchemaProps") {
            fill(table, message, bytes, &mut object, depth + 1)?;
        }
        Ok(object.into())
    };
    let mut found = Value::Null;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next().map_err(broken)? {
        match (or, number, wire) {
            (SchemaOr::Bool, 1, Wire::Varint(n)) if found.is_null() => found = (n != 0).into(),
            (SchemaOr::Bool, 2, Wire::Bytes(b))
            | (SchemaOr::Array | SchemaOr::Strings, 1, Wire::Bytes(b)) => {
                found = schema(b)?;
            }
            (SchemaOr::Array, 2, Wire::Bytes(b)) => {
                let item = schema(b)?;
                match found.as_array_mut() {
                    Some(list) => list.push(item),
                    None => found = vec![item].into(),
                }
            }
            (SchemaOr::Strings, 2, Wire::Bytes(b)) => {
                let item = Value::from(scalar::text(b)?);
                match found.as_array_mut() {
                    Some(list) => list.push(item),
                    None => found = vec![item].into(),
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
