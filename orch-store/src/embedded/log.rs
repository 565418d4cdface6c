//! The log: segments of frames, written at one end by one thread at a time.
//!
//! Frames are staged, then written and synced together. After an error nothing of the group counts: the segment is cut
//! back to what is known to be on stable storage, at once if possible, else before the next write. Buffered frames that
//! were published already are kept in memory until they are synced, and are written again then.

use super::disk::{DiskFile, Files};
use super::format::{FileKind, FrameHead, HEADER, Header, RecordRef, encode_frame};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::mvcc::{Effect, LeaseChange};
use crate::store::{EventKind, Revision};
use orch_core::clock::Clock;
use std::sync::Arc;

pub(crate) const LOG_PREFIX: &str = "log-";

/// The name of the segment whose first frame has this sequence number.
pub(crate) fn segment_name(seq: u64) -> String {
    format!("{LOG_PREFIX}{seq:020}")
}

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) seq: u64,
    /// The store's revision before its first frame.
    pub(crate) revision: Revision,
    pub(crate) size: u64,
}

/// The end of the log as recovery left it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogEnd {
    pub(crate) store: u64,
    pub(crate) seq: u64,
}

pub(crate) struct Log {
    files: Files,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Space is claimed from the file system in steps of this: a sync that need not move the file's end is cheaper.
    grow_bytes: u64,
    store: u64,
    file: Box<dyn DiskFile>,
    name: String,
    salt: u64,
    /// The end of what is written, and the sequence number of the last frame before it.
    end: u64,
    seq: u64,
    /// The same for what is on stable storage.
    synced_end: u64,
    synced_seq: u64,
    /// The end of the file: zeros from `end` on.
    claimed: u64,
    /// Written, published, not yet synced: what lies between `synced_end` and `end`.
    unsynced: Vec<u8>,
    staged: Vec<u8>,
    staged_seq: u64,
    broken: bool,
}

/// Whether staged frames must be on stable storage when a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Now,
    Later,
}

impl Log {
    /// Goes on at the end of an existing segment, everything before which is on stable storage.
    pub(crate) fn resume(
        files: &Files,
        last: &Segment,
        salt: u64,
        at: LogEnd,
        grow_bytes: u64,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let file = files
            .0
            .open(&last.name, true)
            .map_err(files.fail("open", &last.name))?;
        Ok(Self {
            files: files.clone(),
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            grow_bytes,
            store: at.store,
            file,
            name: last.name.clone(),
            salt,
            end: last.size,
            seq: at.seq,
            synced_end: last.size,
            synced_seq: at.seq,
            claimed: last.size,
            unsynced: Vec::new(),
            staged: Vec::new(),
            staged_seq: at.seq,
            broken: false,
        })
    }

    /// Makes the first segment of a store, or the next one.
    pub(crate) fn make_segment(
        files: &Files,
        store: u64,
        seq: u64,
        revision: Revision,
        salt: u64,
    ) -> Result<(Segment, Box<dyn DiskFile>), Error> {
        let name = segment_name(seq);
        let header = Header {
            kind: FileKind::Log,
            salt,
            seq,
            revision,
            store,
            leases_seq: 0,
        };
        let file = files.publish(&name, |file| file.write_at(0, &header.encode()))?;
        Ok((
            Segment {
                name,
                seq,
                revision,
                size: HEADER as u64,
            },
            file,
        ))
    }

    /// Cuts off everything behind the end and makes what is before it durable.
    pub(crate) fn cut(&mut self) -> Result<(), Error> {
        self.broken = true;
        self.repair()
    }

    /// Adds a frame to the next write.
    pub(crate) fn stage<'a>(&mut self, revision: Revision, records: impl IntoIterator<Item = RecordRef<'a>>) {
        self.staged_seq += 1;
        let head = FrameHead {
            seq: self.staged_seq,
            revision,
            synced: self.synced_seq,
        };
        encode_frame(&mut self.staged, self.salt, self.end, head, records);
    }

    /// Adds an effect's frame to the next write.
    pub(crate) fn stage_effect(&mut self, effect: &Effect) {
        let events = effect.events.iter().map(|event| match event.kind {
            EventKind::Put => RecordRef::Put(&event.kv),
            EventKind::Delete => RecordRef::Delete(&event.kv.key),
        });
        let leases = effect.leases.iter().map(|change| match *change {
            LeaseChange::Grant(id, ttl) => RecordRef::Grant(id, ttl),
            LeaseChange::End(id) => RecordRef::EndLease(id),
        });
        let floor = effect.floor.map(RecordRef::Floor);
        // Grants come before the puts that may use them; ends after the deletions they cause.
        self.stage(effect.revision, events.chain(leases).chain(floor));
    }

    pub(crate) fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.synced_seq < self.seq
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn size(&self) -> u64 {
        self.end
    }

    /// Takes back what was staged.
    fn unstage(&mut self) {
        self.staged.clear();
        self.staged.shrink_to(1 << 20);
        self.staged_seq = self.seq;
    }

    /// Writes what is staged, as durable as asked. After an error none of it counts.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`]: nothing is left of it. [`Error::Uncertain`]: only if the machine stops
    /// before the next successful write can some of it come back.
    pub(crate) fn write(&mut self, sync: Sync) -> Result<(), Error> {
        let result = self.try_write(sync);
        if result.is_err() {
            self.metrics.disk_errors.add(1);
        }
        self.unstage();
        result
    }

    fn try_write(&mut self, sync: Sync) -> Result<(), Error> {
        // Nothing of this group has touched the disk if the repair of an earlier failure fails.
        self.repair()?;
        let written = self.write_staged().and_then(|()| match sync {
            Sync::Now => self.sync(),
            Sync::Later => Ok(()),
        });
        let Err(error) = written else {
            self.end += self.staged.len() as u64;
            self.seq = self.staged_seq;
            match sync {
                Sync::Now => self.all_synced(),
                Sync::Later => self.unsynced.extend_from_slice(&self.staged),
            }
            return Ok(());
        };
        self.broken = true;
        match self.repair() {
            Ok(()) => Err(error),
            Err(_) => Err(Error::Uncertain {
                reason: error.to_string(),
            }),
        }
    }

    fn write_staged(&mut self) -> Result<(), Error> {
        let frames = self.staged.len();
        let end = self.end + frames as u64;
        if end > self.claimed && self.grow_bytes > 0 {
            let claim = end.next_multiple_of(self.grow_bytes);
            self.staged
                .resize(frames + usize::try_from(claim - end).unwrap_or(0), 0);
        }
        let mut written = self.file.write_at(self.end, &self.staged);
        if written.is_err() && self.staged.len() > frames {
            // Perhaps there is room for the frames alone.
            self.staged.truncate(frames);
            written = self.file.write_at(self.end, &self.staged);
        }
        self.claimed = self.claimed.max(self.end + self.staged.len() as u64);
        self.staged.truncate(frames);
        written.map_err(self.files.fail("write", &self.name))
    }

    fn sync(&self) -> Result<(), Error> {
        let before = self.clock.monotonic();
        let synced = self.file.sync().map_err(self.files.fail("sync", &self.name));
        self.metrics.sync(self.clock.monotonic().since(before));
        synced
    }

    fn all_synced(&mut self) {
        self.synced_end = self.end;
        self.synced_seq = self.seq;
        self.unsynced.clear();
        self.unsynced.shrink_to(1 << 16);
    }

    /// Cuts the segment back to what is on stable storage, then writes again what was published since.
    fn repair(&mut self) -> Result<(), Error> {
        if !self.broken {
            return Ok(());
        }
        self.file
            .set_size(self.synced_end)
            .map_err(self.files.fail("cut", &self.name))?;
        self.claimed = self.synced_end;
        self.file.sync().map_err(self.files.fail("sync", &self.name))?;
        if !self.unsynced.is_empty() {
            let rewrite = self.file.write_at(self.synced_end, &self.unsynced);
            rewrite.map_err(self.files.fail("write", &self.name))?;
            self.claimed = self.end;
            self.file.sync().map_err(self.files.fail("sync", &self.name))?;
        }
        self.all_synced();
        self.broken = false;
        Ok(())
    }

    /// Syncs what was written without it.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if !self.is_dirty() && !self.broken {
            return Ok(());
        }
        self.write(Sync::Now)
    }

    /// Goes on in a new segment. After an error it goes on in the old one.
    pub(crate) fn rotate(&mut self, revision: Revision, salt: u64) -> Result<Segment, Error> {
        self.flush()?;
        // The new segment first, then the old one's last frame, which names it: from then on it must be there.
        let next = self.seq + 2;
        let made = Self::make_segment(&self.files, self.store, next, revision, salt).and_then(|made| {
            self.stage(revision, [RecordRef::Next(next)]);
            self.write(Sync::Now).map(|()| made)
        });
        let (segment, file) = match made {
            Ok(made) => made,
            Err(error) => {
                // If it exists nevertheless, recovery knows an empty segment that is not wanted.
                let _left_over = self.files.0.remove(&segment_name(next));
                return Err(error);
            }
        };
        // Gives back the claimed rest. It is zeros: losing this cut in a crash changes nothing.
        let _kept_long = self.file.set_size(self.end);
        self.name.clone_from(&segment.name);
        self.file = file;
        self.salt = salt;
        self.end = segment.size;
        self.synced_end = segment.size;
        self.claimed = segment.size;
        Ok(segment)
    }

    /// Gives back claimed space, at closing.
    pub(crate) fn trim(&mut self) {
        if !self.broken && self.file.set_size(self.end).is_ok() {
            self.claimed = self.end;
        }
    }
}
