//! Requests and answers as plain data; no I/O.

use crate::{object::Object, status::Status};
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use std::sync::Arc;

/// An API request. Paths and parameters are those of the HTTP API, so that both transports mean the same.
#[derive(Debug)]
pub struct ApiRequest {
    /// HTTP method.
    pub method: Method,
    /// Decoded path, such as `/api/v1/namespaces/default/pods/a/log`.
    pub path: String,
    /// Decoded query parameters in order.
    pub query: Vec<(String, String)>,
    /// Headers that matter: `Accept`, `Content-Type`, `Impersonate-*`, `Upgrade` …
    pub headers: HeaderMap,
    /// Body.
    pub body: RequestBody,
}

/// Body of a request. In-process callers pass parsed objects; HTTP passes bytes with a `Content-Type`.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// As received; the media type is in the `Content-Type` header.
    Bytes(Bytes),
    /// A parsed object (or patch document, then with the patch's `Content-Type`).
    Value(Value),
}

impl ApiRequest {
    /// A request without parameters or body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: RequestBody::Empty,
        }
    }
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }
    /// Adds a query parameter.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }
    /// Sets the body to a parsed object.
    #[must_use]
    pub fn value(mut self, value: Value) -> Self {
        self.body = RequestBody::Value(value);
        self
    }
    /// Sets a header from static text.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
    /// The first value of a query parameter.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// A patch format, as its media type names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge patch.
    Strategic,
    /// Server-side apply, the whole intent in the body.
    Apply,
}

impl PatchKind {
    /// The `Content-Type` of the format.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// A patch document with its format.
#[derive(Debug, Clone)]
pub struct Patch {
    /// The format.
    pub kind: PatchKind,
    /// The document.
    pub body: Value,
    /// For [`PatchKind::Apply`]: the field manager (required) and whether to take over conflicting fields.
    pub apply: Option<(String, bool)>,
}

impl Patch {
    /// A merge patch.
    #[must_use]
    pub fn merge(body: Value) -> Self {
        Self {
            kind: PatchKind::Merge,
            body,
            apply: None,
        }
    }
    /// A strategic merge patch.
    #[must_use]
    pub fn strategic(body: Value) -> Self {
        Self {
            kind: PatchKind::Strategic,
            body,
            apply: None,
        }
    }
    /// A JSON patch.
    #[must_use]
    pub fn json(body: Value) -> Self {
        Self {
            kind: PatchKind::Json,
            body,
            apply: None,
        }
    }
    /// A forced server-side apply by `manager`.
    pub fn apply(manager: impl Into<String>, body: Value) -> Self {
        Self {
            kind: PatchKind::Apply,
            body,
            apply: Some((manager.into(), true)),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct ApiResponse {
    /// HTTP code, below 400.
    pub code: u16,
    /// Body.
    pub body: ResponseBody,
    /// `Warning` header texts (RFC 7234 code 299).
    pub warnings: Vec<String>,
}

/// Body of an answer.
pub enum ResponseBody {
    /// None.
    Empty,
    /// One object, shared.
    Object(Arc<Object>),
    /// A collection.
    List {
        /// `apiVersion` and `kind` of the list, such as `v1` and `PodList`.
        api_version: String,
        /// Kind of the list.
        kind: String,
        /// Revision at which the list holds.
        resource_version: String,
        /// Token for the next page, if there is one.
        continue_token: Option<String>,
        /// How many more there are, if known.
        remaining: Option<i64>,
        /// The objects, shared.
        items: Vec<Arc<Object>>,
    },
    /// Anything else that is complete: text, YAML, a table, a document.
    Raw {
        /// Media type.
        content_type: String,
        /// Bytes.
        bytes: Bytes,
    },
    /// A body of unknown length: logs.
    Stream {
        /// Media type.
        content_type: String,
        /// The chunks.
        chunks: BoxStream<'static, Result<Bytes, Status>>,
    },
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Object(o) => o.fmt(f),
            Self::List { kind, items, .. } => write!(f, "{kind}[{}]", items.len()),
            Self::Raw { content_type, bytes } => write!(f, "Raw({content_type}, {} bytes)", bytes.len()),
            Self::Stream { content_type, .. } => write!(f, "Stream({content_type})"),
        }
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEventType {
    /// It was created, or began to match the selector.
    Added,
    /// It changed.
    Modified,
    /// It was deleted, or ceased to match; the object is its last state.
    Deleted,
    /// Nothing up to the object's resource version is missing.
    Bookmark,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchEventType,
    /// The object after it (before it, for `Deleted`). Shared with every other watcher.
    pub object: Arc<Object>,
}
