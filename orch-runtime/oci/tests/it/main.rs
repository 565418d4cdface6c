//! The embedded runtime with real containers. Needs root and a static busybox; skips, saying so, without root.

#![allow(clippy::unwrap_used)]

mod conformance;
mod containers;
mod sessions;
mod support;
mod survival;
