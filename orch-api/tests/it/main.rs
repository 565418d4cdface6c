//! Integration tests of the API server.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop; it runs in real time"
)]

mod core;
mod crd;
mod crud;
mod https;
mod sub;
mod util;
