//! `/openapi/v2` and `/openapi/v3`: documents of the served resources, made when they are first asked for.

use super::{not_found, raw};
use crate::server::{ApiServer, RawEndpoint, ResourceTable};
use async_trait::async_trait;
use http::{HeaderMap, header};
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse},
};
use orch_openapi::{Served, V2_PROTOBUF};
use parking_lot::Mutex;
use std::sync::Arc;

const JSON: &str = "application/json";

/// Serves the OpenAPI documents, and follows the resource table.
#[derive(Debug, Default)]
pub struct OpenApi {
    /// The documents, and the table's generation that they are of.
    held: Mutex<(u64, Arc<orch_openapi::OpenApi>)>,
}

impl OpenApi {
    /// Nothing is made yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn documents(&self, table: &ResourceTable) -> Arc<orch_openapi::OpenApi> {
        let mut held = self.held.lock();
        if held.0 != table.generation {
            let served = table
                .resources()
                .iter()
                .map(|r| Served {
                    resource: r.def.clone(),
                    schema: r.custom.as_ref().map(|c| c.schema.clone()),
                })
                .collect();
            *held = (table.generation, Arc::new(held.1.with(served)));
        }
        held.1.clone()
    }
}

/// Whether the client takes the protobuf form of the v2 document, before or without JSON.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let clauses = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    for clause in clauses.map(|c| c.split(';').next().unwrap_or_default().trim()) {
        if clause == V2_PROTOBUF || clause == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" {
            return true;
        }
        if matches!(clause, JSON | "*/*" | "application/*") {
            return false;
        }
    }
    false
}

#[async_trait]
impl RawEndpoint for OpenApi {
    async fn call(
        &self,
        server: &ApiServer,
        _: &UserInfo,
        request: ApiRequest,
    ) -> Result<ApiResponse, Status> {
        let documents = self.documents(&server.resources());
        match request.path.trim_end_matches('/') {
            "/openapi/v2" if wants_protobuf(&request.headers) => Ok(raw(
                "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
                documents.v2_protobuf().bytes,
            )),
            "/openapi/v2" => Ok(raw(JSON, documents.v2().bytes)),
            "/openapi/v3" => Ok(raw(JSON, documents.v3_index().bytes)),
            path => {
                let found = path.strip_prefix("/openapi/v3/").and_then(|p| documents.v3(p));
                Ok(raw(JSON, found.ok_or_else(not_found)?.bytes))
            }
        }
    }
}
