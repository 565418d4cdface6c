//! In which form answers go out: whole objects, metadata only, or a table for people.

use super::{Resource, Scope, list::Listing};
use http::header;
use orch_core::{
    Env, Object, Status,
    client::{ApiRequest, ApiResponse, ResponseBody},
    status::StatusReason,
};
use serde_json::{Value, json};
use std::sync::Arc;

const JSON: &str = "application/json";

/// What a table row says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object.
    Object,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`.
    Table(Include),
}

impl Shape {
    /// The first form in the `Accept` header that can be served.
    pub(crate) fn of(request: &ApiRequest) -> Result<Self, Status> {
        let accept = request
            .headers
            .get(header::ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("*/*");
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(
                media,
                "*/*" | "application/*" | "application/json" | "application/yaml" | ""
            ) {
                continue;
            }
            let (mut kind, mut group, mut version) = ("", "", "");
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("as", v)) => kind = v,
                    Some(("g", v)) => group = v,
                    Some(("v", v)) => version = v,
                    _ => {}
                }
            }
            let meta = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
            match kind {
                "" => return Ok(Self::Object),
                "Table" if meta => return Ok(Self::Table(include(request)?)),
                "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => return Ok(Self::Metadata),
                _ => {}
            }
        }
        let message = "only the following media types are accepted: application/json, application/yaml";
        Err(Status::new(StatusReason::NotAcceptable, message))
    }

    /// One object in this form.
    pub(crate) fn object(self, resource: &Resource, object: Arc<Object>, env: &Env) -> Arc<Object> {
        match self {
            Self::Object => object,
            Self::Metadata => Arc::new(Object::from_value(partial(&object))),
            Self::Table(include) => {
                let version = object.resource_version().to_owned();
                let table = table(
                    resource,
                    &[object],
                    include,
                    env,
                    json!({"resourceVersion": version}),
                );
                Arc::new(Object::from_value(table))
            }
        }
    }

    /// A bookmark in this form.
    pub(crate) fn bookmark(self, resource: &Resource, metadata: Value) -> Arc<Object> {
        let (version, kind) = match self {
            Self::Object => (resource.gvk.api_version(), resource.gvk.kind.as_str()),
            Self::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata"),
            Self::Table(_) => {
                let row = json!({"cells": [], "object": {"kind": resource.gvk.kind, "apiVersion": resource.gvk.api_version(), "metadata": metadata}});
                let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": metadata["resourceVersion"]}, "columnDefinitions": [], "rows": [row]});
                return Arc::new(Object::from_value(table));
            }
        };
        Arc::new(Object::from_value(
            json!({"kind": kind, "apiVersion": version, "metadata": metadata}),
        ))
    }
}

fn include(request: &ApiRequest) -> Result<Include, Status> {
    match request.query_value("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::None),
        "Object" => Ok(Include::Object),
        other => {
            let message = format!(
                "includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            );
            Err(Status::bad_request(message))
        }
    }
}

/// The metadata of an object as `PartialObjectMetadata`.
fn partial(object: &Object) -> Value {
    let metadata = object
        .value()
        .get("metadata")
        .cloned()
        .unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn table(
    resource: &Resource,
    objects: &[Arc<Object>],
    include: Include,
    env: &Env,
    metadata: Value,
) -> Value {
    let (columns, mut rows) = resource.strategy.table(objects, env.clock.now());
    for (row, object) in rows.iter_mut().zip(objects) {
        row["object"] = match include {
            Include::None => continue,
            Include::Metadata => partial(object),
            Include::Object => object.value().clone(),
        };
    }
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows})
}

impl Scope<'_> {
    /// The answer with one object.
    pub(crate) fn respond(&self, code: u16, object: Arc<Object>, shape: Shape) -> ApiResponse {
        // A `Status` in place of an object goes out as it is.
        let is_status = object.value().get("kind").and_then(Value::as_str) == Some("Status");
        let object = if is_status {
            object
        } else {
            shape.object(&self.resource, object, self.env())
        };
        ApiResponse {
            code,
            body: ResponseBody::Object(object),
            warnings: self.take_warnings(),
        }
    }

    /// The answer with a list.
    pub(crate) fn respond_list(&self, listing: Listing, shape: Shape) -> ApiResponse {
        let resource = &self.resource;
        let body = match shape {
            Shape::Object => ResponseBody::List {
                api_version: resource.gvk.api_version(),
                kind: resource.served.list_kind.clone(),
                resource_version: listing.revision.to_string(),
                continue_token: listing.continue_token,
                remaining: listing.remaining,
                items: listing.items,
            },
            Shape::Metadata => {
                let items: Vec<Value> = listing.items.iter().map(|o| partial(o)).collect();
                raw(
                    &json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": list_metadata(&listing), "items": items}),
                )
            }
            Shape::Table(include) => raw(&table(
                resource,
                &listing.items,
                include,
                self.env(),
                list_metadata(&listing),
            )),
        };
        ApiResponse {
            code: 200,
            body,
            warnings: self.take_warnings(),
        }
    }
}

fn raw(value: &Value) -> ResponseBody {
    ResponseBody::Raw {
        content_type: JSON.into(),
        bytes: serde_json::to_vec(value).unwrap_or_default().into(),
    }
}

fn list_metadata(listing: &Listing) -> Value {
    let mut metadata = json!({"resourceVersion": listing.revision.to_string()});
    if let Some(token) = &listing.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = listing.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}
