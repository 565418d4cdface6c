//! What can go wrong here, cut by what the caller can do about it.

use orch_runtime::runtime::RuntimeError;
use std::path::{Path, PathBuf};

/// Error of the embedded runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An image reference that cannot be parsed.
    #[error("invalid image reference {reference:?}: {reason}")]
    InvalidReference {
        /// Reference as given.
        reference: String,
        /// Why.
        reason: String,
    },
    /// An image archive, or a part of it, that is damaged or of an unknown kind.
    #[error("{}: {reason}", path.display())]
    InvalidArchive {
        /// The archive, and the file within it where that is known.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is not in the store.
    #[error("image {reference:?} is not present")]
    NoImage {
        /// Reference as given.
        reference: String,
    },
    /// The machine or the process lacks what containers need.
    #[error("{reason}")]
    Unsupported {
        /// One sentence that names what is missing.
        reason: String,
    },
    /// A request that no machine could carry out.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// Why.
        reason: String,
    },
    /// The container's process could not be made or started.
    #[error("{reason}")]
    Start {
        /// Why, as it goes into the pod's status.
        reason: String,
    },
    /// The operating system refused.
    #[error("{what}")]
    Io {
        /// What was attempted, with the path.
        what: String,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// [`Error::Io`] of an attempt on `path`.
    pub(crate) fn io(what: &str, path: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        Self::Io {
            what: format!("{what} {}", path.as_ref().display()),
            source: source.into(),
        }
    }
    /// [`Error::InvalidArchive`].
    pub(crate) fn archive(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::InvalidArchive {
            path: path.into(),
            reason: reason.into(),
        }
    }
    /// The message with all its causes, for a place that keeps only text.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(e) = cause {
            text.push_str(": ");
            text.push_str(&e.to_string());
            cause = e.source();
        }
        text
    }
}

impl From<Error> for RuntimeError {
    fn from(e: Error) -> Self {
        match e {
            Error::InvalidReference { reference, reason } => Self::InvalidImageName {
                image: reference,
                reason,
            },
            Error::NoImage { reference } => Self::ImageNotPresent { image: reference },
            Error::InvalidArchive { path, reason } => Self::invalid(path.display().to_string(), reason),
            Error::Invalid { field, reason } => Self::InvalidSpec { field, reason },
            Error::Start { reason } => Self::StartFailed { reason },
            e @ (Error::Io { .. } | Error::Unsupported { .. }) => Self::Unavailable {
                reason: e.chain(),
                source: None,
            },
        }
    }
}

/// Adds what was attempted to an I/O result.
pub(crate) trait Attempt<T> {
    /// Names the attempt and the path.
    fn at(self, what: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn at(self, what: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::io(what, path, e))
    }
}
