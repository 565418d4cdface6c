//! From a request to whoever answers it.

use super::{ApiServer, ConnectContext, RequestInfo};
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse, EventStream, Upgraded},
    status::StatusReason,
};

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
        Err(not_served())
    }

    /// A watch; see [`orch_core::ApiClient::watch`].
    ///
    /// # Errors
    /// The `Status` that the client gets instead of events.
    pub async fn watch(&self, user: &UserInfo, request: ApiRequest) -> Result<EventStream, Status> {
        let info = RequestInfo::of(&request);
        self.admit_user(user, &info, &request).await?;
        Err(not_served())
    }

    /// A protocol upgrade; see [`orch_core::ApiClient::connect`].
    ///
    /// # Errors
    /// The `Status` that the client gets instead of the upgrade.
    pub async fn connect(&self, user: &UserInfo, request: ApiRequest) -> Result<Upgraded, Status> {
        let info = RequestInfo::of(&request);
        let user = &*self.admit_user(user, &info, &request).await?;
        let endpoint = (
            info.group.clone(),
            info.resource.clone(),
            info.subresource.clone(),
        );
        let Some(handler) = self.inner.connect.get(&endpoint) else {
            return Err(not_served());
        };
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

/// The 404 of a path behind which there is nothing.
pub(super) fn not_served() -> Status {
    Status::new(
        StatusReason::NotFound,
        "the server could not find the requested resource",
    )
}
