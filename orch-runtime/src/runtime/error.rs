//! What can go wrong in a runtime, cut by what the node agent does about it.

use std::time::Duration;

/// Error of a container runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The image is not in the local store; pull or import it.
    #[error("image {image:?} is not present")]
    ImageNotPresent {
        /// Reference as asked for.
        image: String,
    },
    /// The image could not be pulled; back off and try again.
    #[error("failed to pull image {image:?}: {reason}")]
    PullFailed {
        /// Reference as asked for.
        image: String,
        /// Why, for people.
        reason: String,
    },
    /// The reference cannot be parsed; no retry helps until the pod changes.
    #[error("invalid image reference {image:?}: {reason}")]
    InvalidImageName {
        /// Reference as asked for.
        image: String,
        /// Why, for people.
        reason: String,
    },
    /// The specification cannot be carried out; no retry helps until the pod changes.
    #[error("invalid {field}: {reason}")]
    InvalidSpec {
        /// Field of the specification.
        field: String,
        /// Why, for people.
        reason: String,
    },
    /// No such sandbox or container.
    #[error("{what} not found")]
    NotFound {
        /// What was asked for, such as `container abc`.
        what: String,
    },
    /// The operation does not fit the state that the thing is in (exec in an exited container, a second start).
    #[error("{what} is {state}")]
    WrongState {
        /// What was asked for.
        what: String,
        /// State that it is in, such as `exited`.
        state: String,
    },
    /// A sandbox or container with the same identity (pod UID, name, attempt) exists.
    #[error("{what} already exists")]
    AlreadyExists {
        /// The identity.
        what: String,
    },
    /// The process could not be started: the program does not exist, is not executable, a mount failed.
    #[error("{reason}")]
    StartFailed {
        /// Why, in the form that goes into the pod's status.
        reason: String,
    },
    /// A deadline given by the caller passed.
    #[error("timed out after {after:?}")]
    Timeout {
        /// The deadline.
        after: Duration,
    },
    /// This runtime cannot do it at all.
    #[error("{what} is not supported by this runtime")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// The runtime does not answer or lacks something (privilege, disk, a mount); try again later.
    #[error("runtime unavailable: {reason}")]
    Unavailable {
        /// Why, for people.
        reason: String,
        /// The cause, if there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl RuntimeError {
    /// [`RuntimeError::NotFound`] of a container.
    pub fn no_container(id: impl std::fmt::Display) -> Self {
        Self::NotFound {
            what: format!("container {id}"),
        }
    }
    /// [`RuntimeError::NotFound`] of a sandbox.
    pub fn no_sandbox(id: impl std::fmt::Display) -> Self {
        Self::NotFound {
            what: format!("sandbox {id}"),
        }
    }
    /// [`RuntimeError::Unavailable`] because of `source`, which happened while doing `what`.
    pub fn io(what: impl std::fmt::Display, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable {
            reason: format!("{what}: {source}"),
            source: Some(Box::new(source)),
        }
    }
    /// [`RuntimeError::InvalidSpec`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidSpec {
            field: field.into(),
            reason: reason.into(),
        }
    }
    /// Whether what was asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::ImageNotPresent { .. })
    }
}
