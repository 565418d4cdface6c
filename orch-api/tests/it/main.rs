//! Integration tests of the API server.

mod crud;
