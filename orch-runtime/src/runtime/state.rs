//! What a runtime reports.

use super::{ContainerId, PodIdentity, SandboxId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

/// State of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// Its ID.
    pub id: SandboxId,
    /// Its pod.
    pub pod: PodIdentity,
    /// Its namespaces exist and containers can be made in it. False once stopped, or after a reboot.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Path of its network namespace; `None` with the host's network.
    pub netns: Option<PathBuf>,
    /// Addresses, when the runtime itself connects sandboxes to a network (CRI with CNI); otherwise empty.
    pub ips: Vec<IpAddr>,
    /// Labels as given.
    pub labels: BTreeMap<String, String>,
    /// Annotations as given.
    pub annotations: BTreeMap<String, String>,
}

/// Why a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Another exit code, or a signal.
    Error,
    /// The kernel's out-of-memory killer ended a process of it.
    OomKilled,
    /// It never ran: starting it failed.
    StartError,
    /// What another runtime says.
    Other(String),
}

impl ExitReason {
    /// As it stands in a pod's status.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Other(reason) => reason,
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + N for signal N; 128 if it could not be started.
    pub code: i32,
    /// Why.
    pub reason: ExitReason,
    /// For people; the error when starting failed, otherwise mostly empty.
    pub message: String,
    /// When it started; `None` if it never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Where a container is in its life: `Created → Running → Exited`, or `Created → Exited` if starting failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// When it started.
        started_at: Timestamp,
        /// Its first process, as the machine numbers it, if the runtime knows.
        pid: Option<u32>,
    },
    /// Ended.
    Exited(Exit),
    /// The runtime lost track of it; it is not known to run.
    Unknown,
}

impl ContainerPhase {
    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
    /// How it ended, if it did.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// State of a container, running or not. Exited containers are listed until removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its ID.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Name as given.
    pub name: String,
    /// Attempt as given.
    pub attempt: u32,
    /// Image as given in the specification.
    pub image: String,
    /// ID of the image: what [`Image::id`] says.
    pub image_id: String,
    /// Labels as given.
    pub labels: BTreeMap<String, String>,
    /// Annotations as given.
    pub annotations: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// Log file as given.
    pub log_path: PathBuf,
}

/// Something changed; what exactly, [`super::ContainerRuntime::list`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container began to run.
    Started {
        /// Container.
        id: ContainerId,
        /// UID of its pod.
        pod_uid: String,
    },
    /// A container ended; its exit is already visible in the list.
    Exited {
        /// Container.
        id: ContainerId,
        /// UID of its pod.
        pod_uid: String,
    },
    /// A sandbox ceased to be ready although nobody stopped it.
    SandboxLost {
        /// Sandbox.
        id: SandboxId,
        /// UID of its pod.
        pod_uid: String,
    },
    /// Events were dropped because the subscriber was slow: list again.
    Lagged,
}

/// Use of resources by a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerStats {
    /// Container.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// When it was measured.
    pub at: Timestamp,
    /// CPU time since the start, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory used, in bytes.
    pub memory_usage_bytes: u64,
    /// Memory used that cannot be given back at once, in bytes.
    pub memory_working_set_bytes: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss_bytes: u64,
    /// Page faults since the start.
    pub page_faults: u64,
    /// Major page faults since the start.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes in the writable layer.
    pub rootfs_used_bytes: u64,
    /// Inodes in the writable layer.
    pub rootfs_used_inodes: u64,
}

/// An image in the local store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Full names with a tag, such as `docker.io/library/busybox:1.36`, sorted.
    pub tags: Vec<String>,
    /// Full names with a digest, sorted.
    pub digests: Vec<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// User ID that the image asks to run as, when it is a number.
    pub uid: Option<u32>,
    /// User that the image asks to run as, when it is a name; empty otherwise.
    pub username: String,
}

/// What a runtime is and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeInfo {
    /// Name as it stands before `://` in the node's `containerRuntimeVersion`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Why the runtime is not ready; `None` when it is.
    pub not_ready: Option<String>,
    /// Why the network that the runtime itself keeps is not ready; `None` when it is, or when it keeps none.
    pub network_not_ready: Option<String>,
}
