//! Integration tests of the API server.

mod crd;
mod crud;
mod https;
mod sub;
mod util;
