//! One container as the agent knows it: what was asked for, on disk, and where it is in its life, in memory.

use crate::error::{Error, Result};
use crate::shim::protocol::{ExitRecord, RECORD_FILE, Record};
use jiff::Timestamp;
use orch_runtime::runtime::{ContainerPhase, ContainerSpec, ContainerState, Exit, ExitReason};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tokio::sync::watch;

const FILE: &str = "container.json";

/// What `container.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) pod_uid: String,
    pub(super) spec: ContainerSpec,
    pub(super) image_id: String,
    pub(super) created_at: Timestamp,
    /// Names of the layers' directories, lowest first.
    pub(super) layers: Vec<String>,
    pub(super) image_config: crate::image::ImageConfig,
    /// Control group, relative to the hierarchy's root.
    pub(super) cgroup: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Starting,
    Running { pid: u32, started_at: Timestamp },
    Exited(Exit),
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) dir: PathBuf,
    pub(super) meta: Mutex<Meta>,
    pub(super) phase: Mutex<Phase>,
    /// Turns true when it has ended.
    pub(super) ended: watch::Sender<bool>,
    /// The stop signal was sent.
    pub(super) stop_sent: AtomicBool,
    /// Held while the container is started or removed.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Meta {
    /// Loads a container's record; `None` if it was never completely made.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>> {
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

    /// Writes `container.json`.
    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|e| Error::Invalid {
            field: "container".into(),
            reason: e.to_string(),
        })?;
        crate::sys::replace_file(&dir.join(FILE), &bytes)
    }
}

impl Container {
    pub(super) fn new(dir: PathBuf, meta: Meta, phase: Phase) -> Self {
        let ended = matches!(phase, Phase::Exited(_));
        Self {
            dir,
            meta: Mutex::new(meta),
            phase: Mutex::new(phase),
            ended: watch::Sender::new(ended),
            stop_sent: AtomicBool::new(false),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Its phase now.
    pub(super) fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    /// Notes the end. The first one counts.
    pub(super) fn end(&self, exit: Exit) -> bool {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Exited(_)) {
            return false;
        }
        *phase = Phase::Exited(exit);
        drop(phase);
        self.ended.send_replace(true);
        true
    }

    /// Waits for the end.
    pub(super) async fn wait(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as self.
        drop(ended.wait_for(|e| *e).await);
    }

    /// What the runtime reports.
    pub(super) fn state(&self) -> ContainerState {
        let meta = self.meta.lock().clone();
        ContainerState {
            id: meta.id.as_str().into(),
            sandbox: meta.sandbox.as_str().into(),
            name: meta.spec.name,
            attempt: meta.spec.attempt,
            image: meta.spec.image,
            image_id: meta.image_id,
            labels: meta.spec.labels,
            annotations: meta.spec.annotations,
            created_at: meta.created_at,
            phase: match self.phase() {
                Phase::Created | Phase::Starting => ContainerPhase::Created,
                Phase::Running { pid, started_at } => ContainerPhase::Running {
                    started_at,
                    pid: Some(pid),
                },
                Phase::Exited(exit) => ContainerPhase::Exited(exit),
            },
            log_path: meta.spec.log_path,
        }
    }
}

/// What the shim recorded in `dir`, if anything.
pub(super) fn read_record(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(dir.join(RECORD_FILE)).ok()?).ok()
}

/// Replaces the shim's record, for a shim that can no longer do it.
pub(super) fn write_record(dir: &Path, record: &Record) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::Invalid {
        field: "record".into(),
        reason: e.to_string(),
    })?;
    crate::sys::replace_file(&dir.join(RECORD_FILE), &bytes)
}

/// Nanoseconds since the epoch as a time.
pub(super) fn time_of(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A recorded end in the words of the runtime.
pub(super) fn exit_of(record: &Record, exit: &ExitRecord) -> Exit {
    let reason = match exit {
        e if e.start_error => ExitReason::StartError,
        e if e.oom => ExitReason::OomKilled,
        e if e.code == 0 => ExitReason::Completed,
        _ => ExitReason::Error,
    };
    Exit {
        code: exit.code,
        reason,
        message: exit.message.clone(),
        started_at: record.started_at.filter(|_| !exit.start_error).map(time_of),
        finished_at: time_of(exit.finished_at),
    }
}
