//! The embedded runtime with real containers. Needs root and a static busybox; skips, saying so, without root.

mod conformance;
mod containers;
mod sessions;
mod support;
mod survival;
