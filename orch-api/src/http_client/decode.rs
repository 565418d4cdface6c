//! Answers of an API server as [`ApiResponse`].

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body_util::BodyStream;
use hyper::body::Incoming;
use orch_core::{
    Object, Status, StatusReason,
    client::{ApiResponse, ResponseBody},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Whether what is at `path` comes in any length and form: logs, and what pods and nodes answer.
pub(super) fn is_streamed(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    matches!(
        parts[..],
        ["api", "v1", "namespaces", _, "pods", _, "log"]
            | ["api", "v1", "namespaces", _, "pods" | "services", _, "proxy", ..]
            | ["api", "v1", "nodes", _, "proxy", ..]
    )
}

fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn warnings(headers: &HeaderMap) -> Vec<String> {
    let quoted = |v: &str| {
        // `299 agent "text"`, with backslashes before quotes and backslashes.
        let inner = v.split_once('"')?.1.rsplit_once('"')?.0;
        let mut text = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            text.push(if c == '\\' { chars.next()? } else { c });
        }
        Some(text)
    };
    let values = headers.get_all(header::WARNING).iter();
    values
        .filter_map(|v| std::str::from_utf8(v.as_bytes()).ok().and_then(quoted))
        .collect()
}

pub(super) fn streamed(parts: Parts, body: Incoming) -> ApiResponse {
    let chunks = BodyStream::new(body).filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(e) => Some(Err(Status::unavailable(format!("the stream broke off: {e}")))),
        }
    });
    let body = ResponseBody::Stream {
        content_type: content_type(&parts.headers),
        chunks: chunks.boxed(),
    };
    ApiResponse {
        code: parts.status.as_u16(),
        body,
        warnings: warnings(&parts.headers),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default, borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<i64>,
}

/// A complete answer: an object, a list, or bytes. What is not about a resource is always bytes.
pub(super) fn answer(parts: Parts, bytes: Bytes, resource: bool) -> Result<ApiResponse, Status> {
    let content_type = content_type(&parts.headers);
    let body = if bytes.is_empty() {
        ResponseBody::Empty
    } else if resource && content_type.split(';').next() == Some("application/json") {
        json(content_type, bytes)?
    } else {
        ResponseBody::Raw { content_type, bytes }
    };
    Ok(ApiResponse {
        code: parts.status.as_u16(),
        body,
        warnings: warnings(&parts.headers),
    })
}

fn json(content_type: String, bytes: Bytes) -> Result<ResponseBody, Status> {
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&bytes) else {
        // JSON, but no object of the API: a document.
        return Ok(ResponseBody::Raw { content_type, bytes });
    };
    match envelope.items {
        Some(items) if envelope.kind.ends_with("List") => {
            let kind = &envelope.kind[..envelope.kind.len() - 4];
            let items: Result<Vec<Arc<Object>>, Status> = items
                .into_iter()
                .map(|raw| item(raw.get(), &envelope.api_version, kind).map(Arc::new))
                .collect();
            Ok(ResponseBody::List {
                items: items?,
                api_version: envelope.api_version,
                kind: envelope.kind,
                resource_version: envelope.metadata.resource_version,
                continue_token: envelope.metadata.continue_token.filter(|t| !t.is_empty()),
                remaining: envelope.metadata.remaining_item_count,
            })
        }
        _ if envelope.kind.is_empty() || envelope.api_version.is_empty() || envelope.kind == "Table" => {
            Ok(ResponseBody::Raw { content_type, bytes })
        }
        _ => Ok(ResponseBody::Object(Arc::new(Object::from_json(trim(bytes))?))),
    }
}

/// Without the line end that servers put behind an object.
fn trim(mut bytes: Bytes) -> Bytes {
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.truncate(bytes.len() - 1);
    }
    bytes
}

/// An item of a list. Upstream leaves out what all items share, so it is put back.
fn item(json: &str, api_version: &str, kind: &str) -> Result<Object, Status> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        kind: String,
    }
    let known = serde_json::from_str::<Kind>(json).is_ok_and(|k| !k.kind.is_empty());
    if known || kind.is_empty() {
        return Object::from_json(Bytes::copy_from_slice(json.as_bytes()));
    }
    let rest = json
        .trim_start()
        .strip_prefix('{')
        .ok_or_else(|| Status::internal("an item of a list is no object"))?;
    let comma = if rest.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    let (kind, api_version) = (
        serde_json::Value::from(kind),
        serde_json::Value::from(api_version),
    );
    Object::from_json(format!(
        "{{\"kind\":{kind},\"apiVersion\":{api_version}{comma}{rest}"
    ))
}

/// The error in an answer with a failure code.
pub(super) fn status(code: StatusCode, retry_after: Option<u32>, bytes: &[u8]) -> Status {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let is_status = serde_json::from_slice::<Kind>(bytes).is_ok_and(|k| k.kind == "Status");
    if is_status && let Ok(mut status) = serde_json::from_slice::<Status>(bytes) {
        if status.code == 0 {
            status.code = code.as_u16();
        }
        return status;
    }
    let reason = match code.as_u16() {
        400 => StatusReason::BadRequest,
        401 => StatusReason::Unauthorized,
        403 => StatusReason::Forbidden,
        404 => StatusReason::NotFound,
        405 => StatusReason::MethodNotAllowed,
        406 => StatusReason::NotAcceptable,
        409 => StatusReason::Conflict,
        410 => StatusReason::Gone,
        413 => StatusReason::RequestEntityTooLarge,
        415 => StatusReason::UnsupportedMediaType,
        422 => StatusReason::Invalid,
        429 => StatusReason::TooManyRequests,
        503 => StatusReason::ServiceUnavailable,
        504 => StatusReason::Timeout,
        500..=599 => StatusReason::InternalError,
        _ => StatusReason::Unknown,
    };
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let mut status = Status::new(
        reason,
        if text.is_empty() {
            format!("the server answered {code}")
        } else {
            text.to_owned()
        },
    );
    status.code = code.as_u16();
    if let Some(seconds) = retry_after {
        let details = orch_core::status::StatusDetails {
            retry_after_seconds: seconds,
            ..Default::default()
        };
        status = status.with_details(details);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_get_their_kinds_back() {
        let text = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":""},
            "items":[{"metadata":{"name":"a"}},{},{"kind":"Other","apiVersion":"x/v1"}]}"#;
        let ResponseBody::List {
            items,
            resource_version,
            continue_token,
            ..
        } = json("application/json".into(), Bytes::from_static(text)).unwrap()
        else {
            panic!("not a list");
        };
        assert_eq!((resource_version.as_str(), continue_token), ("7", None));
        let kinds: Vec<_> = items
            .iter()
            .map(|i| i.value()["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["Pod", "Pod", "Other"]);
        assert_eq!(items[0].name(), "a");
    }

    #[test]
    fn failures_without_a_status_are_told_from_the_code() {
        let found = status(StatusCode::TOO_MANY_REQUESTS, Some(3), b"slow down\n");
        assert_eq!((found.code, found.message.as_str()), (429, "slow down"));
        assert_eq!(found.details.unwrap().retry_after_seconds, 3);
        let found = status(
            StatusCode::NOT_FOUND,
            None,
            br#"{"kind":"Status","reason":"NotFound","message":"m"}"#,
        );
        assert_eq!((found.code, found.is_not_found()), (404, true));
    }

    #[test]
    fn warnings_are_unquoted() {
        let mut headers = HeaderMap::new();
        headers.insert(header::WARNING, r#"299 - "a \"b\" \\c""#.parse().unwrap());
        assert_eq!(warnings(&headers), [r#"a "b" \c"#]);
    }
}
