//! SPDY/3.1 as Kubernetes uses it: many streams over one connection, without flow control (client-go's implementation
//! sends no window updates and heeds none).

mod connection;
mod dictionary;
mod frame;
mod header;

pub use connection::{Connection, Role, SpdyStream};
pub use header::Headers;
