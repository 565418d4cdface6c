//! Field errors: what is wrong with which field, printed as the API prints it.
//!
//! Validation code collects [`FieldErrors`] under a [`Path`] that lives on the stack and is only rendered when
//! there is something to say, so a valid object costs no allocation. The printed forms follow
//! `k8s.io/apimachinery/pkg/util/validation/field`; clients match on them.

use orch_core::status::{StatusCause, StatusDetails};
use orch_core::{GroupVersionKind, Status, StatusReason};
use serde_json::Value;
use std::fmt;

/// A path to a field: a chain of stack frames, rendered only for an error.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path of one name, such as `spec`. An empty name renders as the empty path and prefixes nothing.
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self {
            parent: None,
            segment: Segment::Name(name),
        }
    }
    /// The member `name` of this.
    #[must_use]
    pub const fn child(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Name(name),
        }
    }
    /// The item `index` of this list.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Index(index),
        }
    }
    /// The entry `key` of this map.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Key(key),
        }
    }
    /// The last index on this path, if its last segment is one.
    #[must_use]
    pub const fn last_index(&self) -> Option<usize> {
        match self.segment {
            Segment::Index(i) => Some(i),
            _ => None,
        }
    }

    fn render(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.render(out);
        }
        match self.segment {
            Segment::Name(name) => {
                if !out.is_empty() && !name.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Segment::Index(i) => out.push_str(&format!("[{i}]")),
            Segment::Key(key) => {
                out.push('[');
                out.push_str(key);
                out.push(']');
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.render(&mut out);
        f.write_str(&out)
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

/// What sort of error a [`FieldError`] is; its names on the wire are those of upstream's cause types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The cause type on the wire, such as `FieldValueInvalid`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        !matches!(
            self,
            Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal
        )
    }
}

/// The offending value of a [`FieldError`].
#[derive(Debug, Clone, PartialEq)]
pub enum BadValue {
    /// Not shown.
    Omitted,
    /// Shown quoted if a string, else as JSON.
    Json(Value),
    /// Shown as it is: for values whose printed member order matters.
    Raw(String),
}

impl<T: Into<Value>> From<T> for BadValue {
    fn from(value: T) -> Self {
        Self::Json(value.into())
    }
}

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What sort of error.
    pub kind: FieldErrorKind,
    /// Path of the field, such as `spec.containers[0].image`.
    pub path: String,
    /// The offending value.
    pub bad: BadValue,
    /// What is wrong with it, for people; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &Path<'_>, bad: BadValue, detail: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.to_string(),
            bad,
            detail: detail.into(),
        }
    }
    /// A malformed value.
    pub fn invalid(path: &Path<'_>, bad: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, bad.into(), detail)
    }
    /// A value of the wrong JSON type.
    pub fn type_invalid(path: &Path<'_>, bad: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, path, bad.into(), detail)
    }
    /// A missing value.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, BadValue::Json("".into()), detail)
    }
    /// A value that must be unique and is not.
    pub fn duplicate(path: &Path<'_>, bad: impl Into<BadValue>) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, bad.into(), "")
    }
    /// A reference to something that is not there.
    pub fn not_found(path: &Path<'_>, bad: impl Into<BadValue>) -> Self {
        Self::new(FieldErrorKind::NotFound, path, bad.into(), "")
    }
    /// A value outside of an enumeration, which is listed in the order given.
    pub fn not_supported(path: &Path<'_>, bad: impl Into<BadValue>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, path, bad.into(), detail)
    }
    /// A well-formed value that may not be set here or now.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, BadValue::Json("".into()), detail)
    }
    /// A value of more than `max` bytes.
    #[must_use]
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max} {unit}");
        Self::new(FieldErrorKind::TooLong, path, BadValue::Omitted, detail)
    }
    /// A value of more than `max` characters.
    #[must_use]
    pub fn too_long_characters(path: &Path<'_>, max: usize) -> Self {
        let unit = if max == 1 { "character" } else { "characters" };
        let detail = format!("may not be more than {max} {unit}");
        Self::new(FieldErrorKind::TooLong, path, BadValue::Omitted, detail)
    }
    /// A value of fewer than `min` characters.
    pub fn too_short(path: &Path<'_>, bad: impl Into<BadValue>, min: usize) -> Self {
        let unit = if min == 1 { "character" } else { "characters" };
        Self::new(
            FieldErrorKind::TooShort,
            path,
            bad.into(),
            format!("must be at least {min} {unit}"),
        )
    }
    /// A list of `actual` items where at most `max` are allowed.
    #[must_use]
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooMany,
            path,
            actual.into(),
            format!("must have at most {max} {unit}"),
        )
    }
    /// A list of `actual` items where at least `min` are needed.
    #[must_use]
    pub fn too_few(path: &Path<'_>, actual: usize, min: usize) -> Self {
        let unit = if min == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooFew,
            path,
            actual.into(),
            format!("must have at least {min} {unit}"),
        )
    }
    /// Something that is not the user's fault.
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, path, BadValue::Omitted, detail)
    }

    /// The error without its path, such as `Invalid value: -1: must be greater than or equal to 0`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut out = String::from(self.kind.text());
        if self.kind.shows_value() {
            match &self.bad {
                BadValue::Omitted => {}
                BadValue::Json(value) => {
                    out.push_str(": ");
                    out.push_str(&show(value));
                }
                BadValue::Raw(text) => {
                    out.push_str(": ");
                    out.push_str(text);
                }
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// The errors of one object, in the order found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// No errors.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }
    /// Adds one.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }
    /// Adds all of `more`.
    pub fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }
    /// See [`FieldError::invalid`].
    pub fn invalid(&mut self, path: &Path<'_>, bad: impl Into<BadValue>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, bad, detail));
    }
    /// See [`FieldError::required`].
    pub fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }
    /// See [`FieldError::duplicate`].
    pub fn duplicate(&mut self, path: &Path<'_>, bad: impl Into<BadValue>) {
        self.push(FieldError::duplicate(path, bad));
    }
    /// See [`FieldError::not_found`].
    pub fn not_found(&mut self, path: &Path<'_>, bad: impl Into<BadValue>) {
        self.push(FieldError::not_found(path, bad));
    }
    /// See [`FieldError::not_supported`].
    pub fn not_supported(&mut self, path: &Path<'_>, bad: impl Into<BadValue>, supported: &[&str]) {
        self.push(FieldError::not_supported(path, bad, supported));
    }
    /// See [`FieldError::forbidden`].
    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    /// The `Invalid` status of these errors for the object `name` of `kind`:
    /// `Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1: …`.
    #[must_use]
    pub fn into_status(self, kind: &GroupVersionKind, name: &str) -> Status {
        let qualified = if kind.group.is_empty() {
            kind.kind.clone()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        let mut message = format!("{qualified} {} is invalid", quote(name));
        let text = self.to_string();
        if !text.is_empty() {
            message.push_str(": ");
            message.push_str(&text);
        }
        let causes = self
            .0
            .into_iter()
            .map(|e| StatusCause {
                reason: e.kind.reason().into(),
                message: e.body(),
                field: e.path,
            })
            .collect();
        Status::new(StatusReason::Invalid, message).with_details(StatusDetails {
            name: name.into(),
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            causes,
            ..StatusDetails::default()
        })
    }
}

impl fmt::Display for FieldErrors {
    /// One error as it is, several as `[a, b]`, each text once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match &texts[..] {
            [] => Ok(()),
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, iter: T) {
        self.0.extend(iter);
    }
}

/// A value as messages show it: strings quoted, the rest as JSON with `<`, `>` and `&` escaped.
fn show(value: &Value) -> String {
    match value {
        Value::String(s) => quote(s),
        Value::Array(_) | Value::Object(_) => value
            .to_string()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026"),
        other => other.to_string(),
    }
}

/// Quotes a string with Go's escapes (`strconv.Quote`), which is how upstream's messages show strings.
#[must_use]
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii() => {
                if c.is_ascii_control() {
                    out.push_str(&format!("\\x{:02x}", c as u32));
                } else {
                    out.push(c);
                }
            }
            c if printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

fn printable(c: char) -> bool {
    let invisible = matches!(c as u32,
        0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xd800..=0xf8ff
        | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0x10_ffff);
    !(c.is_control() || c.is_whitespace() || invisible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prints_like_upstream() {
        let spec = Path::new("spec");
        let replicas = spec.child("replicas");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let check = |error: FieldError, expected: &str| assert_eq!(error.to_string(), expected);
        check(
            FieldError::invalid(&replicas, -1, "must be greater than or equal to 0"),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        );
        check(
            FieldError::required(&first.child("image"), ""),
            "spec.containers[0].image: Required value",
        );
        check(
            FieldError::duplicate(&first.child("name"), "a\"b"),
            r#"spec.containers[0].name: Duplicate value: "a\"b""#,
        );
        check(
            FieldError::not_supported(&spec.child("type"), "x", &["A", "B"]),
            r#"spec.type: Unsupported value: "x": supported values: "A", "B""#,
        );
        check(FieldError::forbidden(&spec, "no"), "spec: Forbidden: no");
        check(
            FieldError::too_long(&spec, 63),
            "spec: Too long: may not be more than 63 bytes",
        );
        check(
            FieldError::too_long(&spec, 1),
            "spec: Too long: may not be more than 1 byte",
        );
        check(
            FieldError::too_many(&containers, 9, 8),
            "spec.containers: Too many: 9: must have at most 8 items",
        );
        check(FieldError::internal(&spec, "x"), "spec: Internal error: x");
        check(
            FieldError::type_invalid(&spec, json!({"a": "<b>"}), "bad"),
            "spec: Invalid value: {\"a\":\"\\u003cb\\u003e\"}: bad",
        );
        check(
            FieldError::invalid(&spec.key("a/b"), BadValue::Omitted, "bad"),
            "spec[a/b]: Invalid value: bad",
        );
        check(FieldError::not_found(&spec, true), "spec: Not found: true");
    }

    #[test]
    fn quotes_like_go() {
        for (input, expected) in [
            ("a'b", r#""a'b""#),
            ("a\nb\u{7f}", r#""a\nb\x7f""#),
            ("é\u{a0}\u{200b}", "\"é\\u00a0\\u200b\""),
            ("\u{e0001}", "\"\\U000e0001\""),
        ] {
            assert_eq!(quote(input), expected);
        }
    }

    #[test]
    fn status_has_causes_and_each_text_once() {
        let kind = GroupVersionKind::new("apps", "v1", "Deployment");
        let spec = Path::new("spec");
        let mut errors = FieldErrors::new();
        errors.required(&spec.child("a"), "");
        let one = errors.clone().into_status(&kind, "x");
        assert_eq!(
            one.message,
            r#"Deployment.apps "x" is invalid: spec.a: Required value"#
        );
        assert_eq!(one.code, 422);
        errors.required(&spec.child("a"), "");
        errors.invalid(&spec.child("b"), 3, "odd");
        let many = errors.into_status(&kind, "x");
        assert_eq!(
            many.message,
            r#"Deployment.apps "x" is invalid: [spec.a: Required value, spec.b: Invalid value: 3: odd]"#
        );
        let details = many.details.unwrap();
        assert_eq!(
            (
                details.kind.as_str(),
                details.group.as_str(),
                details.causes.len()
            ),
            ("Deployment", "apps", 3)
        );
        assert_eq!(details.causes[2].reason, "FieldValueInvalid");
        assert_eq!(details.causes[2].field, "spec.b");
        let pod = GroupVersionKind::new("", "v1", "Pod");
        assert_eq!(
            FieldErrors::new().into_status(&pod, "x").message,
            "Pod \"x\" is invalid"
        );
    }
}
