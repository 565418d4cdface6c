//! Types on top of the transport.

use super::{ApiClient, ApiRequest, ApiResponse, Patch, PatchKind, ResponseBody, WatchEventType};
use crate::{
    object::Object,
    resource::GroupVersionResource,
    status::{Status, StatusReason},
};
use futures::{StreamExt, stream::BoxStream};
use http::{HeaderValue, Method, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{marker::PhantomData, sync::Arc};

/// A typed kind that the client can carry. Blanket-implemented for k8s-openapi's types and for users' own types
/// that implement its `Resource` and `Metadata` traits.
pub trait NamespacedOrCluster:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Coordinates of the kind's collection.
    #[must_use]
    fn gvr() -> GroupVersionResource {
        GroupVersionResource::new(Self::GROUP, Self::VERSION, Self::URL_PATH_SEGMENT)
    }
}

impl<K> NamespacedOrCluster for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What to list or watch.
#[derive(Debug, Clone, Default)]
pub struct ListParams {
    /// Label selector in its query form; empty selects all.
    pub labels: String,
    /// Field selector in its query form; empty selects all.
    pub fields: String,
    /// Page size; 0 is everything.
    pub limit: u32,
    /// Token of the next page.
    pub continue_token: String,
    /// `resourceVersion`: empty for the most recent, `0` for any.
    pub resource_version: String,
}

/// A typed page of a collection. Items are shared with the server's cache when in process.
#[derive(Debug)]
pub struct ObjectList<K> {
    /// Revision at which the page holds.
    pub resource_version: String,
    /// Token for the next page.
    pub continue_token: Option<String>,
    /// The objects.
    pub items: Vec<Arc<K>>,
}

/// One typed watch event.
#[derive(Debug, Clone)]
pub struct TypedEvent<K> {
    /// What happened.
    pub kind: WatchEventType,
    /// Resource version of the event.
    pub resource_version: String,
    /// The object; `None` for a bookmark.
    pub object: Option<Arc<K>>,
}

/// A typed watch.
pub type TypedWatch<K> = BoxStream<'static, Result<TypedEvent<K>, Status>>;

/// Typed access to one kind, in one namespace or in all.
pub struct Api<K> {
    client: Arc<dyn ApiClient>,
    namespace: Option<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: NamespacedOrCluster> Api<K> {
    /// All namespaces, or a cluster-scoped kind. Names of namespaced objects can't be resolved through it.
    pub fn all(client: Arc<dyn ApiClient>) -> Self {
        Self {
            client,
            namespace: None,
            kind: PhantomData,
        }
    }

    /// One namespace. An empty name is [`Api::all`].
    pub fn namespaced(client: Arc<dyn ApiClient>, namespace: impl Into<String>) -> Self {
        Self {
            client,
            namespace: Some(namespace.into()).filter(|n| !n.is_empty()),
            kind: PhantomData,
        }
    }

    fn collection(&self) -> String {
        K::gvr().collection_path(self.namespace.as_deref())
    }
    fn path(&self, name: &str, subresource: &str) -> String {
        let mut path = format!("{}/{name}", self.collection());
        if !subresource.is_empty() {
            path.push('/');
            path.push_str(subresource);
        }
        path
    }
    async fn object(&self, request: ApiRequest) -> Result<Arc<K>, Status> {
        self.client.call(request).await?.into_object()?.typed()
    }

    /// Reads the object's latest state.
    ///
    /// # Errors
    /// `NotFound` and whatever the server says.
    pub async fn get(&self, name: &str) -> Result<Arc<K>, Status> {
        self.object(ApiRequest::get(self.path(name, ""))).await
    }

    /// Like [`Api::get`], with absence as `None`.
    ///
    /// # Errors
    /// Whatever the server says, but for `NotFound`.
    pub async fn get_opt(&self, name: &str) -> Result<Option<Arc<K>>, Status> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates the object and returns it as stored.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid` and whatever the server says.
    pub async fn create(&self, object: &K) -> Result<Arc<K>, Status> {
        self.object(ApiRequest::new(Method::POST, self.collection()).value(to_value(object)?))
            .await
    }

    /// Creates through a subresource (`binding`, `eviction`, `token`) and returns the server's answer.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn create_subresource(
        &self,
        name: &str,
        subresource: &str,
        body: Value,
    ) -> Result<Arc<Object>, Status> {
        let request = ApiRequest::new(Method::POST, self.path(name, subresource)).value(body);
        self.client.call(request).await?.into_object()
    }

    /// Replaces the object, if its `resourceVersion` is still the one given.
    ///
    /// # Errors
    /// `Conflict` when it changed meanwhile.
    pub async fn replace(&self, object: &K) -> Result<Arc<K>, Status> {
        self.replace_at(object, "").await
    }

    /// Replaces the object's status, if its `resourceVersion` is still the one given.
    ///
    /// # Errors
    /// `Conflict` when it changed meanwhile.
    pub async fn replace_status(&self, object: &K) -> Result<Arc<K>, Status> {
        self.replace_at(object, "status").await
    }

    async fn replace_at(&self, object: &K, subresource: &str) -> Result<Arc<K>, Status> {
        let name = object.metadata().name.clone().unwrap_or_default();
        self.object(ApiRequest::new(Method::PUT, self.path(&name, subresource)).value(to_value(object)?))
            .await
    }

    /// Patches the object.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn patch(&self, name: &str, patch: Patch) -> Result<Arc<K>, Status> {
        self.patch_subresource(name, "", patch).await
    }

    /// Patches a subresource of the object; `status` for its status.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn patch_subresource(
        &self,
        name: &str,
        subresource: &str,
        patch: Patch,
    ) -> Result<Arc<K>, Status> {
        let mut request = ApiRequest::new(Method::PATCH, self.path(name, subresource)).value(patch.body);
        request.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(patch.kind.media_type()),
        );
        if let Some((manager, force)) = patch.apply.filter(|_| patch.kind == PatchKind::Apply) {
            request = request
                .param("fieldManager", manager)
                .param("force", force.to_string());
        }
        self.object(request).await
    }

    /// Deletes the object. `options` is a `meta/v1` `DeleteOptions` object or null.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` on a failed precondition, and whatever the server says.
    pub async fn delete(&self, name: &str, options: Value) -> Result<(), Status> {
        let mut request = ApiRequest::new(Method::DELETE, self.path(name, ""));
        if !options.is_null() {
            request = request.value(options);
        }
        self.client.call(request).await.map(drop)
    }

    /// Deletes the object if its UID is still `uid`, with a propagation policy (`Background`, `Foreground`, `Orphan`).
    ///
    /// # Errors
    /// As [`Api::delete`].
    pub async fn delete_uid(&self, name: &str, uid: &str, propagation: &str) -> Result<(), Status> {
        self.delete(
            name,
            json!({"preconditions": {"uid": uid}, "propagationPolicy": propagation}),
        )
        .await
    }

    /// Lists a page.
    ///
    /// # Errors
    /// `Expired` for a continue token whose revision is gone, and whatever the server says.
    pub async fn list(&self, params: &ListParams) -> Result<ObjectList<K>, Status> {
        let response = self
            .client
            .call(params.apply(ApiRequest::get(self.collection())))
            .await?;
        response.into_list()
    }

    /// Watches from a resource version (exclusive), with bookmarks.
    ///
    /// # Errors
    /// `Expired` when the revision is gone, and whatever the server says.
    pub async fn watch(&self, params: &ListParams) -> Result<TypedWatch<K>, Status> {
        let request = params
            .apply(ApiRequest::get(self.collection()))
            .param("watch", "true");
        let events = self
            .client
            .watch(request.param("allowWatchBookmarks", "true"))
            .await?;
        Ok(events
            .map(|event| {
                let event = event?;
                let object = match event.kind {
                    WatchEventType::Bookmark => None,
                    _ => Some(event.object.typed()?),
                };
                let resource_version = event.object.resource_version().to_owned();
                Ok(TypedEvent {
                    kind: event.kind,
                    resource_version,
                    object,
                })
            })
            .boxed())
    }
}

impl ListParams {
    fn apply(&self, mut request: ApiRequest) -> ApiRequest {
        let limit = if self.limit == 0 {
            String::new()
        } else {
            self.limit.to_string()
        };
        for (name, value) in [
            ("labelSelector", &self.labels),
            ("fieldSelector", &self.fields),
            ("limit", &limit),
            ("continue", &self.continue_token),
            ("resourceVersion", &self.resource_version),
        ] {
            if !value.is_empty() {
                request = request.param(name, value);
            }
        }
        request
    }
}

fn to_value<K: Serialize>(object: &K) -> Result<Value, Status> {
    serde_json::to_value(object).map_err(|e| Status::internal(e.to_string()))
}

impl ApiResponse {
    /// The single object of the answer.
    ///
    /// # Errors
    /// `InternalError` if the answer is something else.
    pub fn into_object(self) -> Result<Arc<Object>, Status> {
        match self.body {
            ResponseBody::Object(object) => Ok(object),
            ResponseBody::Raw { bytes, .. } => Object::from_json(bytes).map(Arc::new),
            other => Err(Status::new(
                StatusReason::InternalError,
                format!("expected an object, got {other:?}"),
            )),
        }
    }

    /// The typed collection of the answer.
    ///
    /// # Errors
    /// `InternalError` if the answer is something else.
    pub fn into_list<K: DeserializeOwned + Send + Sync + 'static>(self) -> Result<ObjectList<K>, Status> {
        match self.body {
            ResponseBody::List {
                resource_version,
                continue_token,
                items,
                ..
            } => Ok(ObjectList {
                resource_version,
                continue_token,
                items: items.iter().map(|o| o.typed()).collect::<Result<_, _>>()?,
            }),
            other => Err(Status::new(
                StatusReason::InternalError,
                format!("expected a list, got {other:?}"),
            )),
        }
    }
}
