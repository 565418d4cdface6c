//! Requests: create, read, replace, patch, delete.

use super::{FakeApi, merge_patch, path::Target, state::State, watch::Selection};
use crate::{
    Env, GroupResource, Object, ObjectKey, Status,
    client::{ApiRequest, ApiResponse, RequestBody, ResponseBody},
    status::{StatusCause, StatusReason},
};
use http::{Method, header};
use serde_json::{Value, json};
use std::sync::Arc;

const CHANGED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

fn ok(code: u16, body: ResponseBody) -> Result<ApiResponse, Status> {
    Ok(ApiResponse {
        code,
        body,
        warnings: Vec::new(),
    })
}

fn body(request: ApiRequest) -> Result<Value, Status> {
    match request.body {
        RequestBody::Empty => Ok(Value::Null),
        RequestBody::Value(value) => Ok(value),
        RequestBody::Bytes(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| Status::bad_request(e.to_string()))
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn deleting(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|v| !v.is_null())
}

fn is_empty_list(object: &Value, pointer: &str) -> bool {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
}

fn has_status(collection: &str) -> bool {
    !matches!(
        collection,
        "configmaps"
            | "secrets"
            | "events"
            | "endpoints"
            | "serviceaccounts"
            | "coordination.k8s.io/leases"
            | "discovery.k8s.io/endpointslices"
    )
}

/// One request in the middle of being served.
struct Call<'a> {
    env: &'a Env,
    state: &'a mut State,
    target: Target,
    collection: String,
}

impl FakeApi {
    pub(super) fn serve(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        let target = Target::parse(&request.path)?;
        let collection = target.collection();
        let mut state = self.state.lock();
        let mut call = Call {
            env: &self.env,
            state: &mut state,
            target,
            collection,
        };
        let named = !call.target.name.is_empty();
        match (request.method.clone(), named) {
            (Method::GET, true) => ok(200, ResponseBody::Object(call.existing()?)),
            (Method::GET, false) => call.list(&request),
            (Method::POST, false) => ok(201, ResponseBody::Object(call.create(body(request)?)?)),
            (Method::POST, true) => ok(201, ResponseBody::Object(call.post_subresource(&body(request)?)?)),
            (Method::PUT, true) => ok(200, ResponseBody::Object(call.replace(body(request)?)?)),
            (Method::PATCH, true) => {
                let media = request
                    .headers
                    .get(header::CONTENT_TYPE)
                    .and_then(|v| v.to_str().ok());
                let media = media.unwrap_or_default().to_owned();
                ok(200, ResponseBody::Object(call.patch(&media, &body(request)?)?))
            }
            (Method::DELETE, true) => ok(200, ResponseBody::Object(call.delete(&body(request)?)?)),
            (Method::DELETE, false) => call.delete_collection(&request),
            _ => Err(Status::new(
                StatusReason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            )),
        }
    }
}

impl Call<'_> {
    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.target.namespace.clone(), self.target.name.clone())
    }
    fn resource(&self) -> GroupResource {
        self.target.gvr.group_resource()
    }
    fn existing(&self) -> Result<Arc<Object>, Status> {
        self.state
            .get(&self.collection, &self.key())
            .ok_or_else(|| Status::not_found(&self.resource(), &self.target.name))
    }

    fn list(&self, request: &ApiRequest) -> Result<ApiResponse, Status> {
        let selection = Selection::of(&self.target, request)?;
        let limit: usize = request
            .query_value("limit")
            .and_then(|l| l.parse().ok())
            .unwrap_or(0);
        // A token is the revision of the first page and the last key given out. Later pages show the present, which
        // the real server does only once the revision is compacted.
        let (mut revision, mut after) = (self.state.revision, None);
        if let Some(token) = request.query_value("continue").filter(|t| !t.is_empty()) {
            let mut parts = token.splitn(3, '/');
            let first: Option<u64> = parts.next().and_then(|r| r.parse().ok());
            let key = parts
                .next()
                .zip(parts.next())
                .map(|(ns, name)| ObjectKey::new(ns, name));
            let (Some(first), Some(key)) = (first, key) else {
                return Err(Status::bad_request("continue key is not valid"));
            };
            if first < self.state.compacted {
                return Err(Status::expired("The provided continue parameter is too old"));
            }
            (revision, after) = (first, Some(key));
        }
        let all = self.state.collections.get(&self.collection);
        let mut items: Vec<Arc<Object>> = all
            .into_iter()
            .flat_map(|c| c.iter())
            .filter(|(k, o)| after.as_ref().is_none_or(|a| *k > a) && selection.selects(o))
            .map(|(_, o)| o.clone())
            .collect();
        let mut continue_token = None;
        let mut remaining = None;
        if limit > 0 && items.len() > limit {
            remaining = i64::try_from(items.len() - limit).ok();
            items.truncate(limit);
            continue_token = items
                .last()
                .map(|o| format!("{revision}/{}/{}", o.namespace(), o.name()));
        }
        let kind = items.first().map_or("", |o| text(o.value(), "/kind"));
        let body = ResponseBody::List {
            api_version: self.target.gvr.group_version().to_string(),
            kind: format!("{kind}List"),
            resource_version: revision.to_string(),
            continue_token,
            remaining,
            items,
        };
        ok(200, body)
    }

    fn create(&mut self, mut object: Value) -> Result<Arc<Object>, Status> {
        if !object.is_object() {
            return Err(Status::bad_request("expected an object"));
        }
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let generate = text(&object, "/metadata/generateName").to_owned();
        if text(&object, "/metadata/name").is_empty() {
            if generate.is_empty() {
                return Err(Status::new(
                    StatusReason::Invalid,
                    "name or generateName is required",
                ));
            }
            object["metadata"]["name"] = json!(format!("{generate}{}", self.env.rng.name_suffix(5)));
        }
        self.target.name = text(&object, "/metadata/name").to_owned();
        if !self.target.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(self.target.namespace);
            self.refuse_in_terminating_namespace()?;
        }
        if self.state.get(&self.collection, &self.key()).is_some() {
            return Err(Status::already_exists(&self.resource(), &self.target.name));
        }
        let meta = &mut object["metadata"];
        meta["uid"] = json!(self.env.rng.uuid());
        meta["creationTimestamp"] = json!(self.now());
        meta["generation"] = json!(1);
        if let Some(meta) = meta.as_object_mut() {
            meta.remove("deletionTimestamp");
        }
        if self.collection == "namespaces" {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        if self.collection == "pods" && object.pointer("/status/phase").is_none() {
            object["status"]["phase"] = json!("Pending");
        }
        Ok(self.state.put(&self.collection, object))
    }

    fn now(&self) -> String {
        jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", self.env.clock.now()).unwrap_or_default()
    }

    fn refuse_in_terminating_namespace(&self) -> Result<(), Status> {
        let namespace = &self.target.namespace;
        let found = self
            .state
            .get("namespaces", &ObjectKey::new("", namespace.clone()));
        if !found.is_some_and(|o| deleting(o.value())) {
            return Ok(());
        }
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(&self.resource(), &self.target.name, why);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".into(),
            });
        }
        Err(status)
    }

    fn post_subresource(&mut self, body: &Value) -> Result<Arc<Object>, Status> {
        let mut value = self.existing()?.value().clone();
        match self.target.subresource.as_str() {
            "binding" => {
                if !text(&value, "/spec/nodeName").is_empty() {
                    let why = "pod is already assigned to a node";
                    return Err(Status::conflict(&self.resource(), &self.target.name, why));
                }
                value["spec"]["nodeName"] = body.pointer("/target/name").cloned().unwrap_or_default();
                Ok(self.state.put(&self.collection, value))
            }
            "eviction" => self.delete(body.get("deleteOptions").unwrap_or(&Value::Null)),
            other => Err(Status::new(
                StatusReason::NotFound,
                format!("no subresource {other}"),
            )),
        }
    }

    fn check_identity(&self, current: &Value, new: &Value) -> Result<(), Status> {
        let (uid, version) = (text(new, "/metadata/uid"), text(new, "/metadata/resourceVersion"));
        if !uid.is_empty() && uid != text(current, "/metadata/uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                text(current, "/metadata/uid")
            );
            return Err(Status::conflict(&self.resource(), &self.target.name, why));
        }
        if !version.is_empty() && version != text(current, "/metadata/resourceVersion") {
            return Err(Status::conflict(&self.resource(), &self.target.name, CHANGED));
        }
        Ok(())
    }

    fn replace(&mut self, new: Value) -> Result<Arc<Object>, Status> {
        let current = self.existing()?;
        self.check_identity(current.value(), &new)?;
        self.write(current.value(), new)
    }

    fn patch(&mut self, media: &str, patch: &Value) -> Result<Arc<Object>, Status> {
        let current = self.existing()?;
        self.check_identity(current.value(), patch)?;
        let mut new = current.value().clone();
        match media {
            // Lists are replaced whole also in strategic patches: good enough for what tests do.
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                merge_patch(&mut new, patch);
            }
            other => {
                let why = format!("this server does not support {other}");
                return Err(Status::new(StatusReason::UnsupportedMediaType, why));
            }
        }
        self.write(current.value(), new)
    }

    /// Replaces `current` by the part of `new` that the path is about.
    fn write(&mut self, current: &Value, mut new: Value) -> Result<Arc<Object>, Status> {
        match self.target.subresource.as_str() {
            "status" => {
                let status = new.get("status").cloned();
                // As in the real server, annotations may be written along with the status.
                let annotations = new.pointer("/metadata/annotations").cloned();
                new = current.clone();
                if let Some(status) = status {
                    new["status"] = status;
                }
                if let Some(annotations) = annotations {
                    new["metadata"]["annotations"] = annotations;
                }
            }
            "finalize" => {
                let finalizers = new.pointer("/spec/finalizers").cloned();
                new = current.clone();
                new["spec"]["finalizers"] = finalizers.unwrap_or_else(|| json!([]));
            }
            _ => {
                if has_status(&self.collection)
                    && let (Some(object), Some(status)) = (new.as_object_mut(), current.get("status"))
                {
                    object.insert("status".into(), status.clone());
                }
            }
        }
        let meta = current.get("metadata").cloned().unwrap_or_default();
        for field in [
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "namespace",
            "name",
        ] {
            match meta.get(field) {
                Some(value) => new["metadata"][field] = value.clone(),
                None => drop(new["metadata"].as_object_mut().and_then(|m| m.remove(field))),
            }
        }
        if new == *current {
            return self.existing();
        }
        // A Deployment's annotations are part of what is asked of it.
        let annotated = self.collection == "apps/deployments"
            && self.target.subresource.is_empty()
            && new.pointer("/metadata/annotations") != current.pointer("/metadata/annotations");
        if annotated || desired(&new) != desired(current) {
            let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
            new["metadata"]["generation"] = json!(generation + 1);
        }
        if self.can_go(&new) {
            return Ok(self.state.remove(&self.collection, new));
        }
        Ok(self.state.put(&self.collection, new))
    }

    /// Whether nothing holds a deleted object back any more.
    fn can_go(&self, object: &Value) -> bool {
        let grace = object
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        deleting(object)
            && grace == 0
            && is_empty_list(object, "/metadata/finalizers")
            && (self.collection != "namespaces" || is_empty_list(object, "/spec/finalizers"))
    }

    fn delete(&mut self, options: &Value) -> Result<Arc<Object>, Status> {
        let current = self.existing()?;
        let preconditions = json!({"metadata": options.get("preconditions").cloned().unwrap_or_default()});
        self.check_identity(current.value(), &preconditions)?;
        let mut new = current.value().clone();
        self.propagate(&mut new, text(options, "/propagationPolicy"));
        let grace = self.grace_seconds(&new, options.get("gracePeriodSeconds").and_then(Value::as_i64));
        let old_grace = new
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64);
        if !deleting(&new) || old_grace.is_some_and(|old| grace < old) {
            let at = self
                .env
                .clock
                .now()
                .checked_add(jiff::SignedDuration::from_secs(grace));
            let at = jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", at.unwrap_or(jiff::Timestamp::MAX));
            new["metadata"]["deletionTimestamp"] = json!(at.unwrap_or_default());
            new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            if self.collection == "namespaces" {
                new["status"]["phase"] = json!("Terminating");
            }
        }
        if self.can_go(&new) {
            return Ok(self.state.remove(&self.collection, current.value().clone()));
        }
        if new == *current.value() {
            return Ok(current);
        }
        Ok(self.state.put(&self.collection, new))
    }

    fn grace_seconds(&self, object: &Value, asked: Option<i64>) -> i64 {
        if self.collection != "pods" {
            return 0;
        }
        let phase = text(object, "/status/phase");
        if text(object, "/spec/nodeName").is_empty() || matches!(phase, "Succeeded" | "Failed") {
            return 0;
        }
        let own = object
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64);
        asked.or(own).unwrap_or(30).max(0)
    }

    /// The finalizers that make the garbage collector act first.
    fn propagate(&self, object: &mut Value, policy: &str) {
        let mut finalizers: Vec<Value> = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let wanted = match policy {
            "Orphan" => Some("orphan"),
            "Foreground" => Some("foregroundDeletion"),
            "Background" => None,
            _ => return,
        };
        finalizers.retain(|f| f != "orphan" && f != "foregroundDeletion");
        finalizers.extend(wanted.map(Value::from));
        object["metadata"]["finalizers"] = Value::Array(finalizers);
    }

    fn delete_collection(&mut self, request: &ApiRequest) -> Result<ApiResponse, Status> {
        let selection = Selection::of(&self.target, request)?;
        let all = self.state.collections.get(&self.collection);
        let keys: Vec<ObjectKey> = all
            .into_iter()
            .flat_map(|c| c.iter())
            .filter(|(_, o)| selection.selects(o))
            .map(|(k, _)| k.clone())
            .collect();
        let options = match &request.body {
            RequestBody::Value(value) => value.clone(),
            _ => Value::Null,
        };
        for key in keys {
            (self.target.namespace, self.target.name) = (key.namespace, key.name);
            self.delete(&options)?;
        }
        ok(200, ResponseBody::Empty)
    }
}

/// What of an object its generation counts: everything but metadata and status.
fn desired(object: &Value) -> Value {
    let mut value = object.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("metadata");
        object.remove("status");
    }
    value
}
