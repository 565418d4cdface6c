//! A Kubernetes-compatible cluster in one process.
