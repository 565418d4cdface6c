//! A disk in memory that forgets, tears and fails on purpose.
//!
//! It keeps a trace of every call. From any point of the trace it can make the disk that a power cut at that point
//! could have left: of what was not synced, any 512-byte sectors in any combination, any length, any of the names.

use crate::Error;
use crate::embedded::{Disk, DiskFile};
use orch_core::rng::Rng;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

/// What a power cut keeps or loses as one.
const SECTOR: usize = 512;

type FileId = usize;

#[derive(Debug, Clone)]
enum Call {
    Create(String, FileId),
    Rename(String, String),
    Remove(String),
    SyncNames,
    Write(FileId, u64, Arc<[u8]>),
    SetSize(FileId, u64),
    Sync(FileId),
}

/// What goes wrong from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Writes fail, half done.
    Writes,
    /// Syncs fail, and what they should have made durable never will be, although it reads as written.
    Syncs,
    /// Everything that changes the disk fails.
    All,
    /// Syncs of files succeed and do nothing.
    ForgetsSyncs,
    /// Syncs of names succeed and do nothing.
    ForgetsNameSyncs,
    /// There is room for this many bytes; what goes beyond fails as on a full disk.
    Room(u64),
}

#[derive(Debug, Default)]
struct Contents {
    names: BTreeMap<String, FileId>,
    files: BTreeMap<FileId, Vec<u8>>,
}

#[derive(Debug)]
struct Inner {
    now: Contents,
    trace: Vec<Call>,
    fault: Fault,
    /// Calls until the fault begins.
    delay: u64,
    locked: bool,
    boot: u64,
    next: FileId,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct FaultDisk {
    inner: Arc<Mutex<Inner>>,
}

impl Default for FaultDisk {
    fn default() -> Self {
        Self::holding(Contents::default(), 1)
    }
}

impl FaultDisk {
    fn holding(now: Contents, boot: u64) -> Self {
        let next = now.files.keys().last().map_or(0, |id| id + 1);
        let trace = Vec::new();
        let inner = Inner {
            now,
            trace,
            fault: Fault::None,
            delay: 0,
            locked: false,
            boot,
            next,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Lets calls go wrong after `delay` more that change the disk.
    pub fn fail_after(&self, delay: u64, fault: Fault) {
        let mut inner = self.inner.lock();
        inner.delay = delay;
        inner.fault = fault;
    }

    /// Lets everything go right again.
    pub fn heal(&self) {
        self.fail_after(0, Fault::None);
    }

    /// How many calls changed the disk so far: the points at which the power can be cut.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.inner.lock().trace.len()
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.lock().now.used()
    }

    /// The files' names and sizes.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let inner = self.inner.lock();
        let size = |id| inner.now.files.get(id).map_or(0, |data| data.len() as u64);
        inner
            .now
            .names
            .iter()
            .map(|(name, id)| (name.clone(), size(id)))
            .collect()
    }

    /// Changes the bytes of a file behind the store's back; false if there is no such file.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut inner = self.inner.lock();
        let Some(id) = inner.now.names.get(name).copied() else {
            return false;
        };
        inner.now.files.get_mut(&id).map(change).is_some()
    }

    /// A copy of the disk as it reads now: what a killed process leaves.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let inner = self.inner.lock();
        let now = Contents {
            names: inner.now.names.clone(),
            files: inner.now.files.clone(),
        };
        Self::holding(now, inner.boot)
    }

    /// As [`FaultDisk::replay`], for a disk that was not empty when its trace began: call it then, and hand it the
    /// trace later with [`Replay::with_trace_of`].
    #[must_use]
    pub fn replay_from_here(&self) -> Replay {
        let inner = self.inner.lock();
        let durable = Contents {
            names: inner.now.names.clone(),
            files: inner.now.files.clone(),
        };
        let trace = Vec::new();
        Replay {
            trace,
            at: 0,
            boot: inner.boot,
            durable,
            pending: BTreeMap::new(),
            names: Vec::new(),
        }
    }

    /// Walks along the trace, to cut the power at its points.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let inner = self.inner.lock();
        Replay {
            trace: inner.trace.clone(),
            at: 0,
            boot: inner.boot,
            durable: Contents::default(),
            pending: BTreeMap::new(),
            names: Vec::new(),
        }
    }
}

impl Contents {
    fn used(&self) -> u64 {
        self.files.values().map(|data| data.len() as u64).sum()
    }

    fn write(&mut self, id: FileId, offset: u64, bytes: &[u8]) {
        let data = self.files.entry(id).or_default();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(bytes.len());
        if data.len() < to {
            data.resize(to, 0);
        }
        if let Some(part) = data.get_mut(from..to) {
            part.copy_from_slice(bytes);
        }
    }

    fn set_size(&mut self, id: FileId, size: u64) {
        self.files
            .entry(id)
            .or_default()
            .resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
    }

    fn rename(&mut self, call: &Call) {
        match call {
            Call::Create(name, id) => {
                self.names.insert(name.clone(), *id);
                self.files.entry(*id).or_default();
            }
            Call::Rename(from, to) => {
                if let Some(id) = self.names.remove(from) {
                    self.names.insert(to.clone(), id);
                }
            }
            Call::Remove(name) => {
                self.names.remove(name);
            }
            _ => {}
        }
    }

    fn forget_nameless(&mut self) {
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
    }
}

/// A walk along a disk's trace.
#[derive(Debug)]
pub struct Replay {
    trace: Vec<Call>,
    at: usize,
    boot: u64,
    durable: Contents,
    pending: BTreeMap<FileId, Vec<Call>>,
    names: Vec<Call>,
}

impl Replay {
    /// Walks along the trace of `disk` from here on.
    #[must_use]
    pub fn with_trace_of(mut self, disk: &FaultDisk) -> Self {
        self.trace.clone_from(&disk.inner.lock().trace);
        self
    }

    /// Goes on to just behind the first `calls` calls.
    pub fn advance_to(&mut self, calls: usize) {
        while self.at < calls {
            let Some(call) = self.trace.get(self.at).cloned() else {
                return;
            };
            self.at += 1;
            match &call {
                Call::Create(..) | Call::Rename(..) | Call::Remove(_) => self.names.push(call),
                Call::SyncNames => {
                    for call in self.names.drain(..) {
                        self.durable.rename(&call);
                    }
                }
                Call::Write(id, ..) | Call::SetSize(id, _) => self.pending.entry(*id).or_default().push(call),
                Call::Sync(id) => {
                    for call in self.pending.remove(id).unwrap_or_default() {
                        match call {
                            Call::Write(id, offset, bytes) => self.durable.write(id, offset, &bytes),
                            Call::SetSize(id, size) => self.durable.set_size(id, size),
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    /// A disk as a power cut here could leave it.
    #[must_use]
    pub fn power_cut(&self, rng: &dyn Rng) -> FaultDisk {
        let mut left = Contents {
            names: self.durable.names.clone(),
            files: self.durable.files.clone(),
        };
        let mut chance = Chance::new(rng);
        for call in self.pending.values().flatten() {
            match call {
                Call::Write(id, offset, bytes) => {
                    for (n, part) in bytes.chunks(SECTOR).enumerate() {
                        if chance.survives() {
                            left.write(*id, offset + (n * SECTOR) as u64, part);
                        }
                    }
                }
                Call::SetSize(id, size) if chance.survives() => left.set_size(*id, *size),
                _ => {}
            }
        }
        for call in &self.names {
            if chance.survives() {
                left.rename(call);
            }
        }
        left.forget_nameless();
        FaultDisk::holding(left, self.boot.wrapping_add(rng.next_u64() | 1))
    }

    /// A disk as a killed process leaves it here: the system keeps all that it was handed.
    #[must_use]
    pub fn process_kill(&self) -> FaultDisk {
        let mut left = Contents {
            names: self.durable.names.clone(),
            files: self.durable.files.clone(),
        };
        for call in self.pending.values().flatten() {
            match call {
                Call::Write(id, offset, bytes) => left.write(*id, *offset, bytes),
                Call::SetSize(id, size) => left.set_size(*id, *size),
                _ => {}
            }
        }
        for call in &self.names {
            left.rename(call);
        }
        left.forget_nameless();
        FaultDisk::holding(left, self.boot)
    }
}

/// Each cut has its own odds: nothing survives, everything, a beginning, or each part by chance.
struct Chance<'a> {
    rng: &'a dyn Rng,
    kind: u64,
    left: u64,
}

impl<'a> Chance<'a> {
    fn new(rng: &'a dyn Rng) -> Self {
        Self {
            rng,
            kind: rng.below(6),
            left: rng.below(12),
        }
    }

    fn survives(&mut self) -> bool {
        match self.kind {
            0 => false,
            1 => true,
            2 => {
                let survives = self.left > 0;
                self.left = self.left.saturating_sub(1);
                survives
            }
            3 => self.rng.below(8) == 0,
            4 => self.rng.below(8) != 0,
            _ => self.rng.below(2) == 0,
        }
    }
}

impl Inner {
    /// The error that a call which changes the disk meets, if any; `grows_to`: the disk's use after it.
    fn check(&mut self, fault_of: impl Fn(Fault) -> bool, grows_to: u64) -> io::Result<()> {
        if self.fault != Fault::None && self.delay > 0 {
            self.delay -= 1;
            return Ok(());
        }
        match self.fault {
            Fault::Room(room) if grows_to > room => Err(ErrorKind::StorageFull.into()),
            fault if fault_of(fault) => Err(io::Error::other("injected fault")),
            _ => Ok(()),
        }
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        self.now
            .names
            .get(name)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn name_call(&mut self, call: Call) -> io::Result<()> {
        self.check(|fault| fault == Fault::All, 0)?;
        self.now.rename(&call);
        if matches!(call, Call::SyncNames) && self.fault == Fault::ForgetsNameSyncs {
            return Ok(());
        }
        self.trace.push(call);
        Ok(())
    }
}

struct Locked(Arc<Mutex<Inner>>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

impl Disk for FaultDisk {
    fn lock(&self) -> Result<Box<dyn Send + Sync>, Error> {
        if std::mem::replace(&mut self.inner.lock().locked, true) {
            return Err(Error::Locked {
                path: self.path(""),
                owner: Some(std::process::id()),
            });
        }
        Ok(Box::new(Locked(Arc::clone(&self.inner))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner.lock().now.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner.lock();
        let id = inner.next;
        inner.next += 1;
        inner.name_call(Call::Create(name.to_owned(), id))?;
        Ok(Box::new(Open {
            inner: Arc::clone(&self.inner),
            id,
        }))
    }

    fn open(&self, name: &str, _write: bool) -> io::Result<Box<dyn DiskFile>> {
        let id = self.inner.lock().id(name)?;
        Ok(Box::new(Open {
            inner: Arc::clone(&self.inner),
            id,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.id(from)?;
        inner.name_call(Call::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.id(name)?;
        inner.name_call(Call::Remove(name.to_owned()))?;
        inner.now.forget_nameless();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.inner.lock().name_call(Call::SyncNames)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/fault-disk").join(name)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some(u128::from(self.inner.lock().boot).to_be_bytes())
    }
}

struct Open {
    inner: Arc<Mutex<Inner>>,
    id: FileId,
}

impl DiskFile for Open {
    fn size(&self) -> io::Result<u64> {
        Ok(self
            .inner
            .lock()
            .now
            .files
            .get(&self.id)
            .map_or(0, |data| data.len() as u64))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inner = self.inner.lock();
        let data = inner
            .now
            .files
            .get(&self.id)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| data.get(at..))
            .unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let size = inner.now.files.get(&self.id).map_or(0, |data| data.len() as u64);
        let grows_to = inner.now.used() + (offset + data.len() as u64).saturating_sub(size);
        let result = inner.check(|fault| matches!(fault, Fault::Writes | Fault::All), grows_to);
        // A write that fails has been done in part.
        let done = if result.is_ok() {
            data
        } else {
            data.get(..data.len() / 2).unwrap_or_default()
        };
        let fits = !matches!(inner.fault, Fault::Room(_)) || result.is_ok();
        if fits && !done.is_empty() {
            inner.now.write(self.id, offset, done);
            inner.trace.push(Call::Write(self.id, offset, done.into()));
        }
        result
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.check(|fault| fault == Fault::All, 0)?;
        inner.now.set_size(self.id, size);
        inner.trace.push(Call::SetSize(self.id, size));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.check(|fault| matches!(fault, Fault::Syncs | Fault::All), 0)?;
        if inner.fault != Fault::ForgetsSyncs {
            inner.trace.push(Call::Sync(self.id));
        }
        Ok(())
    }
}
