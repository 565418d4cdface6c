//! Decoding against a type: one pass that checks types, collects strict errors and brings values into the form in
//! which upstream's typed objects are written.

use super::report::{Context, Frame, Step, go_path, go_type, syntax_error};
use super::scalar;
use super::types::{Field, Fields, Kind, Scalar, Ty, TypeRef};
use super::zero::{add_always_written, omitted, zero};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A decoded object and what strict decoding would have refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// Strict errors in document order, at most 100, each once: `unknown field "spec.foo"`,
    /// `duplicate field "spec.x"`. They are the texts of warnings when field validation only warns.
    pub strict: Vec<String>,
}

/// Why bytes are not an object of a type. The texts are those of upstream's decoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A value has the wrong type or cannot be read as its type.
    #[error("{0}")]
    Type(String),
}

/// Decodes one JSON object as `ty`.
///
/// # Errors
/// [`DecodeError`] with upstream's text, without the prefix that names the kind.
pub fn decode(ty: &TypeRef, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let context = Context::default();
    let seed = Seed {
        ty: ty.ty(),
        field: None,
        frame: None,
        context: &context,
    };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|v| deserializer.end().map(|()| v));
    context.finish(value.map_err(|e| syntax_error(&e, bytes)))
}

/// Brings a parsed value into the form that [`decode`] gives.
///
/// # Errors
/// As [`decode`].
pub fn normalize(ty: &TypeRef, value: Value) -> Result<Decoded, DecodeError> {
    let context = Context::default();
    let seed = Seed {
        ty: ty.ty(),
        field: None,
        frame: None,
        context: &context,
    };
    let value = seed.deserialize(value);
    context.finish(value.map_err(|e| DecodeError::Syntax(e.to_string())))
}

/// The strict errors of JSON text read without a type: only duplicate fields. Empty if it is not JSON.
#[must_use]
pub fn duplicate_fields(bytes: &[u8]) -> Vec<String> {
    decode(&super::untyped(), bytes)
        .map(|d| d.strict)
        .unwrap_or_default()
}

/// The text of the error that refuses an object for its strict errors; `None` if there are none.
#[must_use]
pub fn strict_error(errors: &[String]) -> Option<String> {
    (!errors.is_empty()).then(|| format!("strict decoding error: {}", errors.join(", ")))
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    ty: Ty<'a>,
    /// The field that this value, or the list or map that it is in, belongs to.
    field: Option<&'a Field>,
    frame: Option<&'a Frame<'a>>,
    context: &'a Context,
}

impl Seed<'_> {
    fn mismatch(&self, found: &str) {
        self.context.error(|| {
            let (mut names, mut innermost) = (Vec::new(), None);
            go_path(self.frame, &mut names, &mut innermost);
            let ty = match self.ty.kind() {
                // These decode themselves from a plain string.
                Kind::Scalar(Scalar::Time | Scalar::MicroTime) => {
                    return format!("json: cannot unmarshal {found} into Go value of type string");
                }
                Kind::Scalar(Scalar::Quantity) => return scalar::quantity("?").err().unwrap_or_default(),
                _ => go_type(self.ty, self.field),
            };
            match innermost {
                Some(of) => {
                    format!(
                        "json: cannot unmarshal {found} into Go struct field {of}.{} of type {ty}",
                        names.join(".")
                    )
                }
                None => format!("json: cannot unmarshal {found} into Go value of type {ty}"),
            }
        });
    }

    /// A value of the wrong type: kept in a custom resource (its validation reports it), an error otherwise.
    fn refuse(&self, found: &str, value: Value) -> Option<Value> {
        if self.ty.is_custom() {
            return Some(value);
        }
        self.mismatch(found);
        None
    }

    fn number(&self, n: Number) -> Option<Value> {
        let fits = |n: &Number| match self.ty.kind() {
            Kind::Scalar(Scalar::Int32 | Scalar::IntOrString) => {
                n.as_i64().is_some_and(|i| i32::try_from(i).is_ok())
            }
            Kind::Scalar(Scalar::Int64) => n.as_i64().is_some(),
            Kind::Scalar(Scalar::Double) | Kind::Any | Kind::Deduced | Kind::Raw => true,
            _ => false,
        };
        if fits(&n) {
            return Some(Value::Number(n));
        }
        match self.ty.kind() {
            Kind::Scalar(Scalar::Int32 | Scalar::Int64) => {
                self.refuse(&format!("number {n}"), Value::Number(n))
            }
            Kind::Scalar(Scalar::IntOrString) if !self.ty.is_custom() => {
                self.context
                    .error(|| format!("json: cannot unmarshal number {n} into Go value of type int32"));
                None
            }
            Kind::Scalar(Scalar::Quantity) if !self.ty.is_custom() => self.string(n.to_string()),
            _ => self.refuse("number", Value::Number(n)),
        }
    }

    fn string(&self, text: String) -> Option<Value> {
        if self.ty.is_custom() {
            return Some(Value::String(text));
        }
        let canonical = match self.ty.kind() {
            Kind::Scalar(Scalar::Quantity) => scalar::quantity(&text),
            Kind::Scalar(Scalar::Time) => scalar::time(&text, false),
            Kind::Scalar(Scalar::MicroTime) => scalar::time(&text, true),
            Kind::Scalar(Scalar::Bytes) => scalar::base64(&text).map(|()| None),
            Kind::Scalar(Scalar::String | Scalar::IntOrString) | Kind::Any | Kind::Deduced | Kind::Raw => {
                Ok(None)
            }
            _ => return self.refuse("string", Value::String(text)),
        };
        match canonical {
            Ok(None) => Some(Value::String(text)),
            Ok(Some(canonical)) => Some(Value::String(canonical)),
            Err(error) => {
                self.context.error(|| error);
                None
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    /// `None` for a null that is to be dropped.
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        let keep = self.ty.is_custom() || matches!(self.ty.kind(), Kind::Any | Kind::Deduced | Kind::Raw);
        Ok(keep.then_some(Value::Null))
    }
    fn visit_bool<E>(self, v: bool) -> Result<Self::Value, E> {
        Ok(match self.ty.kind() {
            Kind::Scalar(Scalar::Bool) | Kind::Any | Kind::Deduced | Kind::Raw => Some(Value::Bool(v)),
            _ => self.refuse("bool", Value::Bool(v)),
        })
    }
    fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
        Ok(self.number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
        Ok(self.number(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(v).and_then(|n| self.number(n)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
        Ok(self.string(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Self::Value, E> {
        Ok(self.string(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let elem = match self.ty.kind() {
            Kind::List { elem, .. } => elem,
            Kind::Any | Kind::Deduced | Kind::Raw => self.ty,
            _ if self.ty.is_custom() => super::crd::untyped_ty(),
            _ => {
                self.mismatch("array");
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
        };
        let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1024));
        loop {
            let frame = Frame {
                parent: self.frame,
                step: Step::Index(items.len()),
            };
            let seed = Seed {
                ty: elem,
                field: self.field,
                frame: Some(&frame),
                context: self.context,
            };
            match seq.next_element_seed(seed)? {
                // A null item is the zero value of its type.
                Some(item) => items.push(item.unwrap_or_else(|| zero(elem).unwrap_or(Value::Null))),
                None => return Ok(Some(Value::Array(items))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let Self {
            ty,
            field,
            frame,
            context,
        } = self;
        match ty.kind() {
            Kind::Struct(fields) => struct_fields(self, fields, map).map(Some),
            Kind::Map { value, .. } => free_keys(value, field, frame, context, map).map(Some),
            Kind::Any | Kind::Deduced | Kind::Raw => free_keys(ty, field, frame, context, map).map(Some),
            _ if ty.is_custom() => free_keys(super::crd::untyped_ty(), field, frame, context, map).map(Some),
            _ => {
                self.mismatch("object");
                let mut map = map;
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(None)
            }
        }
    }
}

fn free_keys<'de, A: MapAccess<'de>>(
    value: Ty<'_>,
    field: Option<&Field>,
    frame: Option<&Frame<'_>>,
    context: &Context,
    mut map: A,
) -> Result<Value, A::Error> {
    let mut out = Map::new();
    while let Some(key) = map.next_key::<String>()? {
        if out.contains_key(&key) {
            context.strict("duplicate field", frame, &key);
        }
        let inner = Frame {
            parent: frame,
            step: Step::Key(&key),
        };
        let item = map.next_value_seed(Seed {
            ty: value,
            field,
            frame: Some(&inner),
            context,
        })?;
        // A null in a typed map is the zero value.
        let item = item.or_else(|| zero(value)).unwrap_or(Value::Null);
        out.insert(key, item);
    }
    Ok(Value::Object(out))
}

/// A key of a struct: its position, or its name if the type does not name it.
struct KeySeed<'a>(Fields<'a>);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Result<usize, String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Result<usize, String>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }
    fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
        Ok(self.0.position(v).ok_or_else(|| v.to_owned()))
    }
}

fn struct_fields<'de, A: MapAccess<'de>>(
    seed: Seed<'_>,
    fields: Fields<'_>,
    mut map: A,
) -> Result<Value, A::Error> {
    let Seed { frame, context, .. } = seed;
    let go = !seed.ty.is_custom();
    let mut out = Map::new();
    let mut seen = 0u128;
    while let Some(key) = map.next_key_seed(KeySeed(fields))? {
        let at = match key {
            Ok(at) => at,
            Err(name) => {
                match fields.others() {
                    Some(ty) => {
                        if out.contains_key(&name) {
                            context.strict("duplicate field", frame, &name);
                        }
                        let inner = Frame {
                            parent: frame,
                            step: Step::Key(&name),
                        };
                        let value = map.next_value_seed(Seed {
                            ty,
                            field: None,
                            frame: Some(&inner),
                            context,
                        })?;
                        out.insert(name, value.unwrap_or(Value::Null));
                    }
                    None => {
                        context.strict("unknown field", frame, &name);
                        map.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                continue;
            }
        };
        let field = &fields.all()[at];
        let bit = 1u128
            .checked_shl(u32::try_from(at).unwrap_or(u32::MAX))
            .unwrap_or(0);
        if seen & bit != 0 || (bit == 0 && out.contains_key(field.name())) {
            context.strict("duplicate field", frame, field.name());
        }
        seen |= bit;
        let ty = fields.type_of(field);
        let inner = Frame {
            parent: frame,
            step: Step::Field {
                of: fields,
                name: field.name(),
            },
        };
        let value = map.next_value_seed(Seed {
            ty,
            field: Some(field),
            frame: Some(&inner),
            context,
        })?;
        match value {
            Some(value) if !(go && omitted(field, ty, &value)) => {
                out.insert(field.name().to_owned(), value);
            }
            _ => {
                out.remove(field.name());
            }
        }
    }
    if go {
        add_always_written(fields, &mut out);
    }
    Ok(Value::Object(out))
}
