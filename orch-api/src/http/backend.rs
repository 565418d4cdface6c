//! What the HTTP front needs of the server behind it.

use crate::server::ApiServer;
use async_trait::async_trait;
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse, EventStream, Upgraded},
};

/// Answers authenticated requests; [`ApiServer`] is the implementation, tests have others.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// One request, one answer.
    ///
    /// # Errors
    /// What the client gets instead.
    async fn call(&self, user: &UserInfo, request: ApiRequest) -> Result<ApiResponse, Status>;
    /// A watch.
    ///
    /// # Errors
    /// What the client gets instead.
    async fn watch(&self, user: &UserInfo, request: ApiRequest) -> Result<EventStream, Status>;
    /// A protocol upgrade.
    ///
    /// # Errors
    /// What the client gets instead.
    async fn connect(&self, user: &UserInfo, request: ApiRequest) -> Result<Upgraded, Status>;
}

#[async_trait]
impl Backend for ApiServer {
    async fn call(&self, user: &UserInfo, request: ApiRequest) -> Result<ApiResponse, Status> {
        Self::call(self, user, request).await
    }
    async fn watch(&self, user: &UserInfo, request: ApiRequest) -> Result<EventStream, Status> {
        Self::watch(self, user, request).await
    }
    async fn connect(&self, user: &UserInfo, request: ApiRequest) -> Result<Upgraded, Status> {
        Self::connect(self, user, request).await
    }
}
