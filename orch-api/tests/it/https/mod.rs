//! The server as clients on the network see it: TLS, credentials, RBAC, discovery, encodings, streams.

mod access;
mod attack;
mod kube_client;
mod kubelet;
mod wire;

use orch_api::{
    ApiServer, ApiServerBuilder,
    frontend::{Access, Frontend, FrontendConfig},
    http::Listener,
    http_client::HttpClient,
    kubeconfig::{Kubeconfig, TokenSource},
    pki::{Pki, ServingNames},
};
use orch_core::{
    ApiClient, Env, Status,
    client::{ApiRequest, ApiResponse, ResponseBody},
    spawn::Shutdown,
};
use orch_store::MemStore;
use serde_json::Value;
use std::{future::Future, net::SocketAddr, sync::Arc};

/// A whole server on a free port of the loopback interface.
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) api: ApiServer,
    pub(crate) pki: Pki,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    /// Completes when the server has stopped.
    pub(crate) stopped: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        // The machine's clock, because TLS libraries of clients judge certificates by it.
        let env = Env::system();
        let pki = Pki::ephemeral(
            &ServingNames::api_server("cluster.local", None, &[]),
            env.clock.now(),
        )
        .unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address();
        let access = Access::standard();
        let store = Arc::new(MemStore::new(env.clone()));
        let builder = ApiServerBuilder::new(env.clone(), store, access.authorizer());
        let config = FrontendConfig::new(address.to_string());
        let shutdown = config.shutdown.clone();
        let (builder, frontend) = Frontend::equip(builder, env.clone(), &pki, &access, config).unwrap();
        let api = builder.build().await.unwrap();
        frontend.publish(&api).await.unwrap();
        frontend.publish(&api).await.unwrap();
        let server = frontend.server(&api).unwrap();
        let (tell, stopped) = tokio::sync::oneshot::channel();
        let serve = async move {
            server.serve(vec![listener]).await;
            let _ = tell.send(());
        };
        env.spawner.spawn("server", Box::pin(serve));
        Self {
            env,
            api,
            pki,
            address,
            shutdown,
            stopped: Some(stopped),
        }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn client(&self, config: &Kubeconfig) -> HttpClient {
        HttpClient::from_kubeconfig(self.env.clone(), config).unwrap()
    }

    pub(crate) fn as_user(&self, user: &str, groups: &[&str]) -> HttpClient {
        let pair = self.pki.client(user, groups, self.env.clock.now()).unwrap();
        self.client(&Kubeconfig::with_certificate(
            self.url(),
            self.pki.ca.cert_pem(),
            user,
            pair,
        ))
    }

    pub(crate) fn admin(&self) -> HttpClient {
        self.as_user("kubernetes-admin", &["system:masters"])
    }

    pub(crate) fn with_token(&self, token: &str) -> HttpClient {
        let token = TokenSource::Inline(token.to_owned());
        self.client(&Kubeconfig::with_token(
            self.url(),
            self.pki.ca.cert_pem(),
            "token",
            token,
        ))
    }

    pub(crate) fn anonymous(&self) -> HttpClient {
        let mut config = Kubeconfig::with_token(
            self.url(),
            self.pki.ca.cert_pem(),
            "-",
            TokenSource::Inline("x".into()),
        );
        config.token = None;
        self.client(&config)
    }
}

pub(crate) async fn get(client: &HttpClient, path: &str) -> Result<ApiResponse, Status> {
    client.call(ApiRequest::get(path)).await
}

pub(crate) async fn create(client: &HttpClient, path: &str, object: Value) -> Result<ApiResponse, Status> {
    client
        .call(ApiRequest::new(http::Method::POST, path).value(object))
        .await
}

pub(crate) fn text(response: ApiResponse) -> String {
    match response.body {
        ResponseBody::Raw { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
        ResponseBody::Object(object) => String::from_utf8(object.json().to_vec()).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

pub(crate) fn json(response: ApiResponse) -> Value {
    serde_json::from_str(&text(response)).unwrap()
}

/// Runs a test on a runtime of its own, with threads as in a real server.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// Asks until the answer is as wanted: changes of roles reach the authorizer through a watch.
pub(crate) async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if ask().await {
            return;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    panic!("it never came to be that {what}");
}
