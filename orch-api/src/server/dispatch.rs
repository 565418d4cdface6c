//! From a request to whoever answers it.

use super::{ApiServer, ConnectContext, Endpoint, RequestInfo, ServedResource};
use crate::{
    admission::{Attributes, Operation},
    registry::{
        Scope, body,
        options::{DeleteOptions, ListOptions, WriteOptions},
        output::Shape,
    },
};
use orch_core::{
    Object, Status, UserInfo,
    client::{ApiRequest, ApiResponse, EventStream, ResponseBody, Upgraded},
    status::StatusReason,
};
use serde_json::Value;
use std::sync::Arc;

/// Subresources that are a view on the object itself, in its own kind.
const VIEWS: [&str; 5] = ["status", "finalize", "approval", "ephemeralcontainers", "resize"];

impl ApiServer {
    /// One request, one answer; see [`orch_core::ApiClient::call`].
    ///
    /// # Errors
    /// The `Status` that the client gets.
    pub async fn call(&self, user: &UserInfo, request: ApiRequest) -> Result<ApiResponse, Status> {
        let info = RequestInfo::of(&request);
        let user = &*self.admit_user(user, &info, &request).await?;
        if !info.resource_request || info.resource.is_empty() {
            return self.raw(user, request).await;
        }
        let Some((served, resource)) = self.resource(&info.group, &info.version, &info.resource) else {
            return self.raw(user, request).await;
        };
        check_path(&served, &info)?;
        let endpoint: Endpoint = (
            info.group.clone(),
            info.resource.clone(),
            info.subresource.clone(),
        );
        if !info.subresource.is_empty()
            && let Some(handler) = self.inner.connect.get(&endpoint)
        {
            self.admit_connect(user, &info, &served).await?;
            return handler
                .call(
                    ConnectContext {
                        server: self,
                        user,
                        info: &info,
                    },
                    request,
                )
                .await;
        }
        if info.verb == "create"
            && let Some(handler) = self.inner.create.get(&endpoint)
        {
            return self.computed(user, &info, &served, &**handler, request).await;
        }
        let Some(resource) = resource else {
            return Err(not_served());
        };
        let scope = Scope::new(self, user, &info, resource, &request);
        if info.subresource.is_empty() {
            return scope.answer(request).await;
        }
        let Some(sub) = served.subresource(&info.subresource) else {
            return Err(not_served());
        };
        if !sub.verbs.contains(&info.verb) {
            return Err(method_not_allowed());
        }
        if VIEWS.contains(&sub.name.as_str()) {
            scope.answer(request).await
        } else {
            scope.answer_subresource(request).await
        }
    }

    /// A watch; see [`orch_core::ApiClient::watch`].
    ///
    /// # Errors
    /// The `Status` that the client gets instead of events.
    pub async fn watch(&self, user: &UserInfo, request: ApiRequest) -> Result<EventStream, Status> {
        let info = RequestInfo::of(&request);
        let user = &*self.admit_user(user, &info, &request).await?;
        let Some((served, Some(resource))) = self.resource(&info.group, &info.version, &info.resource) else {
            return Err(not_served());
        };
        check_path(&served, &info)?;
        if info.verb != "watch" || !info.subresource.is_empty() || !served.has_verb("watch") {
            return Err(method_not_allowed());
        }
        let shape = Shape::of(&request)?;
        let options = ListOptions::of(&request, true)?;
        Scope::new(self, user, &info, resource, &request)
            .watch(&options, shape)
            .await
    }

    /// A protocol upgrade; see [`orch_core::ApiClient::connect`].
    ///
    /// # Errors
    /// The `Status` that the client gets instead of the upgrade.
    pub async fn connect(&self, user: &UserInfo, request: ApiRequest) -> Result<Upgraded, Status> {
        let info = RequestInfo::of(&request);
        let user = &*self.admit_user(user, &info, &request).await?;
        let Some((served, _)) = self.resource(&info.group, &info.version, &info.resource) else {
            return Err(not_served());
        };
        check_path(&served, &info)?;
        let endpoint = (
            info.group.clone(),
            info.resource.clone(),
            info.subresource.clone(),
        );
        let Some(handler) = self.inner.connect.get(&endpoint) else {
            return Err(not_served());
        };
        self.admit_connect(user, &info, &served).await?;
        handler
            .connect(
                ConnectContext {
                    server: self,
                    user,
                    info: &info,
                },
                request,
            )
            .await
    }

    async fn admit_connect(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        served: &ServedResource,
    ) -> Result<(), Status> {
        let gvk = served.gvk();
        let attributes = Attributes {
            operation: Operation::Connect,
            resource: &served.gvr,
            kind: &gvk,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            user,
            dry_run: false,
            old: None,
            warnings: &Collected::default(),
        };
        self.inner.admission.validate(self, &attributes, None).await
    }

    /// A creation whose answer is computed.
    async fn computed(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        served: &Arc<ServedResource>,
        handler: &dyn super::CreateHandler,
        mut request: ApiRequest,
    ) -> Result<ApiResponse, Status> {
        let gvk = served
            .subresource(&info.subresource)
            .map_or_else(|| served.gvk(), |s| s.gvk.clone());
        let options = WriteOptions::of(&request, "CreateOptions", None)?;
        let ty = orch_kinds::schema::builtin(&gvk).unwrap_or_else(orch_kinds::schema::untyped);
        let body = body::take(&mut request)?;
        let (mut object, strict) = body::decode(body, &gvk, &ty)?;
        let mut warnings = body::strict_warnings(strict, options.validation, &gvk)?;
        let collected = Collected::default();
        let attributes = Attributes {
            operation: Operation::Create,
            resource: &served.gvr,
            kind: &gvk,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            user,
            dry_run: options.dry_run,
            old: None,
            warnings: &collected,
        };
        self.inner
            .admission
            .mutate(self, &attributes, &mut object)
            .await?;
        self.inner
            .admission
            .validate(self, &attributes, Some(&object))
            .await?;
        warnings.append(&mut collected.0.lock());
        let answer = handler
            .create(
                ConnectContext {
                    server: self,
                    user,
                    info,
                },
                object,
            )
            .await?;
        let body = ResponseBody::Object(Arc::new(Object::from_value(answer)));
        Ok(ApiResponse {
            code: 201,
            body,
            warnings,
        })
    }

    async fn raw(&self, user: &UserInfo, request: ApiRequest) -> Result<ApiResponse, Status> {
        let path = request.path.as_str();
        let matching = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path.trim_end_matches('/') == pattern.trim_end_matches('/'),
        };
        match self.inner.raw.iter().find(|(pattern, _)| matching(pattern)) {
            Some((_, endpoint)) => endpoint.clone().call(self, user, request).await,
            None => Err(not_served()),
        }
    }
}

impl Scope<'_> {
    /// The generic verbs, on an object or a view of it.
    async fn answer(&self, mut request: ApiRequest) -> Result<ApiResponse, Status> {
        let shape = Shape::of(&request)?;
        let view = !self.info.subresource.is_empty();
        let served = &self.resource.served;
        let verb = self.info.verb.as_str();
        if !view && !served.has_verb(verb) {
            return Err(method_not_allowed());
        }
        let needs_namespace = served.namespaced && self.info.namespace.is_empty();
        if matches!(verb, "update" | "patch") && self.info.name.is_empty() {
            return Err(method_not_allowed());
        }
        match verb {
            "get" => {
                let version = request.query_value("resourceVersion").unwrap_or_default();
                let object = self.get(&self.info.name, version).await?;
                Ok(self.respond(200, object, shape))
            }
            "list" => {
                let listing = self.list(&ListOptions::of(&request, false)?).await?;
                Ok(self.respond_list(listing, shape))
            }
            "create" if !view && self.info.name.is_empty() && !needs_namespace => {
                let options = WriteOptions::of(&request, "CreateOptions", None)?;
                let object = self.create(body::take(&mut request)?, &options).await?;
                Ok(self.respond(201, object, shape))
            }
            "update" => {
                let options = WriteOptions::of(&request, "UpdateOptions", None)?;
                let updated = self.replace(body::take(&mut request)?, &options).await?;
                Ok(self.respond(if updated.created { 201 } else { 200 }, updated.object, shape))
            }
            "patch" => {
                let updated = self.patch(&mut request).await?;
                Ok(self.respond(if updated.created { 201 } else { 200 }, updated.object, shape))
            }
            "delete" if !view => {
                let options = delete_options(&mut request)?;
                let deleted = self.delete(&self.info.name, &options).await?;
                let accepted = !deleted.gone && options.orphan == Some(false);
                Ok(self.respond(if accepted { 202 } else { 200 }, deleted.object, shape))
            }
            "deletecollection" if !view && !needs_namespace => {
                let list = ListOptions::of(&request, false)?;
                let options = delete_options(&mut request)?;
                let listing = self.delete_collection(&list, &options).await?;
                Ok(self.respond_list(listing, shape))
            }
            _ => Err(method_not_allowed()),
        }
    }
}

fn delete_options(request: &mut ApiRequest) -> Result<DeleteOptions, Status> {
    let document: Option<Value> = match body::take(request)? {
        body::Body::Empty => None,
        body::Body::Value(value) => Some(value),
        body::Body::Json(bytes) => {
            Some(serde_json::from_slice(&bytes).map_err(|e| Status::bad_request(e.to_string()))?)
        }
    };
    DeleteOptions::of(request, document.as_ref())
}

/// A cluster-scoped resource has no path below a namespace, a namespaced object none outside.
fn check_path(served: &ServedResource, info: &RequestInfo) -> Result<(), Status> {
    let is_namespaces = served.gvr.group.is_empty() && served.gvr.resource == "namespaces";
    let wrong = if served.namespaced {
        info.namespace.is_empty() && !info.path_name().is_empty()
    } else {
        !info.namespace.is_empty() && !is_namespaces
    };
    if wrong { Err(not_served()) } else { Ok(()) }
}

#[derive(Default)]
struct Collected(parking_lot::Mutex<Vec<String>>);

impl crate::admission::Warnings for Collected {
    fn warn(&self, text: String) {
        self.0.lock().push(text);
    }
}

/// The 404 of a path behind which there is nothing.
pub(crate) fn not_served() -> Status {
    Status::new(
        StatusReason::NotFound,
        "the server could not find the requested resource",
    )
}

/// The 405 of a path that has other methods.
pub(crate) fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(StatusReason::MethodNotAllowed, message)
}

impl Scope<'_> {
    /// Called after each stored write: `old` and `new` as far as they exist.
    pub(crate) fn written(&self, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) {
        if let (Some(old), None) = (old, new) {
            self.release(old.value());
        }
    }
}
