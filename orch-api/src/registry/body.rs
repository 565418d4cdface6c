//! Request bodies: JSON, YAML or already parsed, into objects of the expected type.

use super::{Scope, options::FieldValidation};
use bytes::Bytes;
use http::header;
use orch_core::{
    GroupVersionKind, Status,
    client::{ApiRequest, RequestBody},
    status::StatusReason,
};
use orch_kinds::schema::{self, Decoded, TypeRef};
use serde::Deserialize;
use serde_json::Value;

/// Largest request body, in bytes.
pub(crate) const BODY_MAX: usize = 3 * 1024 * 1024;

/// The media type of a request's body, without parameters; JSON if it does not say.
pub(crate) fn media_type(request: &ApiRequest) -> &str {
    let given = request
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("application/json");
    let given = given.split(';').next().unwrap_or_default().trim();
    if given.is_empty() {
        "application/json"
    } else {
        given
    }
}

/// A body that was not yet decoded.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// JSON text.
    Json(Bytes),
    /// Parsed.
    Value(Value),
}

/// Takes the body of a request: JSON as text, YAML parsed.
pub(crate) fn take(request: &mut ApiRequest) -> Result<Body, Status> {
    let bytes = match std::mem::take(&mut request.body) {
        RequestBody::Empty => return Ok(Body::Empty),
        RequestBody::Value(value) => return Ok(Body::Value(value)),
        RequestBody::Bytes(bytes) if bytes.is_empty() => return Ok(Body::Empty),
        RequestBody::Bytes(bytes) => bytes,
    };
    if bytes.len() > BODY_MAX {
        let message = format!("Request entity too large: limit is {BODY_MAX}");
        return Err(Status::new(StatusReason::RequestEntityTooLarge, message));
    }
    match media_type(request) {
        "application/json" => Ok(Body::Json(bytes)),
        "application/yaml" => yaml(&bytes)
            .map(Body::Value)
            .map_err(|e| Status::bad_request(format!("error converting YAML to JSON: {e}"))),
        other => Err(unsupported(other, &["application/json", "application/yaml"])),
    }
}

/// The 415 of a media type that is not understood.
pub(crate) fn unsupported(given: &str, supported: &[&str]) -> Status {
    let message = format!(
        "the body of the request was in an unknown format ({given}) - accepted media types include: {}",
        supported.join(", ")
    );
    Status::new(StatusReason::UnsupportedMediaType, message)
}

/// Parses YAML by the rules that Kubernetes manifests are read with.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        ignore_binary_tag_for_string: true,
    };
    let mut value: Value =
        serde_saphyr::from_slice_with_options(bytes, options).map_err(|e| e.to_string())?;
    integral(&mut value);
    Ok(value)
}

/// Numbers such as `1e3` that YAML reads as floats but mean whole numbers.
fn integral(value: &mut Value) {
    match value {
        Value::Number(n) => {
            if let Some(f) = n
                .as_f64()
                .filter(|f| !n.is_i64() && !n.is_u64() && f.fract() == 0.0 && f.abs() < 9e15)
            {
                *value = Value::from(f as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(integral),
        Value::Object(map) => map.values_mut().for_each(integral),
        _ => {}
    }
}

#[derive(Deserialize)]
struct TypeMeta {
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
}

/// Decodes a `gvk`; gives the object and its strict errors.
pub(crate) fn decode(
    body: Body,
    gvk: &GroupVersionKind,
    ty: &TypeRef,
) -> Result<(Value, Vec<String>), Status> {
    let (decoded, text) = match body {
        Body::Empty => {
            let why = "couldn't get version/kind; json parse error: unexpected end of JSON input";
            return Err(unrecognized(gvk, why, b""));
        }
        Body::Json(bytes) => (schema::decode(ty, &bytes), Some(bytes)),
        Body::Value(value) => {
            check_type_meta(value.get("kind"), value.get("apiVersion"), gvk)?;
            (schema::normalize(ty, value), None)
        }
    };
    let text = text.as_deref();
    let Decoded { mut value, strict } = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Err(undecodable(&error.to_string(), gvk, text)),
    };
    let Some(map) = value.as_object_mut() else {
        return Err(unrecognized(
            gvk,
            "cannot unmarshal into an object",
            text.unwrap_or_default(),
        ));
    };
    check_type_meta(map.get("kind"), map.get("apiVersion"), gvk)?;
    map.insert("kind".into(), gvk.kind.as_str().into());
    map.insert("apiVersion".into(), gvk.api_version().into());
    Ok((value, strict))
}

/// Why a body could not be decoded: because it is of another kind, if it is, or else for `error`.
fn undecodable(error: &str, gvk: &GroupVersionKind, text: Option<&[u8]>) -> Status {
    let Some(text) = text else {
        return handled(gvk, error);
    };
    let Ok(meta) = serde_json::from_slice::<TypeMeta>(text) else {
        return unrecognized(
            gvk,
            &format!("couldn't get version/kind; json parse error: {error}"),
            text,
        );
    };
    let (kind, version) = (Value::from(meta.kind.as_str()), Value::from(meta.api_version));
    if let Err(other) = check_type_meta(Some(&kind), Some(&version), gvk) {
        return other;
    }
    if meta.kind.is_empty() {
        unrecognized(gvk, error, text)
    } else {
        handled(gvk, error)
    }
}

/// The warnings that strict errors turn into, or their refusal.
pub(crate) fn strict_warnings(
    errors: Vec<String>,
    validation: FieldValidation,
    gvk: &GroupVersionKind,
) -> Result<Vec<String>, Status> {
    match (validation, schema::strict_error(&errors)) {
        (FieldValidation::Strict, Some(error)) => Err(handled(gvk, &error)),
        (FieldValidation::Warn, _) => Ok(errors),
        _ => Ok(Vec::new()),
    }
}

impl Scope<'_> {
    /// Decodes the object of a create or update, and deals with unknown fields.
    pub(crate) fn decode(
        &self,
        body: Body,
        gvk: &GroupVersionKind,
        ty: &TypeRef,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let (value, strict) = decode(body, gvk, ty)?;
        strict_warnings(strict, validation, gvk)?
            .into_iter()
            .for_each(|w| self.warn(w));
        Ok(value)
    }

    /// Warns of or refuses strict errors.
    pub(crate) fn strict(
        &self,
        errors: Vec<String>,
        validation: FieldValidation,
        refuse: impl FnOnce(&str) -> Status,
    ) -> Result<(), Status> {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => errors.into_iter().for_each(|e| self.warn(e)),
            FieldValidation::Strict => {
                if let Some(error) = schema::strict_error(&errors) {
                    return Err(refuse(&error));
                }
            }
        }
        Ok(())
    }
}

/// `Pod in version "v1" cannot be handled as a Pod: why`
fn handled(gvk: &GroupVersionKind, why: &str) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        gvk.kind, gvk.version, gvk.kind
    ))
}

fn unrecognized(gvk: &GroupVersionKind, why: &str, body: &[u8]) -> Status {
    const SHOWN: usize = 30;
    let cut = &body[..body.len().min(SHOWN)];
    let dots = if body.len() > SHOWN { " ..." } else { "" };
    let summary = match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(cut)),
        Some(_) => {
            let hex: String = cut.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hex}{dots}")
        }
    };
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({summary})",
        gvk.kind
    ))
}

fn check_type_meta(
    kind: Option<&Value>,
    version: Option<&Value>,
    gvk: &GroupVersionKind,
) -> Result<(), Status> {
    let (kind, version) = (
        kind.and_then(Value::as_str).unwrap_or_default(),
        version.and_then(Value::as_str).unwrap_or_default(),
    );
    let expected = gvk.api_version();
    if !version.is_empty() && version != expected {
        let message = format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        );
        return Err(Status::bad_request(message));
    }
    if !kind.is_empty() && kind != gvk.kind {
        let group = if gvk.group.is_empty() {
            "core"
        } else {
            gvk.group.split('.').next().unwrap_or_default()
        };
        let message = format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({}.{kind}) to ({group}.{}): unknown conversion",
            gvk.version, gvk.kind, gvk.version, gvk.kind
        );
        return Err(Status::bad_request(message));
    }
    Ok(())
}
