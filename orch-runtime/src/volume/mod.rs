//! Volumes of pods: what each holds (pure), and putting it on the machine.
//!
//! Sorts: `emptyDir`, `hostPath`, `configMap`, `secret`, `downwardAPI`, `projected`. Files of the last four are swapped
//! as a whole, so that a reader sees the old or the new set and never a mixture.

mod atomic;
mod disk;
mod none;
mod payload;
mod plan;
mod subpath;

pub use disk::DiskFiles;
pub use none::NoFiles;
pub use payload::{FileData, Payload, TokenNeed, tokens};
pub use plan::{HostPathType, VolumePlan, plan, references};

use async_trait::async_trait;
use std::{collections::BTreeMap, path::PathBuf};

/// Why the volumes of a pod are not ready. The texts go into its events.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume can't be made as the pod wants it.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp {
        /// Name of the volume.
        volume: String,
        /// Why.
        reason: String,
    },
    /// A mount asks for a path that it must not have, or for a volume that is not there.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {reason}")]
    SubPath {
        /// Name of the volume.
        volume: String,
        /// Name of the container.
        container: String,
        /// Why.
        reason: String,
    },
    /// The machine refuses.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with its path.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl VolumeError {
    pub(crate) fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Io { what, source }
    }
}

/// Owner that the files of a pod get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ownership {
    /// `fsGroup`: group of all files, which it may read (and write in an `emptyDir`).
    pub group: Option<u32>,
    /// The user that all containers run as, if it is one and known: owner of service account tokens.
    pub user: Option<u32>,
    /// `fsGroupChangePolicy: OnRootMismatch`: leave a tree alone whose root is right.
    pub on_root_mismatch: bool,
}

/// The files that the agent keeps for pods.
#[async_trait]
pub trait PodFiles: Send + Sync + 'static {
    /// Makes the volumes, or brings those that are there up to date. May repeat; what did not change is not touched.
    ///
    /// # Errors
    /// [`VolumeError`]; what was made stays and is used by the next call.
    async fn mount(
        &self,
        pod_uid: &str,
        owner: Ownership,
        volumes: &BTreeMap<String, VolumePlan>,
    ) -> Result<(), VolumeError>;

    /// Removes the volumes. `Ok` when there are none. Content of a `hostPath` is not touched.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn unmount(&self, pod_uid: &str) -> Result<(), VolumeError>;

    /// The path to mount into a container: of the volume, or of `sub_path` below it, which is made if it is missing and
    /// never leads out of the volume, whatever links are in it.
    ///
    /// # Errors
    /// [`VolumeError::SubPath`], [`VolumeError::Io`].
    async fn mount_path(&self, request: MountRequest<'_>) -> Result<PathBuf, VolumeError>;

    /// Writes a file of the pod (`etc-hosts`, `containers/web/abc`), readable by all, and returns its path.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn write(
        &self,
        pod_uid: &str,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<PathBuf, VolumeError>;

    /// The first `limit` bytes of a file that [`PodFiles::write`] made; `None` if it is not there.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn read(&self, path: &std::path::Path, limit: usize) -> Result<Option<Vec<u8>>, VolumeError>;

    /// The last `limit` bytes of a file; `None` if it is not there.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn tail(&self, path: &std::path::Path, limit: usize) -> Result<Option<Vec<u8>>, VolumeError>;

    /// Makes the directory for a log file.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn make_log_dir(&self, path: &std::path::Path) -> Result<(), VolumeError>;

    /// Moves a log file that has reached `max_bytes` aside, to `<name>.<stamp>`, and removes the oldest so that `keep`
    /// files stay, the present one included. Returns where it went; `None` if it is smaller or not there.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn rotate_log(
        &self,
        path: &std::path::Path,
        max_bytes: u64,
        keep: usize,
        stamp: &str,
    ) -> Result<Option<PathBuf>, VolumeError>;

    /// Removes a log file, or a directory of them. `Ok` when absent.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn remove_logs(&self, path: &std::path::Path) -> Result<(), VolumeError>;

    /// Removes everything that the agent keeps for a pod, volumes included. `Ok` when there is nothing.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn remove_pod(&self, pod_uid: &str) -> Result<(), VolumeError>;

    /// UIDs of the pods that it keeps something for, sorted.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    async fn pods(&self) -> Result<Vec<String>, VolumeError>;
}

/// One mount of a container.
#[derive(Debug, Clone, Copy)]
pub struct MountRequest<'a> {
    /// UID of the pod.
    pub pod_uid: &'a str,
    /// Name of the container.
    pub container: &'a str,
    /// Name of the volume.
    pub volume: &'a str,
    /// What the volume is.
    pub plan: &'a VolumePlan,
    /// Path below the volume; empty for all of it.
    pub sub_path: &'a str,
    /// Number of the mount in the container.
    pub index: usize,
}
