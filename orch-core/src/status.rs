//! `Status`: the only error on the wire (`meta/v1` `Status`), and what clients match on.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Machine-readable reason of a [`Status`], with upstream's names and HTTP codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum StatusReason {
    #[serde(rename = "")]
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl StatusReason {
    /// The HTTP code that goes with the reason.
    #[must_use]
    pub fn code(self) -> StatusCode {
        match self {
            Self::Unknown | Self::InternalError | Self::StoreReadError | Self::ServerTimeout => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::Conflict => StatusCode::CONFLICT,
            Self::Gone | Self::Expired => StatusCode::GONE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One cause of an `Invalid` status: a field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field, such as `spec.containers[0].image`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a [`Status`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusDetails {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource (as upstream, in most cases not the kind).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Causes, for `Invalid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds after which to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// An API error (or, rarely, success): code, reason, message, details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// Reason; [`StatusReason::Unknown`] if none applies.
    pub reason: StatusReason,
    /// For people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<StatusDetails>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Box<StatusDetails>>,
    #[serde(default)]
    code: u16,
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reason = serde_json::to_value(self.reason)
            .ok()
            .and_then(|v| v.as_str().map(String::from))
            .unwrap_or_default();
        Wire {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: serde_json::Map::new(),
            status: if self.code < 400 {
                "Success".into()
            } else {
                "Failure".into()
            },
            message: self.message.clone(),
            reason,
            details: self.details.clone(),
            code: self.code,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let reason = serde_json::from_value(wire.reason.into()).unwrap_or(StatusReason::Unknown);
        Ok(Self {
            code: wire.code,
            reason,
            message: wire.message,
            details: wire.details,
        })
    }
}

impl Status {
    /// A status of `reason` with its usual code.
    pub fn new(reason: StatusReason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code().as_u16(),
            reason,
            message: message.into(),
            details: None,
        }
    }
    /// With other details.
    #[must_use]
    pub fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }
    fn about(reason: StatusReason, resource: &crate::GroupResource, name: &str, message: String) -> Self {
        Self::new(reason, message).with_details(StatusDetails {
            name: name.into(),
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            ..StatusDetails::default()
        })
    }
    /// `pods "a" not found`
    #[must_use]
    pub fn not_found(resource: &crate::GroupResource, name: &str) -> Self {
        Self::about(
            StatusReason::NotFound,
            resource,
            name,
            format!("{resource} {name:?} not found"),
        )
    }
    /// `pods "a" already exists`
    #[must_use]
    pub fn already_exists(resource: &crate::GroupResource, name: &str) -> Self {
        Self::about(
            StatusReason::AlreadyExists,
            resource,
            name,
            format!("{resource} {name:?} already exists"),
        )
    }
    /// `Operation cannot be fulfilled on pods "a": why`
    pub fn conflict(resource: &crate::GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::about(StatusReason::Conflict, resource, name, message)
    }
    /// `pods "a" is forbidden: why`
    pub fn forbidden(resource: &crate::GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::about(StatusReason::Forbidden, resource, name, message)
    }
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusReason::BadRequest, message)
    }
    /// 500, with upstream's prefix `Internal error occurred: `.
    pub fn internal(message: impl fmt::Display) -> Self {
        let cause = StatusCause {
            message: message.to_string(),
            ..StatusCause::default()
        };
        Self::new(
            StatusReason::InternalError,
            format!("Internal error occurred: {message}"),
        )
        .with_details(StatusDetails {
            causes: vec![cause],
            ..StatusDetails::default()
        })
    }
    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(StatusReason::Unauthorized, "Unauthorized")
    }
    /// 410 `Expired`: the asked resource version is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusReason::Expired, message)
    }
    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusReason::ServiceUnavailable, message)
    }
    /// Whether this is `NotFound`.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.reason == StatusReason::NotFound
    }
    /// Whether this is `AlreadyExists`.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.reason == StatusReason::AlreadyExists
    }
    /// Whether this is `Conflict` (a lost race: read again and retry).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.reason == StatusReason::Conflict
    }
    /// Whether the asked revision is gone (list again).
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self.reason, StatusReason::Expired | StatusReason::Gone)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "status {}", self.code)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_is_upstreams() {
        let pods = crate::GroupResource {
            group: String::new(),
            resource: "pods".into(),
        };
        let s = Status::not_found(&pods, "a");
        let v = serde_json::to_value(&s).unwrap();
        assert_eq!(
            v,
            serde_json::json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
                "message":"pods \"a\" not found","reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404})
        );
        assert_eq!(serde_json::from_value::<Status>(v).unwrap(), s);
    }
}
