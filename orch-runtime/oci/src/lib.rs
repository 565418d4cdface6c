//! Embedded container runtime: OCI images, overlay root file systems, no daemon.

mod error;
pub mod image;
mod sys;

pub use error::{Error, Result};
