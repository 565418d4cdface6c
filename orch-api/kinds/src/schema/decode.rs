//! Decoding against a type: one pass that checks types, collects strict errors and brings values into the form in
//! which upstream's typed objects are written.

use super::scalar;
use super::types::{Field, Fields, Kind, Scalar, Ty, TypeRef};
use super::zero::{add_always_written, omitted, zero};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
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

/// The most strict errors that one decode reports, as upstream.
const STRICT_MAX: usize = 100;

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

/// Spells a parse error as Go does.
fn syntax_error(error: &serde_json::Error, bytes: &[u8]) -> DecodeError {
    if error.is_eof() {
        return DecodeError::Syntax("unexpected end of JSON input".into());
    }
    let line_start = bytes
        .split_inclusive(|b| *b == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let at = (line_start + error.column()).saturating_sub(1);
    let text = String::from_utf8_lossy(bytes.get(at..).unwrap_or_default());
    let Some(character) = text.chars().next() else {
        return DecodeError::Syntax("unexpected end of JSON input".into());
    };
    let place = match error.to_string() {
        m if m.starts_with("trailing characters") => "after top-level value",
        m if m.contains("expected `,` or `}`") => "after object key:value pair",
        m if m.contains("expected `,` or `]`") => "after array element",
        m if m.contains("expected `:`") => "after object key",
        m if m.contains("key must be a string") => "looking for beginning of object key string",
        m if m.contains("control character") => "in string literal",
        _ => "looking for beginning of value",
    };
    DecodeError::Syntax(format!("invalid character {character:?} {place}"))
}

#[derive(Default)]
struct Context {
    strict: RefCell<Vec<String>>,
    error: RefCell<Option<String>>,
}

impl Context {
    fn strict(&self, what: &str, frame: Option<&Frame<'_>>, field: &str) {
        let mut strict = self.strict.borrow_mut();
        if strict.len() < STRICT_MAX {
            let mut path = String::new();
            strict_path(frame, &mut path);
            super::check::push_key(&mut path, field);
            let error = format!("{what} {path:?}");
            if !strict.contains(&error) {
                strict.push(error);
            }
        }
    }
    fn error(&self, text: impl FnOnce() -> String) {
        self.error.borrow_mut().get_or_insert_with(text);
    }
    fn finish(self, value: Result<Option<Value>, DecodeError>) -> Result<Decoded, DecodeError> {
        let value = value?;
        if let Some(error) = self.error.into_inner() {
            return Err(DecodeError::Type(error));
        }
        Ok(Decoded {
            value: value.unwrap_or(Value::Null),
            strict: self.strict.into_inner(),
        })
    }
}

/// Where the decoder is; frames live on its call stack.
struct Frame<'a> {
    parent: Option<&'a Frame<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Field { of: Fields<'a>, name: &'a str },
    Key(&'a str),
    Index(usize),
}

fn strict_path(frame: Option<&Frame<'_>>, out: &mut String) {
    let Some(frame) = frame else { return };
    strict_path(frame.parent, out);
    match frame.step {
        Step::Field { name: key, .. } | Step::Key(key) => {
            super::check::push_key(out, key);
        }
        Step::Index(i) => super::check::push_index(out, i),
    }
}

/// Go's path: struct fields only.
fn go_path(frame: Option<&Frame<'_>>, names: &mut Vec<String>, innermost: &mut Option<String>) {
    let Some(frame) = frame else { return };
    if let Step::Field { of, name } = &frame.step {
        names.insert(0, (*name).to_owned());
        innermost.get_or_insert_with(|| of.name().rsplit('.').next().unwrap_or_default().to_owned());
    }
    go_path(frame.parent, names, innermost);
}

fn go_type(ty: Ty<'_>, field: Option<&Field>) -> String {
    match ty.kind() {
        Kind::List { elem, .. } => format!("[]{}", go_type(elem, field)),
        Kind::Map { value, .. } => format!("map[string]{}", go_type(value, field)),
        Kind::Struct(fields) => {
            let mut parts = fields.name().rsplit('.');
            let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{package}.{name}")
        }
        Kind::Scalar(s) => match (field.and_then(Field::go_type), s) {
            (Some(named), _) => named.to_owned(),
            (_, Scalar::Int32) => "int32".into(),
            (_, Scalar::Int64) => "int64".into(),
            (_, Scalar::Double) => "float64".into(),
            (_, Scalar::Bool) => "bool".into(),
            (_, Scalar::Bytes) => "[]uint8".into(),
            (_, Scalar::Quantity) => "resource.Quantity".into(),
            (_, Scalar::IntOrString) => "intstr.IntOrString".into(),
            (_, Scalar::Time) => "v1.Time".into(),
            (_, Scalar::MicroTime) => "v1.MicroTime".into(),
            (_, Scalar::String) => "string".into(),
        },
        Kind::Any | Kind::Deduced | Kind::Raw => "interface {}".into(),
    }
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
            Kind::Struct(fields) => return struct_fields(self, fields, map).map(Some),
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
                return Ok(None);
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
