//! Everything around [`ApiServer`] that makes it a Kubernetes API server on the network: authorization, tokens,
//! discovery, streaming, HTTPS. Binaries and embedders wire these parts through here, in two steps:
//!
//! ```no_run
//! # use orch_api::{*, frontend::*, http::Listener, pki::{Pki, ServingNames}};
//! # async fn example(env: orch_core::Env, store: std::sync::Arc<dyn orch_store::Store>) -> Result<(), Box<dyn std::error::Error>> {
//! let names = ServingNames::api_server("cluster.local", None, &[]);
//! let pki = Pki::open("data/pki".as_ref(), &names, env.clock.now())?;
//! let listener = Listener::bind("127.0.0.1:6443".parse()?)?;
//! let access = Access::standard();
//! let builder = ApiServerBuilder::new(env.clone(), store, access.authorizer());
//! let config = FrontendConfig::new(listener.address().to_string());
//! let (builder, frontend) = Frontend::equip(builder, env, &pki, &access, config)?;
//! let api = builder.build().await?;
//! frontend.publish(&api).await?;
//! frontend.server(&api)?.serve(vec![listener]).await;
//! # Ok(()) }
//! ```

use crate::{
    ApiServer, ApiServerBuilder, LocalClient, SetupError,
    authn::{Authenticator, BearerTokens},
    authz::{
        Authorizer, Rbac, Union, escalation::RbacEscalation, node::NodeAuthorizer,
        node_restriction::NodeRestriction,
    },
    discovery::{Check, Discovery, Health, OpenApi, Version},
    http::{Dispatch, Metrics, Server, ServerParts},
    kubelet::Kubelet,
    pki::{KeyAndCert, Pki},
    tokens::{DEFAULT_ISSUER, OpenIdKeys, TokenAuthority, TokenRequests, TokenReviews},
};
use k8s_openapi::api::core::v1::ConfigMap;
use orch_core::{Api, Env, Status, client::Patch, spawn::Shutdown};
use std::sync::Arc;

/// Who may do what: the standard authorizers, Node and RBAC.
#[derive(Clone, Debug)]
pub struct Access {
    rbac: Arc<Rbac>,
    union: Arc<Union>,
}

impl Access {
    /// The Node authorizer, then RBAC.
    #[must_use]
    pub fn standard() -> Self {
        let rbac = Arc::new(Rbac::new());
        let union = Arc::new(Union::new(vec![Arc::new(NodeAuthorizer::new()), rbac.clone()]));
        Self { rbac, union }
    }

    /// What [`ApiServerBuilder::new`] takes.
    #[must_use]
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        self.union.clone()
    }
}

/// What a [`Frontend`] can be told.
pub struct FrontendConfig {
    /// Host and port under which clients reach the server.
    pub external: String,
    /// Issuer of service-account tokens.
    pub issuer: String,
    /// Audiences of the API server; empty is the issuer.
    pub audiences: Vec<String>,
    /// Further health checks.
    pub checks: Vec<Check>,
    /// Ends watches, refuses readiness and stops serving when given.
    pub shutdown: Shutdown,
}

impl FrontendConfig {
    /// Upstream's defaults for a server that clients reach under `external` (host and port).
    pub fn new(external: impl Into<String>) -> Self {
        Self {
            external: external.into(),
            issuer: DEFAULT_ISSUER.into(),
            audiences: Vec::new(),
            checks: Vec::new(),
            shutdown: Shutdown::new(),
        }
    }
}

impl std::fmt::Debug for FrontendConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrontendConfig({})", self.external)
    }
}

/// The parts in front of an [`ApiServer`] that is still to be built.
pub struct Frontend {
    env: Env,
    tokens: Arc<BearerTokens>,
    authority: Arc<TokenAuthority>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    client_ca: String,
    front_proxy_ca: String,
    serving: KeyAndCert,
}

impl std::fmt::Debug for Frontend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frontend")
    }
}

impl Frontend {
    /// Registers discovery, version, health, metrics, tokens, streaming and the admission of nodes and of RBAC
    /// objects with `builder`.
    ///
    /// # Errors
    /// [`SetupError`] if a key of `pki` cannot be used.
    pub fn equip(
        mut builder: ApiServerBuilder,
        env: Env,
        pki: &Pki,
        access: &Access,
        config: FrontendConfig,
    ) -> Result<(ApiServerBuilder, Self), SetupError> {
        let authority = TokenAuthority::new(
            env.clone(),
            &pki.service_account_key_pem,
            &config.issuer,
            config.audiences,
        )
        .map_err(SetupError::crypto("use the service-account signing key"))?;
        let authority = Arc::new(authority);
        let tokens = BearerTokens::new(env.clone(), authority.clone());
        let metrics = Metrics::new();
        let kubelet = Kubelet::new(env.clone(), pki.ca.cert_pem(), &pki.kubelet_client)?;
        for (group, resource, subresource) in Kubelet::endpoints() {
            builder = builder.connect_handler(group, resource, subresource, kubelet.clone());
        }
        let discovery = Discovery::new(config.external.clone());
        for path in ["/", "/api", "/api/*", "/apis", "/apis/*"] {
            builder = builder.raw_endpoint(path, discovery.clone());
        }
        let health = Health::new(config.shutdown.clone(), config.checks);
        for path in [
            "/healthz",
            "/healthz/*",
            "/livez",
            "/livez/*",
            "/readyz",
            "/readyz/*",
        ] {
            builder = builder.raw_endpoint(path, health.clone());
        }
        let keys = OpenIdKeys::new(&authority, &config.external);
        for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
            builder = builder.raw_endpoint(path, keys.clone());
        }
        let openapi = OpenApi::new();
        for path in ["/openapi/v2", "/openapi/v3", "/openapi/v3/*"] {
            builder = builder.raw_endpoint(path, openapi.clone());
        }
        let builder = builder
            .raw_endpoint("/version", Arc::new(Version))
            .raw_endpoint("/metrics", metrics.clone())
            .create_handler(
                "",
                "serviceaccounts",
                "token",
                Arc::new(TokenRequests(authority.clone())),
            )
            .create_handler(
                "authentication.k8s.io",
                "tokenreviews",
                "",
                Arc::new(TokenReviews(tokens.clone())),
            )
            .admission_plugin(Arc::new(NodeRestriction))
            .admission_plugin(Arc::new(RbacEscalation(access.rbac.clone())));
        let frontend = Self {
            env,
            tokens,
            authority,
            metrics,
            shutdown: config.shutdown,
            client_ca: pki.ca.cert_pem().to_owned(),
            front_proxy_ca: pki.front_proxy_ca.cert_pem().to_owned(),
            serving: pki.serving.clone(),
        };
        Ok((builder, frontend))
    }

    /// Issues and verifies service-account tokens.
    #[must_use]
    pub fn tokens(&self) -> &Arc<TokenAuthority> {
        &self.authority
    }

    /// The counters behind `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Writes `kube-system/extension-apiserver-authentication`, from which API servers that extend this one learn how
    /// to authenticate requests.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn publish(&self, api: &ApiServer) -> Result<(), Status> {
        let client = LocalClient::privileged(api.clone());
        let maps = Api::<ConfigMap>::namespaced(Arc::new(client), "kube-system");
        let data = serde_json::json!({
            "client-ca-file": self.client_ca,
            "requestheader-client-ca-file": self.front_proxy_ca,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        });
        let name = "extension-apiserver-authentication";
        match maps
            .patch(name, Patch::merge(serde_json::json!({"data": data})))
            .await
        {
            Err(e) if e.is_not_found() => {
                let map =
                    serde_json::json!({"metadata": {"name": name, "namespace": "kube-system"}, "data": data});
                let map = serde_json::from_value(map).map_err(Status::internal)?;
                maps.create(&map).await.map(drop)
            }
            result => result.map(drop),
        }
    }

    /// The HTTPS server in front of `api`, the server that the equipped builder built.
    ///
    /// # Errors
    /// [`SetupError`] if a certificate cannot be used.
    pub fn server(&self, api: &ApiServer) -> Result<Server, SetupError> {
        let authenticator = Authenticator::new(
            self.env.clock.clone(),
            &self.client_ca,
            Some(&self.front_proxy_ca),
            self.tokens.clone(),
            Arc::new(api.clone()),
        )
        .map_err(SetupError::crypto("use a CA certificate"))?;
        Server::new(ServerParts {
            dispatch: Arc::new(Dispatch::new(
                Arc::new(api.clone()),
                self.env.clone(),
                self.metrics.clone(),
                self.shutdown.clone(),
            )),
            authenticator: Arc::new(authenticator),
            serving: self.serving.clone(),
        })
    }
}
