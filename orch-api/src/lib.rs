//! A Kubernetes v1.36-compatible API server as a library.
//!
//! [`server::ApiServer`] is the whole chain after authentication: request parsing, impersonation, authorization,
//! admission, the registry and its watch caches over an [`orch_store::Store`]. [`local::LocalClient`] reaches it in
//! process, sharing objects instead of bytes; the HTTP front end reaches it with the same calls.
//!
//! ```text
//! http ──┐
//!        ├─> server (authorize, admit, dispatch) ─> registry (strategy, patch, validate) ─> store
//! local ─┘                                              └─ reads ─> cache <─ one watch per resource ─┘
//! ```

pub mod admission;
mod alloc;
pub mod authn;
pub mod authz;
mod bootstrap;
mod cache;
mod crd;
pub mod discovery;
pub mod frontend;
pub mod http;
pub mod http_client;
pub mod kube_service;
pub mod kubeconfig;
pub mod kubelet;
pub mod local;
pub mod pki;
mod protobuf;
mod registry;
pub mod server;
pub mod setup_error;
pub mod testing;
pub mod tokens;

pub use local::LocalClient;
pub use server::{ApiServer, ApiServerBuilder};
pub use setup_error::SetupError;
