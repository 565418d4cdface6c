//! The client seam: every component talks to the API server through [`ApiClient`], and the API server is the only
//! one who talks to the store.
//!
//! Two transports implement it, in process and over HTTPS (both in `orch-api`); both run the same authentication,
//! authorization, admission, validation and audit. [`Api`] puts types on top, once.

mod request;
mod typed;

pub use request::{
    ApiRequest, ApiResponse, Patch, PatchKind, RequestBody, ResponseBody, WatchEvent, WatchEventType,
};
pub use typed::{Api, ListParams, NamespacedOrCluster, ObjectList, TypedEvent, TypedWatch};

use crate::status::Status;
use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

/// The events of one watch, in order. Ends when the server closes the watch; an `Err` is its last item.
pub type EventStream = BoxStream<'static, Result<WatchEvent, Status>>;

/// A byte stream in both directions, after a protocol upgrade.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An upgraded connection: the protocol that the server chose and the raw byte stream.
pub struct Upgraded {
    /// Response headers of the `101 Switching Protocols` answer.
    pub headers: http::HeaderMap,
    /// The stream after the upgrade.
    pub io: Box<dyn Duplex>,
}

/// Transport to an API server. Implementations carry the caller's identity.
#[async_trait]
pub trait ApiClient: Send + Sync + 'static {
    /// One request, one answer. An HTTP error code comes back as `Err(Status)`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not have performed the write; read to find out.
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Status>;

    /// A watch. `request` is the GET of a collection with `watch=true` among its parameters.
    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status>;

    /// A protocol upgrade (exec, attach, port-forward, proxy): `request` carries the `Upgrade` headers.
    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status>;
}
