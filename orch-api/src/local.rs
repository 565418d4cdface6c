//! The in-process [`ApiClient`]: the same chain as over HTTPS, without sockets or serialization. Objects are shared
//! with the server's caches by `Arc`.

use crate::server::ApiServer;
use async_trait::async_trait;
use http::{HeaderValue, header};
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
    user_agent: HeaderValue,
}

impl LocalClient {
    /// A client of `server` that acts as `user`.
    #[must_use]
    pub fn new(server: ApiServer, user: UserInfo) -> Self {
        Self {
            server,
            user_agent: user_agent(&user.username),
            user: Arc::new(user),
        }
    }

    /// A client with every right (group `system:masters`), as `system:apiserver`.
    #[must_use]
    pub fn privileged(server: ApiServer) -> Self {
        Self::new(server, UserInfo::new("system:apiserver", &["system:masters"]))
    }

    fn introduced(&self, mut request: ApiRequest) -> ApiRequest {
        let headers = &mut request.headers;
        if !headers.contains_key(header::USER_AGENT) {
            headers.insert(header::USER_AGENT, self.user_agent.clone());
        }
        request
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
        self.server.call(&self.user, self.introduced(request)).await
    }
    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status> {
        self.server.watch(&self.user, self.introduced(request)).await
    }
    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status> {
        self.server.connect(&self.user, self.introduced(request)).await
    }
}

/// What a component calls itself. Its first word owns the fields that it writes, so the parts of a cluster have
/// upstream's names there; tools that leave out fields of, say, `kube-controller-manager` look for them.
pub(crate) fn user_agent(user: &str) -> HeaderValue {
    let product = match user.strip_prefix("system:") {
        Some("apiserver") => "kube-apiserver",
        Some(node) if node.starts_with("node:") => "kubelet",
        Some(component) if !component.contains(':') => component,
        _ => "orch",
    };
    let text = format!("{product}/{} ({user})", env!("CARGO_PKG_VERSION"));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("orch"))
}

#[cfg(test)]
mod tests {
    use super::user_agent;

    #[test]
    fn components_have_upstreams_names() {
        for (user, product) in [
            ("system:apiserver", "kube-apiserver"),
            ("system:kube-controller-manager", "kube-controller-manager"),
            ("system:kube-scheduler", "kube-scheduler"),
            ("system:node:a", "kubelet"),
            ("system:serviceaccount:a:b", "orch"),
            ("kubernetes-admin", "orch"),
            ("a\nb", "orch"),
        ] {
            let value = user_agent(user);
            let text = value.to_str().unwrap();
            assert_eq!(text.split('/').next(), Some(product), "{user:?}");
        }
    }
}
