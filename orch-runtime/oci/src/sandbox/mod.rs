//! Sandboxes on disk: `sandboxes/<id>/` with the namespaces of a pod pinned by bind mounts.
//!
//! ```text
//! sandbox.json     what was asked for and what was made
//! ns/{net,ipc,uts,pid}     bind mounts of the namespaces that are the pod's own
//! shm/             a tmpfs that the containers share as /dev/shm
//! ```
//!
//! No process is needed to keep a namespace, except for a shared process namespace, which lives and dies with its first
//! process: the pause process.

mod loopback;
mod make;

pub(crate) use make::{make, unmake};

use crate::error::{Attempt, Error, Result};
use jiff::Timestamp;
use orch_runtime::runtime::{PidNamespace, SandboxSpec, SandboxState};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FILE: &str = "sandbox.json";

/// A sandbox as it stands in `sandbox.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) spec: SandboxSpec,
    pub(crate) created_at: Timestamp,
    /// Control group of the pod.
    pub(crate) cgroup: String,
    /// The control group was chosen here, and so were those above it.
    pub(crate) own_cgroup: bool,
    pub(crate) pause: Option<ProcessId>,
    pub(crate) stopped: bool,
}

/// A process that may have ended, told apart from a later one of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Start in clock ticks since boot.
    pub(crate) started: u64,
}

impl ProcessId {
    /// The living process of this number.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the fields after it are numbers, the 20th of them the start.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        (state != "Z" && state != "X").then_some(())?;
        Some(Self {
            pid,
            started: fields.nth(18)?.parse().ok()?,
        })
    }
    /// Whether it still lives.
    pub(crate) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
    /// Sends it the kill signal, if it lives.
    pub(crate) fn kill(self) {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let Some(handle) =
            pid.and_then(|p| rustix::process::pidfd_open(p, rustix::process::PidfdFlags::empty()).ok())
        else {
            return;
        };
        // Looked at after the handle was taken, so that the handle is of the process that was looked at.
        if self.lives() {
            let _ = rustix::process::pidfd_send_signal(handle, rustix::process::Signal::KILL);
        }
    }
}

impl Sandbox {
    /// Loads a sandbox from its directory; `None` if it was never completely made.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join(FILE);
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::Invalid {
                    field: file.display().to_string(),
                    reason: e.to_string(),
                }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", file, e)),
        }
    }

    /// Writes `sandbox.json`.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|e| Error::Invalid {
            field: "sandbox".into(),
            reason: e.to_string(),
        })?;
        crate::sys::replace_file(&dir.join(FILE), &bytes)
    }

    /// The namespace of a kind, if the sandbox has its own.
    pub(crate) fn namespace(&self, dir: &Path, kind: &str) -> Option<PathBuf> {
        let own = match kind {
            "net" | "uts" => !self.spec.host_network,
            "ipc" => !self.spec.host_ipc,
            "pid" => self.spec.pid == PidNamespace::Pod,
            _ => false,
        };
        own.then(|| dir.join("ns").join(kind))
    }

    /// Whether all of its namespaces still exist.
    pub(crate) fn ready(&self, dir: &Path) -> bool {
        !self.stopped
            && ["net", "uts", "ipc", "pid"]
                .iter()
                .filter_map(|kind| self.namespace(dir, kind))
                .all(|p| is_namespace(&p))
            && self.pause.is_none_or(ProcessId::lives)
    }

    /// What the runtime reports.
    pub(crate) fn state(&self, dir: &Path) -> SandboxState {
        SandboxState {
            id: self.id.as_str().into(),
            pod: self.spec.pod.clone(),
            ready: self.ready(dir),
            created_at: self.created_at,
            netns: self.namespace(dir, "net"),
            ips: Vec::new(),
            labels: self.spec.labels.clone(),
            annotations: self.spec.annotations.clone(),
        }
    }
}

/// Whether a path is a bind mount of a namespace.
fn is_namespace(path: &Path) -> bool {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|s| u64::try_from(s.f_type).is_ok_and(|t| t == NSFS_MAGIC))
}

/// Unmounts what is mounted at `path`, however often. `Ok` if nothing is.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    use rustix::mount::UnmountFlags;
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err::<(), _>(e).at("unmount", path),
        }
    }
}
