//! Types of custom resources, from the structural schema in a CustomResourceDefinition.

use super::load::{push_scalars, scalar_node};
use super::types::{Extra, Field, ListKind, Node, NodeId, Struct, Text, Ty, TypeRef, TypeSet, flag};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The schema at this path is not an object.
    #[error("{0}: must be an object")]
    NotAnObject(String),
    /// The schema nests deeper than any sane type.
    #[error("{0}: nested too deeply")]
    TooDeep(String),
}

const DEPTH_MAX: usize = 100;

/// The type of a custom resource from its version's `openAPIV3Schema`; `None` or null stands for a resource without
/// a schema, in which no field is unknown. `apiVersion`, `kind` and `metadata` are always those of every object.
///
/// # Errors
/// [`SchemaError`] if the schema is malformed.
pub fn from_crd(schema: Option<&Value>) -> Result<TypeRef, SchemaError> {
    let mut set = TypeSet {
        custom: true,
        ..TypeSet::default()
    };
    push_scalars(&mut set);
    let empty = Value::Object(
        [(
            "x-kubernetes-preserve-unknown-fields".to_owned(),
            Value::Bool(true),
        )]
        .into_iter()
        .collect(),
    );
    let schema = schema.filter(|s| !s.is_null()).unwrap_or(&empty);
    set.root = convert(&mut set, schema, true, 0, &mut String::from("openAPIV3Schema"))?;
    Ok(TypeRef::custom(Arc::new(set)))
}

fn untyped_set() -> &'static Arc<TypeSet> {
    static SET: OnceLock<Arc<TypeSet>> = OnceLock::new();
    SET.get_or_init(|| {
        let mut set = TypeSet {
            custom: true,
            ..TypeSet::default()
        };
        push_scalars(&mut set);
        set.root = scalar_node(b'?');
        Arc::new(set)
    })
}

pub(super) fn untyped() -> TypeRef {
    TypeRef::custom(Arc::clone(untyped_set()))
}

pub(super) fn untyped_ty() -> Ty<'static> {
    let set = untyped_set();
    Ty::new(set, set.root)
}

fn flag_of(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn convert(
    set: &mut TypeSet,
    schema: &Value,
    object: bool,
    depth: usize,
    path: &mut String,
) -> Result<NodeId, SchemaError> {
    if !schema.is_object() {
        return Err(SchemaError::NotAnObject(path.clone()));
    }
    if depth > DEPTH_MAX {
        return Err(SchemaError::TooDeep(path.clone()));
    }
    if flag_of(schema, "x-kubernetes-int-or-string") {
        return Ok(scalar_node(b'x'));
    }
    let object = object || flag_of(schema, "x-kubernetes-embedded-resource");
    let preserve = flag_of(schema, "x-kubernetes-preserve-unknown-fields");
    let ty = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or(if object { "object" } else { "" });
    Ok(match ty {
        "object" => object_type(set, schema, object, preserve, depth, path)?,
        "array" => {
            let elem = match schema.get("items") {
                Some(items) => child(set, items, "items", depth, path)?,
                None => scalar_node(b'?'),
            };
            set.push(Node::List {
                elem,
                kind: list_kind(schema),
            })
        }
        "string" => scalar_node(b's'),
        "boolean" => scalar_node(b'b'),
        "integer" => scalar_node(b'l'),
        "number" => scalar_node(b'n'),
        _ => scalar_node(b'?'),
    })
}

fn child(
    set: &mut TypeSet,
    schema: &Value,
    name: &str,
    depth: usize,
    path: &mut String,
) -> Result<NodeId, SchemaError> {
    let mark = super::check::push_key(path, name);
    let node = convert(set, schema, false, depth + 1, path)?;
    path.truncate(mark);
    Ok(node)
}

fn list_kind(schema: &Value) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(
            schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|k| Some(Text::Owned(k.as_str()?.to_owned())))
                .collect(),
        ),
        _ => ListKind::Atomic,
    }
}

fn object_type(
    set: &mut TypeSet,
    schema: &Value,
    object: bool,
    preserve: bool,
    depth: usize,
    path: &mut String,
) -> Result<NodeId, SchemaError> {
    let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = match schema.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(scalar_node(b'?')),
        Some(value @ Value::Object(_)) => Some(child(set, value, "additionalProperties", depth, path)?),
        _ => None,
    };
    if properties.is_none() && !object {
        return Ok(match additional {
            Some(value) => set.push(Node::Map { value, atomic }),
            None if preserve => scalar_node(b'?'),
            None => set.push(Node::Struct(Struct {
                name: Cow::Borrowed(""),
                fields: (0, 0),
                atomic,
                others: None,
            })),
        });
    }
    let mut fields = Vec::new();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, property) in properties.into_iter().flatten() {
        if object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let ty = child(set, property, name, depth, path)?;
        let default = property.get("default").cloned();
        fields.push(Field {
            name: Cow::Owned(name.clone()),
            ty,
            flags: if required.contains(&name.as_str()) {
                flag::REQUIRED
            } else {
                0
            },
            extra: default.map(|d| {
                Box::new(Extra {
                    default: Some(d),
                    ..Extra::default()
                })
            }),
        });
    }
    if object {
        let meta = super::builtin_static().by_name("apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let meta = meta.map_or(scalar_node(b'?'), |node| set.push(Node::Builtin(node)));
        for (name, ty) in [
            ("apiVersion", scalar_node(b's')),
            ("kind", scalar_node(b's')),
            ("metadata", meta),
        ] {
            fields.push(Field {
                name: Cow::Borrowed(name),
                ty,
                flags: 0,
                extra: None,
            });
        }
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let start = u32::try_from(set.fields.len()).unwrap_or(u32::MAX);
    set.fields.extend(fields);
    let end = u32::try_from(set.fields.len()).unwrap_or(u32::MAX);
    let others = additional.or_else(|| preserve.then(|| scalar_node(b'?')));
    Ok(set.push(Node::Struct(Struct {
        name: Cow::Borrowed(""),
        fields: (start, end),
        atomic,
        others,
    })))
}
