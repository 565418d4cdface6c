//! Snapshots of a running store, restoring from them, and checking files without opening them for use.

use super::disk::{DirDisk, Disk, Files};
use super::engine::Engine;
use super::format::{FileKind, HEADER};
use super::log::{LOG_PREFIX, Log};
use super::reader::{FrameReader, Next};
use super::recover::recover;
use super::state_file::{STATE_PREFIX, StateImage, read_state, state_name};
use crate::error::Error;
use crate::mvcc::{HistoryLimits, Mvcc};
use crate::store::{KeyRange, ReadAt, Revision};
use orch_core::Env;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The revision whose state it is.
    pub revision: Revision,
    /// Its keys.
    pub keys: u64,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// How a snapshot is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// Revisions to skip. Clients may have seen revisions later than the snapshot's; after a skip beyond those, they
    /// find what they saw compacted and read anew, instead of taking old revisions for newer ones. etcd's
    /// `--bump-revision --mark-compacted`.
    pub skip_revisions: u64,
}

/// The result of a check.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Files that were read.
    pub files: usize,
    /// Whole frames in them.
    pub frames: u64,
    /// The revision that opening would reach, if it would succeed.
    pub revision: Option<Revision>,
    /// The keys that it would find.
    pub keys: u64,
    /// Bytes at the end of the log that opening would cut off: unused, or of a write that a crash interrupted.
    pub torn_bytes: u64,
    /// All damage, with file, offset and, where it can be told, key.
    pub problems: Vec<Error>,
}

impl CheckReport {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The directory of `path` as a disk, and the name in it.
fn split(path: &Path) -> Result<(Files, String), Error> {
    let invalid = || Error::invalid(format!("{} does not name a file", path.display()));
    let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(invalid)?;
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((Files(Arc::new(DirDisk::new(dir))), name.to_owned()))
}

pub(crate) fn snapshot(engine: &Engine, to: &Path) -> Result<SnapshotInfo, Error> {
    let (files, name) = split(to)?;
    let (image, keys) = {
        let state = engine.shared.state.read();
        let revision = state.resolve(ReadAt::Latest)?;
        let leases = state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        let keys = state.freeze(&KeyRange::all());
        let (store, salt) = (engine.store, engine.env.rng.next_u64());
        (
            StateImage {
                keys,
                revision,
                leases,
                leases_seq: 0,
                log_seq: 1,
                store,
                salt,
            },
            state.keys_live,
        )
    };
    let mut size_bytes = 0;
    files.publish(&name, |file| {
        size_bytes = image.write(file, &|| !engine.closing.load(Ordering::Acquire))?;
        Ok(())
    })?;
    Ok(SnapshotInfo {
        revision: image.revision,
        keys,
        size_bytes,
    })
}

/// Reads a whole snapshot and checks every byte of it.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::NewerFormat`], [`Error::Io`].
pub fn verify_snapshot(path: &Path) -> Result<SnapshotInfo, Error> {
    let (files, name) = split(path)?;
    let mut state = Mvcc::new(HistoryLimits::default());
    read_state(&files, &name, &mut state)?;
    let size_bytes = files
        .0
        .open(&name, false)
        .and_then(|f| f.size())
        .map_err(files.fail("read", &name))?;
    Ok(SnapshotInfo {
        revision: state.revision,
        keys: state.keys_live,
        size_bytes,
    })
}

/// Makes a store in the directory `dir`, which must not hold one, from a snapshot.
///
/// # Errors
/// [`Error::Corrupt`] and [`Error::NewerFormat`] for the snapshot, [`Error::Invalid`] when `dir` holds a store,
/// [`Error::Locked`], [`Error::DiskFull`], [`Error::Io`].
pub fn restore(
    snapshot: &Path,
    dir: &Path,
    options: RestoreOptions,
    env: &Env,
) -> Result<SnapshotInfo, Error> {
    restore_disk(snapshot, Arc::new(DirDisk::new(dir)), options, env)
}

/// As [`restore`], onto any [`Disk`].
///
/// # Errors
/// As [`restore`].
pub fn restore_disk(
    snapshot: &Path,
    disk: Arc<dyn Disk>,
    options: RestoreOptions,
    env: &Env,
) -> Result<SnapshotInfo, Error> {
    let (from, name) = split(snapshot)?;
    let mut state = Mvcc::new(HistoryLimits::default());
    read_state(&from, &name, &mut state)?;
    let _lock = disk.lock()?;
    let files = Files(disk);
    let names = files.0.list().map_err(files.fail("list", ""))?;
    let is_used = |name: &&String| {
        let frames = || {
            files
                .0
                .open(name, false)
                .and_then(|f| f.size())
                .is_ok_and(|size| size > HEADER as u64)
        };
        name.starts_with(STATE_PREFIX) || name.starts_with(LOG_PREFIX) && frames()
    };
    if let Some(found) = names.iter().find(is_used) {
        let at = files.0.path(found);
        return Err(Error::invalid(format!(
            "there is a store already: {}",
            at.display()
        )));
    }
    // A store of its own: it must never be taken for, or mixed with, the one it came from.
    let store = env.rng.next_u64();
    let revision = Revision(state.revision.0.saturating_add(options.skip_revisions));
    let keys = state.keys_live;
    state.revision = revision;
    let image = StateImage {
        keys: state.freeze(&KeyRange::all()),
        revision,
        leases: state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect(),
        leases_seq: 0,
        log_seq: 1,
        store,
        salt: env.rng.next_u64(),
    };
    // The state comes last: without it a half made store is only an empty log, which does not open and which a second
    // try replaces.
    Log::make_segment(&files, store, 1, revision, env.rng.next_u64())?;
    let mut size_bytes = 0;
    let restored = files.publish(&state_name(revision), |file| {
        size_bytes = image.write(file, &|| true)?;
        Ok(())
    });
    if let Err(error) = restored {
        let _left_over = files.0.remove(&super::log::segment_name(1));
        return Err(error);
    }
    Ok(SnapshotInfo {
        revision,
        keys,
        size_bytes,
    })
}

/// Checks every byte of the store in `dir`, changing nothing. The store must be closed.
///
/// # Errors
/// Only what kept it from checking: [`Error::Locked`], [`Error::Io`]. Damage is in the report.
pub fn check(dir: &Path) -> Result<CheckReport, Error> {
    if !dir.is_dir() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::io("open", dir, missing));
    }
    check_disk(Arc::new(DirDisk::new(dir)))
}

/// As [`check`], on any [`Disk`].
///
/// # Errors
/// As [`check`].
pub fn check_disk(disk: Arc<dyn Disk>) -> Result<CheckReport, Error> {
    let _lock = disk.lock()?;
    let files = Files(disk);
    let mut report = CheckReport::default();
    let keep = |error: Error, report: &mut CheckReport| match error {
        Error::Corrupt { .. } | Error::NewerFormat { .. } => {
            report.problems.push(error);
            Ok(())
        }
        error => Err(error),
    };
    match recover(&files, HistoryLimits::default()) {
        Ok(found) => {
            report.revision = Some(found.state.revision);
            report.keys = found.state.keys_live;
            report.torn_bytes = found.torn_bytes;
        }
        Err(error) => keep(error, &mut report)?,
    }
    let whole = report.is_ok();
    for name in files.0.list().map_err(files.fail("list", ""))? {
        let kind = if name.ends_with(".tmp") {
            continue;
        } else if name.starts_with(LOG_PREFIX) {
            FileKind::Log
        } else if name.starts_with(STATE_PREFIX) {
            FileKind::State
        } else {
            continue;
        };
        report.files += 1;
        match FrameReader::open(&files, &name, kind) {
            Ok(mut reader) => scan(&mut reader, whole, &mut report)?,
            Err(error) if whole => drop(error),
            Err(error) => keep(error, &mut report)?,
        }
    }
    // Recovery's own finding comes first; the scan finds it again.
    let mut seen = std::collections::BTreeSet::new();
    report.problems.retain(|problem| match problem {
        Error::Corrupt { file, offset, .. } => seen.insert((file.clone(), *offset)),
        other => seen.insert((std::path::PathBuf::from(other.to_string()), 0)),
    });
    Ok(report)
}

/// Counts the whole frames of a file and, unless recovery found nothing wrong, lists what lies between them.
fn scan(reader: &mut FrameReader<'_>, whole: bool, report: &mut CheckReport) -> Result<(), Error> {
    loop {
        match reader.next()? {
            Next::Frame(..) => report.frames += 1,
            Next::End => return Ok(()),
            Next::Bad { key, reason } => {
                let problem = reader.corrupt(key, reason);
                let more = reader.resync()?;
                // Behind the last whole frame of a sound log lies only what a crash interrupted.
                if !whole {
                    report.problems.push(problem);
                }
                if !more {
                    return Ok(());
                }
            }
        }
    }
}
