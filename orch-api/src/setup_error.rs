//! What can go wrong before the server serves: files, keys, addresses.

use std::{net::SocketAddr, path::PathBuf};

/// A failure to set up certificates, credentials or listeners. Cut by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file could not be read or written: fix permissions, space or the path.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write` or the like.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is there but does not hold what it should: restore it, or remove it together with what it belongs to.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        what: String,
    },
    /// Another process serves the address: choose another one.
    #[error(
        "address already in use: {address} (another process listens there; choose another with --listen)"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be served for another reason.
    #[error("cannot listen on {address} (see --listen)")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate could not be made or used.
    #[error("cannot {action}")]
    Crypto {
        /// What was tried.
        action: &'static str,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A kubeconfig lacks something that is needed.
    #[error("kubeconfig{}: {what}", path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    Kubeconfig {
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// What is missing or wrong.
        what: String,
    },
}

impl SetupError {
    /// A [`SetupError::Crypto`] from a library's error.
    pub(crate) fn crypto<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        action: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Crypto {
            action,
            source: source.into(),
        }
    }
}
