//! Integration tests of the API server.

mod core;
mod crd;
mod crud;
mod https;
mod sub;
mod util;
