//! The Kubernetes-compatible API server as a library.
