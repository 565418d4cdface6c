//! From an answer to an HTTP response.

use super::{
    body::Body,
    negotiate::{Encoding, accepts_gzip},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use orch_core::{
    Object, Status,
    client::{ApiResponse, ResponseBody},
};
use serde_json::{Value, json};
use std::{collections::VecDeque, fmt::Write, sync::Arc};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Shorter bodies are not worth compressing (upstream's threshold).
const GZIP_FROM_BYTES: usize = 128 * 1024;

/// An answer as a response. `gzip` says whether the client takes it.
pub(super) fn response(
    answer: ApiResponse,
    encoding: Encoding,
    request: &HeaderMap,
    is_get: bool,
) -> Response<Body> {
    let (content_type, body) = match answer.body {
        ResponseBody::Empty => (None, Body::empty()),
        ResponseBody::Object(object) => match encoding {
            Encoding::Json => (Some(JSON), json_line(object.json())),
            Encoding::Yaml => (Some(YAML), yaml(object.value())),
        },
        ResponseBody::List {
            api_version,
            kind,
            resource_version,
            continue_token,
            remaining,
            items,
        } => {
            let mut metadata = serde_json::Map::new();
            if !resource_version.is_empty() {
                metadata.insert("resourceVersion".into(), resource_version.into());
            }
            if let Some(token) = continue_token {
                metadata.insert("continue".into(), token.into());
            }
            if let Some(remaining) = remaining {
                metadata.insert("remainingItemCount".into(), remaining.into());
            }
            match encoding {
                Encoding::Json => (Some(JSON), list(&api_version, &kind, &metadata.into(), items)),
                Encoding::Yaml => {
                    let items: Vec<&Value> = items.iter().map(|o| o.value()).collect();
                    (
                        Some(YAML),
                        yaml(
                            &json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items}),
                        ),
                    )
                }
            }
        }
        ResponseBody::Raw { content_type, bytes } => {
            let value = HeaderValue::from_str(&content_type).ok();
            (value, Body::whole(bytes))
        }
        ResponseBody::Stream { content_type, chunks } => {
            (HeaderValue::from_str(&content_type).ok(), Body::stream(chunks))
        }
    };
    let worth_it = is_get && body.len().is_some_and(|len| len > GZIP_FROM_BYTES) && accepts_gzip(request);
    let mut response = Response::new(if worth_it { body.gzip() } else { body });
    *response.status_mut() = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if worth_it {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    for text in answer.warnings {
        if let Some(value) = warning(&text) {
            headers.append(header::WARNING, value);
        }
    }
    response
}

/// The events of a watch as a response.
pub(super) fn events(events: orch_core::client::EventStream) -> Response<Body> {
    let mut response = Response::new(Body::events(events));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An error as a response.
pub(crate) fn error(status: &Status) -> Response<Body> {
    let body = serde_json::to_vec(status).unwrap_or_default();
    let mut response = Response::new(json_line(&body.into()));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    if let Some(seconds) = status
        .details
        .as_ref()
        .map(|d| d.retry_after_seconds)
        .filter(|s| *s > 0)
    {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Strong tags of documents (RFC 9110, 8.8.3). Documents are kept and shared by those who make them, so the digest of
/// each is kept too.
#[derive(Default)]
pub(super) struct EntityTags(parking_lot::Mutex<VecDeque<(Bytes, HeaderValue)>>);

impl EntityTags {
    /// So many documents are remembered.
    const HELD: usize = 64;

    pub(super) fn of(&self, document: &Bytes) -> HeaderValue {
        let same = |held: &Bytes| held.as_ptr() == document.as_ptr() && held.len() == document.len();
        if let Some((_, tag)) = self.0.lock().iter().find(|(held, _)| same(held)) {
            return tag.clone();
        }
        let tag = entity_tag(document);
        let mut held = self.0.lock();
        if held.len() >= Self::HELD {
            held.pop_front();
        }
        held.push_back((document.clone(), tag.clone()));
        tag
    }
}

fn entity_tag(bytes: &Bytes) -> HeaderValue {
    let mut tag = String::with_capacity(66);
    tag.push('"');
    for byte in ring::digest::digest(&ring::digest::SHA256, bytes).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{byte:02X}");
    }
    tag.push('"');
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// 304.
pub(super) fn not_modified(tag: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What every answer carries.
pub(super) fn common_headers(headers: &mut HeaderMap, audit_id: Option<HeaderValue>) {
    if let Some(id) = audit_id {
        headers.insert(AUDIT_ID, id);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
}

/// The client's own audit ID if it sent a sensible one.
pub(super) fn sent_audit_id(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get(AUDIT_ID)
        .filter(|v| !v.is_empty() && v.len() <= 64)
        .cloned()
}

fn json_line(json: &Bytes) -> Body {
    let mut line = BytesMut::with_capacity(json.len() + 1);
    line.put_slice(json);
    line.put_u8(b'\n');
    Body::whole(line.freeze())
}

fn list(api_version: &str, kind: &str, metadata: &Value, items: Vec<Arc<Object>>) -> Body {
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
        Value::from(kind),
        Value::from(api_version)
    );
    Body::list(head.into(), items, b"]}\n")
}

fn yaml(value: &Value) -> Body {
    Body::whole(serde_saphyr::to_string(value).unwrap_or_else(|e| format!("# {e}\n")))
}

/// `299 - "text"` (RFC 7234, 5.5), without what cannot stand in a header.
fn warning(text: &str) -> Option<HeaderValue> {
    let mut quoted = String::with_capacity(text.len() + 10);
    quoted.push_str("299 - \"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    HeaderValue::from_bytes(quoted.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        assert_eq!(warning("a \"b\"\n").unwrap(), "299 - \"a \\\"b\\\" \"");
    }
}
