//! The backends against the kernel: each test in network namespaces of its own (needs root and iproute2).
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop; it runs in real time"
)]
mod namespaces;
mod pods;
mod proxies;
mod resolving;
