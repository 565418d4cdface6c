//! What a decode finds wrong, where it is, and how upstream's decoder words it.

use super::decode::{DecodeError, Decoded};
use super::types::{Field, Fields, Kind, Scalar, Ty};
use serde_json::Value;
use std::cell::RefCell;

/// The most strict errors that one decode reports, as upstream.
const STRICT_MAX: usize = 100;

/// Spells a parse error as Go does.
pub(super) fn syntax_error(error: &serde_json::Error, bytes: &[u8]) -> DecodeError {
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
pub(super) struct Context {
    strict: RefCell<Vec<String>>,
    error: RefCell<Option<String>>,
}

impl Context {
    pub(super) fn strict(&self, what: &str, frame: Option<&Frame<'_>>, field: &str) {
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
    pub(super) fn error(&self, text: impl FnOnce() -> String) {
        self.error.borrow_mut().get_or_insert_with(text);
    }
    pub(super) fn finish(self, value: Result<Option<Value>, DecodeError>) -> Result<Decoded, DecodeError> {
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
pub(super) struct Frame<'a> {
    pub(super) parent: Option<&'a Frame<'a>>,
    pub(super) step: Step<'a>,
}

pub(super) enum Step<'a> {
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
pub(super) fn go_path(frame: Option<&Frame<'_>>, names: &mut Vec<String>, innermost: &mut Option<String>) {
    let Some(frame) = frame else { return };
    if let Step::Field { of, name } = &frame.step {
        names.insert(0, (*name).to_owned());
        innermost.get_or_insert_with(|| of.name().rsplit('.').next().unwrap_or_default().to_owned());
    }
    go_path(frame.parent, names, innermost);
}

pub(super) fn go_type(ty: Ty<'_>, field: Option<&Field>) -> String {
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
