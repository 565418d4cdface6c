//! Where the parts beside the registry plug in: streaming subresources, virtual creations, bare paths.

use super::{ApiServer, RequestInfo};
use async_trait::async_trait;
use orch_core::{
    Object, Status, UserInfo,
    client::{ApiRequest, ApiResponse, Upgraded},
};
use serde_json::Value;
use std::sync::Arc;

/// A subresource that is not an object in the store: `pods/log`, `pods/exec`, `nodes/proxy`, `services/proxy` …
///
/// It is called after authorization and (for `connect` verbs, as upstream, a `create` or `get` of the
/// subresource) admission.
#[async_trait]
pub trait ConnectHandler: Send + Sync + 'static {
    /// A plain request and answer (log, proxy without upgrade).
    ///
    /// # Errors
    /// Whatever should reach the client.
    async fn call(&self, context: ConnectContext<'_>, request: ApiRequest) -> Result<ApiResponse, Status>;

    /// A request with `Upgrade` headers.
    ///
    /// # Errors
    /// Whatever should reach the client instead of the upgrade.
    async fn connect(&self, context: ConnectContext<'_>, request: ApiRequest) -> Result<Upgraded, Status>;
}

/// What a [`ConnectHandler`] is told of its request.
#[derive(Clone, Copy)]
pub struct ConnectContext<'a> {
    /// The server.
    pub server: &'a ApiServer,
    /// Who asks (after impersonation).
    pub user: &'a UserInfo,
    /// The request taken apart; `rest` is the path behind `proxy`.
    pub info: &'a RequestInfo,
}

/// A create-only endpoint whose answer is computed and not stored: `serviceaccounts/token`, `tokenreviews` …
#[async_trait]
pub trait CreateHandler: Send + Sync + 'static {
    /// Answers the creation of `object` (decoded, with the right `apiVersion` and `kind`, after authorization).
    ///
    /// # Errors
    /// Whatever should reach the client.
    async fn create(&self, context: ConnectContext<'_>, object: Value) -> Result<Value, Status>;
}

/// A path that is not an API resource: discovery, OpenAPI, version, health, metrics.
///
/// It is called after authorization.
#[async_trait]
pub trait RawEndpoint: Send + Sync + 'static {
    /// Answers the request.
    ///
    /// # Errors
    /// Whatever should reach the client.
    async fn call(
        &self,
        server: &ApiServer,
        user: &UserInfo,
        request: ApiRequest,
    ) -> Result<ApiResponse, Status>;
}

/// Reads the latest objects that the server knows, from its watch caches, at once and without authorization.
/// For the server's own parts: authorizers, authenticators, admission.
pub trait ObjectReader: Send + Sync + 'static {
    /// The object, if it exists. `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;
    /// All objects of a namespace (empty: of all namespaces), in key order.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>>;
    /// Revision of the last event of that resource that the watch cache has applied; 0 if it has none. Cheap: those
    /// who compile what they read (roles, the node graph) compare it on every request and rebuild only if it moved.
    fn revision(&self, group: &str, resource: &str) -> u64;
}
