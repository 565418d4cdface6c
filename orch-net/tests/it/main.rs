//! The backends against the kernel: each test in network namespaces of its own (needs root and iproute2).
mod namespaces;
mod pods;
mod proxies;
mod resolving;
