//! `TokenReview`: says whom a bearer token stands for.

use crate::{
    authn::BearerTokens,
    server::{ConnectContext, CreateHandler},
};
use async_trait::async_trait;
use orch_core::Status;
use serde_json::{Value, json};
use std::sync::Arc;

/// Handler of `tokenreviews` (`authentication.k8s.io/v1`).
#[derive(Debug)]
pub struct TokenReviews(pub Arc<BearerTokens>);

#[async_trait]
impl CreateHandler for TokenReviews {
    async fn create(&self, context: ConnectContext<'_>, mut object: Value) -> Result<Value, Status> {
        let token = object
            .pointer("/spec/token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let audiences: Vec<String> = object
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .map(|a| a.iter().filter_map(|v| v.as_str().map(Into::into)).collect())
            .unwrap_or_default();
        let status = match self.0.authenticate(context.server, token, &audiences).await {
            Ok(verified) => {
                json!({"authenticated": true, "user": *verified.user, "audiences": verified.audiences})
            }
            Err(error) => json!({"authenticated": false, "user": {}, "error": error}),
        };
        object["status"] = status;
        Ok(object)
    }
}
