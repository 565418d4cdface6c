//! The issuer's metadata and keys for other verifiers (OpenID Connect Discovery 1.0, RFC 7517).

use super::TokenAuthority;
use crate::server::{ApiServer, RawEndpoint};
use async_trait::async_trait;
use bytes::Bytes;
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse, ResponseBody},
};
use serde_json::json;
use std::sync::Arc;

/// Serves `/.well-known/openid-configuration` and `/openid/v1/jwks`.
#[derive(Debug)]
pub struct OpenIdKeys {
    configuration: Bytes,
    keys: Bytes,
}

impl OpenIdKeys {
    /// For the tokens of `authority`. `external` is host and port under which verifiers reach this server.
    #[must_use]
    pub fn new(authority: &TokenAuthority, external: &str) -> Arc<Self> {
        let configuration = json!({
            "issuer": authority.issuer,
            "jwks_uri": format!("https://{external}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let keys = json!({"keys": [authority.key.jwk()]});
        Arc::new(Self {
            configuration: configuration.to_string().into(),
            keys: keys.to_string().into(),
        })
    }
}

#[async_trait]
impl RawEndpoint for OpenIdKeys {
    async fn call(&self, _: &ApiServer, _: &UserInfo, request: ApiRequest) -> Result<ApiResponse, Status> {
        let (content_type, bytes) = if request.path == "/openid/v1/jwks" {
            ("application/jwk-set+json", self.keys.clone())
        } else {
            ("application/json", self.configuration.clone())
        };
        Ok(ApiResponse {
            code: 200,
            body: ResponseBody::Raw {
                content_type: content_type.into(),
                bytes,
            },
            warnings: Vec::new(),
        })
    }
}
