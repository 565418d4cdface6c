//! SPDY/3.1 and WebSocket channel protocols of exec, attach and port-forward: what kubectl, client-go and kube-rs speak
//! to a node, and what API servers pass on.
//!
//! [`negotiate_command`] and [`negotiate_forward`] answer the HTTP upgrade; [`serve_command`] and [`serve_forward`] then turn the raw
//! connection into plain streams. Each gives back a driver future that the caller spawns: this crate starts no tasks.

mod command;
mod forward;
mod negotiate;
pub mod spdy;
pub mod websocket;

pub use command::{CommandOptions, CommandStreams, Size, serve_command};
pub use forward::{Forward, ForwardData, serve_forward};
pub use negotiate::{
    CommandProtocol, ForwardProtocol, Negotiated, NegotiationError, negotiate_command, negotiate_forward,
};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A boxed byte stream in both directions.
pub type BoxIo = Box<dyn Io>;
/// A boxed reader.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// A boxed writer.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// Moves bytes between the connection and its streams until either ends. Spawn it.
pub type Driver = BoxFuture<'static, ()>;

/// What went wrong on an upgraded connection.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke or ended early.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// The peer broke the protocol.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The peer did not open the streams it should have in time.
    #[error("timed out waiting for client to create streams")]
    Timeout,
}
