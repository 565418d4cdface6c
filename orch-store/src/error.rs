//! What can go wrong in a store, cut by what the caller can do about it.

use crate::store::{LeaseId, Revision};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a store refused or failed. Cheap to clone, so that one cause can reach many waiting callers.
///
/// A compare that did not hold is not an error: see [`crate::TxnOutcome::succeeded`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The asked history is gone. Read the present state and watch from its revision ("relist").
    #[error("revision {asked} is compacted, the oldest readable is {oldest}")]
    Compacted {
        /// The revision that was asked for.
        asked: Revision,
        /// The oldest revision that can be read, and after which a watch can start.
        oldest: Revision,
    },
    /// The asked revision has not happened yet. Ask again later, or for less.
    #[error("revision {asked} is in the future, the store is at {current}")]
    FutureRevision {
        /// The revision that was asked for.
        asked: Revision,
        /// The store's revision when it looked.
        current: Revision,
    },
    /// A key, value or transaction is larger than the contract allows. Do not repeat.
    #[error("{what} is too large: {size} over the limit of {limit}")]
    TooLarge {
        /// Which part: `key`, `value`, `transaction bytes`, `transaction operations`.
        what: &'static str,
        /// Its size, in bytes or operations.
        size: usize,
        /// The largest allowed, in the same unit.
        limit: usize,
    },
    /// The request makes no sense as it stands (an empty key, one key written twice in a transaction). Do not repeat.
    #[error("invalid request: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// No such lease: it never existed, ran out or was revoked. Grant a new one.
    #[error("lease {id} does not exist")]
    LeaseNotFound {
        /// The lease that was named.
        id: LeaseId,
    },
    /// The store cannot serve this now and nothing was changed: no quorum, no connection, overload. Repeat later.
    #[error("store is unavailable: {reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
    },
    /// The answer got lost: the change may or may not have happened. Read before repeating.
    #[error("outcome is unknown: {reason}")]
    Uncertain {
        /// What interrupted the request.
        reason: String,
    },
    /// The disk is full. Nothing was changed; reads go on. Writes succeed again once there is space.
    #[error("disk is full while writing {}", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// The operating system failed an operation on the store's files. Writes are refused until a repair succeeds
    /// (tried by itself at each later write); reads go on.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was tried: `open`, `write`, `sync`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Stored data does not match its checksum or structure. Nothing damaged is served: restore from a snapshot.
    #[error("{} is damaged at byte {offset}{}: {reason}", file.display(), named_key(key.as_deref()))]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damaged record starts, in bytes from the start of the file.
        offset: u64,
        /// The key in the damaged record, as far as it can still be told.
        key: Option<String>,
        /// What does not match.
        reason: String,
    },
    /// The files were written by a newer version. Upgrade the program; it never writes to what it does not know.
    #[error("{} has format version {found}, this program knows up to {supported}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// Another process uses the directory. Stop it first.
    #[error("{} is in use by {}", path.display(), owner.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The owner's process id, when it left one.
        owner: Option<u32>,
    },
    /// The store was closed. Open it again.
    #[error("store is closed")]
    Closed,
}

impl Error {
    /// Whether the same request can succeed later without being changed.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(
            self,
            Self::FutureRevision { .. } | Self::Unavailable { .. } | Self::DiskFull { .. } | Self::Io { .. }
        )
    }

    /// An [`Error::Io`], or [`Error::DiskFull`] when that is what the system says.
    #[must_use]
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.into();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io {
                action,
                path,
                source: Arc::new(source),
            },
        }
    }

    /// An [`Error::Invalid`].
    #[must_use]
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }
}

fn named_key(key: Option<&str>) -> String {
    key.map(|k| format!(", key {k:?}")).unwrap_or_default()
}
