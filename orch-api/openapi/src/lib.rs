//! OpenAPI documents of the served resources, v2 and v3, as `kubectl` and other clients ask for them.
//!
//! ```text
//! OpenApi::new(Vec<Served>) -> OpenApi
//!   .v2() / .v2_protobuf() -> Document            GET /openapi/v2 (by Accept)
//!   .v3_index() -> Document                       GET /openapi/v3
//!   .v3_paths() -> Vec<(path, hash)>              the same, as data: ("apis/apps/v1", "9F…")
//!   .v3("apis/apps/v1") -> Option<Document>       GET /openapi/v3/apis/apps/v1?hash=…
//! openapi.with(Vec<Served>) -> OpenApi            after a CRD changed: documents that are the same are kept
//! ```
//!
//! Types, list and merge facts and defaults come from [`orch_kinds::schema`]; descriptions are compiled in,
//! compressed; custom resources bring their own schema. A document is made when it is first asked for and then kept
//! as bytes; the index needs none of them, since hashes are those of what a document is made from.
//!
//! Not in here: paths of the deprecated `/watch/` endpoints, and v3 documents in protobuf (clients ask for JSON).

mod crd;
mod definition;
mod describe;
mod gnostic;
mod operation;
mod parameters;
mod paths;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

use bytes::Bytes;
use orch_kinds::resources::ResourceDef;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Media type of the v2 document in protobuf, as clients ask for it; it is also answered with `.v1.0` for `@v1.0`.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// A served resource.
#[derive(Debug, Clone)]
pub struct Served {
    /// Names, scope, verbs and subresources.
    pub resource: ResourceDef,
    /// For a custom resource, its version's `openAPIV3Schema`; null if it has none. `None` for a built-in one.
    pub schema: Option<Arc<Value>>,
}

impl From<ResourceDef> for Served {
    fn from(resource: ResourceDef) -> Self {
        Self {
            resource,
            schema: None,
        }
    }
}

/// A document and its entity tag (a hash in upper-case hexadecimal, without quotes).
#[derive(Debug, Clone)]
pub struct Document {
    /// Its bytes.
    pub bytes: Bytes,
    /// Changes when the document does.
    pub hash: String,
}

/// How a document is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    V2,
    V3,
}

/// The documents of a set of resources.
#[derive(Debug, Default)]
pub struct OpenApi {
    /// By path: `apis/apps/v1`.
    groups: BTreeMap<String, Group>,
    v2_hash: String,
    v2: Mutex<Option<v2::Both>>,
}

#[derive(Debug)]
struct Group {
    resources: Vec<Served>,
    hash: String,
    document: Mutex<Option<Bytes>>,
}

impl OpenApi {
    /// Of these resources; nothing is made yet.
    #[must_use]
    pub fn new(resources: Vec<Served>) -> Self {
        let mut sorted: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for served in resources {
            sorted
                .entry(paths::root(&served.resource))
                .or_default()
                .push(served);
        }
        let mut all = Sha512::new();
        let groups = sorted
            .into_iter()
            .map(|(path, resources)| {
                let hash = hash_of(&resources);
                all.update(path.as_bytes());
                all.update(hash.as_bytes());
                (
                    path,
                    Group {
                        resources,
                        hash,
                        document: Mutex::new(None),
                    },
                )
            })
            .collect();
        Self {
            groups,
            v2_hash: hex(&all.finalize()),
            v2: Mutex::new(None),
        }
    }

    /// Of other resources, keeping the documents that do not change.
    #[must_use]
    pub fn with(&self, resources: Vec<Served>) -> Self {
        let next = Self::new(resources);
        for (path, group) in &next.groups {
            if let Some(before) = self.groups.get(path).filter(|g| g.hash == group.hash) {
                group.document.lock().clone_from(&before.document.lock());
            }
        }
        if next.v2_hash == self.v2_hash {
            next.v2.lock().clone_from(&self.v2.lock());
        }
        next
    }

    fn v2_both(&self) -> v2::Both {
        let mut held = self.v2.lock();
        held.get_or_insert_with(|| v2::build(self.groups.values().flat_map(|g| &g.resources)))
            .clone()
    }

    /// The v2 document, in JSON.
    #[must_use]
    pub fn v2(&self) -> Document {
        Document {
            bytes: self.v2_both().json,
            hash: self.v2_hash.clone(),
        }
    }

    /// The v2 document, in protobuf: [`V2_PROTOBUF`].
    #[must_use]
    pub fn v2_protobuf(&self) -> Document {
        Document {
            bytes: self.v2_both().protobuf,
            hash: self.v2_hash.clone(),
        }
    }

    /// Path and hash of each v3 document.
    #[must_use]
    pub fn v3_paths(&self) -> Vec<(String, String)> {
        self.groups
            .iter()
            .map(|(path, group)| (path.clone(), group.hash.clone()))
            .collect()
    }

    /// The v3 index.
    #[must_use]
    pub fn v3_index(&self) -> Document {
        let paths: serde_json::Map<String, Value> = self
            .groups
            .iter()
            .map(|(path, group)| {
                let url = format!("/openapi/v3/{path}?hash={}", group.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        let bytes = Bytes::from(json!({"paths": paths}).to_string());
        Document {
            hash: hex(&Sha512::digest(&bytes)),
            bytes,
        }
    }

    /// The v3 document of a group-version, by its path: `api/v1`, `apis/apps/v1`.
    #[must_use]
    pub fn v3(&self, path: &str) -> Option<Document> {
        let group = self.groups.get(path)?;
        let mut held = group.document.lock();
        let bytes = held.get_or_insert_with(|| v3::build(&group.resources)).clone();
        Some(Document {
            bytes,
            hash: group.hash.clone(),
        })
    }
}

fn hash_of(resources: &[Served]) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for Served { resource, schema } in resources {
        hash.update(format!("{resource:?}"));
        if let Some(schema) = schema {
            hash.update(schema.to_string());
        }
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02X}");
            out
        })
}
