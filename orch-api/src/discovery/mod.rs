//! What a client learns before it asks for objects: served groups and resources, version, health, OpenAPI.
//!
//! | path | endpoint |
//! |---|---|
//! | `/` | [`Discovery`]: the paths there are |
//! | `/api`, `/apis`, `/api/v1`, `/apis/G`, `/apis/G/V` | [`Discovery`], in the old form and as `APIGroupDiscoveryList` |
//! | `/version` | [`Version`] |
//! | `/healthz`, `/livez`, `/readyz` and below | [`Health`] |
//! | `/openapi/v2`, `/openapi/v3`, `/openapi/v3/…` | [`OpenApi`] |

mod aggregated;
mod health;
mod legacy;
mod openapi;
mod version;

pub use health::{Check, Health};
pub use openapi::OpenApi;
pub use version::{GIT_VERSION, Version};

use crate::server::{ApiServer, RawEndpoint, ResourceTable};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use orch_core::{
    Status, StatusReason, UserInfo,
    client::{ApiRequest, ApiResponse, ResponseBody},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// Media type of the aggregated form.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Documents of one generation of the resource table, by path and form.
#[derive(Default)]
struct Documents {
    generation: u64,
    made: BTreeMap<(String, bool), Bytes>,
}

/// Groups, versions and resources.
pub struct Discovery {
    address: String,
    documents: Mutex<Documents>,
}

impl Discovery {
    /// `address` is host and port to which `/api` refers clients.
    pub fn new(address: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            address: address.into(),
            documents: Mutex::default(),
        })
    }

    /// Answers a discovery path.
    ///
    /// # Errors
    /// `NotFound` if nothing is served there, `MethodNotAllowed` for anything but GET.
    pub fn respond(&self, table: &ResourceTable, request: &ApiRequest) -> Result<ApiResponse, Status> {
        // Below the resource list of a version nothing is a document; what is not served there has no methods either.
        let is_apis = request.path.starts_with("/apis");
        let depth = request.path.split('/').filter(|part| !part.is_empty()).count();
        if depth > if is_apis { 3 } else { 2 } {
            return Err(not_found());
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return Err(Status::new(
                StatusReason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
        let path = request.path.trim_end_matches('/');
        let aggregated = matches!(path, "/api" | "/apis") && wants_aggregated(&request.headers);
        let key = (path.to_owned(), aggregated);
        let held = {
            let documents = self.documents.lock();
            (documents.generation == table.generation)
                .then(|| documents.made.get(&key).cloned())
                .flatten()
        };
        let bytes = match held {
            Some(bytes) => bytes,
            None => {
                let made = if aggregated {
                    Some(aggregated::list(table, path == "/api"))
                } else {
                    legacy::document(table, path, &self.address)
                };
                let made: Bytes = made.ok_or_else(not_found)?.to_string().into();
                let mut documents = self.documents.lock();
                if documents.generation != table.generation {
                    *documents = Documents {
                        generation: table.generation,
                        made: BTreeMap::new(),
                    };
                }
                documents.made.insert(key, made.clone());
                made
            }
        };
        Ok(raw(
            if aggregated {
                AGGREGATED
            } else {
                "application/json"
            },
            bytes,
        ))
    }
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Discovery")
    }
}

#[async_trait]
impl RawEndpoint for Discovery {
    async fn call(
        &self,
        server: &ApiServer,
        _: &UserInfo,
        request: ApiRequest,
    ) -> Result<ApiResponse, Status> {
        self.respond(&server.resources(), &request)
    }
}

fn not_found() -> Status {
    Status::new(
        StatusReason::NotFound,
        "the server could not find the requested resource",
    )
}

fn raw(content_type: &str, bytes: impl Into<Bytes>) -> ApiResponse {
    let body = ResponseBody::Raw {
        content_type: content_type.into(),
        bytes: bytes.into(),
    };
    ApiResponse {
        code: 200,
        body,
        warnings: Vec::new(),
    }
}

/// Whether the first clause of `Accept` that is served here asks for the aggregated form.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    let clauses = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    for clause in clauses {
        let mut parts = clause.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "*/*" | "application/*")) {
            continue;
        }
        let parameter = |name: &str| {
            clause
                .split(';')
                .filter_map(|p| p.trim().split_once('='))
                .find(|(n, _)| *n == name)
        };
        match parameter("as").map(|(_, v)| v) {
            None => return false,
            Some("APIGroupDiscoveryList") if parameter("v").map(|(_, v)| v) == Some("v2") => return true,
            Some(_) => {}
        }
    }
    false
}
