//! The in-process [`ApiClient`]: the same chain as over HTTPS, without sockets or serialization. Objects are shared
//! with the server's caches by `Arc`.

use crate::server::ApiServer;
use async_trait::async_trait;
use orch_core::{
    Status, UserInfo,
    client::{ApiClient, ApiRequest, ApiResponse, EventStream, Upgraded},
};
use std::sync::Arc;

/// A client inside the server's process that acts as one user.
#[derive(Clone)]
pub struct LocalClient {
    server: ApiServer,
    user: Arc<UserInfo>,
}

impl LocalClient {
    /// A client of `server` that acts as `user`.
    #[must_use]
    pub fn new(server: ApiServer, user: UserInfo) -> Self {
        Self {
            server,
            user: Arc::new(user),
        }
    }

    /// A client with every right (group `system:masters`), as `system:apiserver`.
    #[must_use]
    pub fn privileged(server: ApiServer) -> Self {
        Self::new(server, UserInfo::new("system:apiserver", &["system:masters"]))
    }

    /// The server behind it.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }
}

#[async_trait]
impl ApiClient for LocalClient {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        self.server.call(&self.user, request).await
    }
    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status> {
        self.server.watch(&self.user, request).await
    }
    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status> {
        self.server.connect(&self.user, request).await
    }
}
