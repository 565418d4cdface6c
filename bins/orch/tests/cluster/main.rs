//! Whole clusters, with real containers and unmodified kubectl: each test in network namespaces of its own.
//!
//! Needs root, `iproute2`, `nftables` and `kubectl`; `KUBECTL` may name the latter. The tests run one after another:
//! each uses all of a small machine.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

mod cluster;
mod hosts;
mod kubectl;

mod bad_input;
mod lifecycle;
mod rollout;
mod separate;
mod services;
