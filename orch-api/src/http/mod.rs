//! The HTTPS front of the API server.
//!
//! ```text
//! accept ─ TLS (own task, time-out) ─ hyper h1/h2 ─ decode ─ authenticate ─┬─ call ─── encode
//!                                                                          ├─ watch ── one JSON frame per event
//!                                                                          └─ connect ─ 101, then bytes both ways
//! ```
//!
//! Everything behind authentication is the same for in-process callers and lies behind [`Backend`]. Objects are
//! written from their cached bytes; a list is spliced from them without being put together in memory. This is a thin
//! shell: sockets and timers of tokio are used here directly.

mod backend;
mod body;
mod decode;
mod dispatch;
mod encode;
mod listen;
mod metrics;
mod negotiate;
mod serve;

pub use backend::Backend;
pub use body::Body;
pub use dispatch::Dispatch;
pub use listen::Listener;
pub use metrics::Metrics;
pub use serve::{Server, ServerParts};

pub(crate) use decode::{decode, path_and_query, read_body};
pub(crate) use dispatch::{UpgradedClient, body_limit, is_upgrade};
pub(crate) use encode::error as error_response;
pub(crate) use serve::SpawnOn;
