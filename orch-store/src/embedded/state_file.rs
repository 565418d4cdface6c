//! State files: every key as it was at one revision. Checkpoints and snapshots are both this.

use super::disk::{DiskFile, Files};
use super::format::{FileKind, FrameHead, Header, Record, RecordRef, encode_frame};
use super::reader::{FrameReader, Next};
use crate::error::Error;
use crate::mvcc::{Frozen, Mvcc};
use crate::store::{LeaseId, Revision};
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const STATE_PREFIX: &str = "state-";

/// Bytes gathered before each write, so that a long file never holds much memory.
const CHUNK: usize = 1 << 18;

pub(crate) fn state_name(revision: Revision) -> String {
    format!("{STATE_PREFIX}{:020}", revision.0)
}

/// What goes into a state file.
pub(crate) struct StateImage {
    pub(crate) keys: Frozen,
    /// The state as of this revision.
    pub(crate) revision: Revision,
    pub(crate) leases: Vec<(LeaseId, Duration)>,
    /// The leases are those after this frame of the log.
    pub(crate) leases_seq: u64,
    /// The log that continues this state starts with this frame.
    pub(crate) log_seq: u64,
    pub(crate) store: u64,
    pub(crate) salt: u64,
}

impl StateImage {
    /// Writes the image. `go_on` is asked now and then; false gives the writing up with an error.
    pub(crate) fn write(&self, file: &dyn DiskFile, go_on: &dyn Fn() -> bool) -> io::Result<u64> {
        let header = Header {
            kind: FileKind::State,
            salt: self.salt,
            seq: self.log_seq,
            revision: self.revision,
            store: self.store,
            leases_seq: self.leases_seq,
        };
        let mut out = Chunks {
            file,
            salt: self.salt,
            at: 0,
            buf: header.encode().to_vec(),
            frames: 0,
        };
        let mut keys = 0;
        let leases = self.leases.iter().map(|(id, ttl)| RecordRef::Grant(*id, *ttl));
        out.frame(self.revision, leases)?;
        for kv in self
            .keys
            .iter()
            .filter_map(|(_, versions)| versions.at(self.revision))
        {
            keys += 1;
            out.frame(self.revision, [RecordRef::Entry(kv)])?;
            if keys % 256 == 0 && !go_on() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the store is closing"));
            }
        }
        out.frame(self.revision, [RecordRef::End(keys)])?;
        out.write()?;
        Ok(out.at)
    }
}

struct Chunks<'a> {
    file: &'a dyn DiskFile,
    salt: u64,
    at: u64,
    buf: Vec<u8>,
    frames: u64,
}

impl Chunks<'_> {
    fn frame<'r>(
        &mut self,
        revision: Revision,
        records: impl IntoIterator<Item = RecordRef<'r>>,
    ) -> io::Result<()> {
        self.frames += 1;
        let head = FrameHead {
            seq: self.frames,
            revision,
            synced: 0,
        };
        encode_frame(&mut self.buf, self.salt, self.at, head, records);
        if self.buf.len() >= CHUNK {
            self.write()
        } else {
            Ok(())
        }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(self.at, &self.buf)?;
        self.at += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}

/// Reads a state file into an empty state. Returns its header.
pub(crate) fn read_state(files: &Files, name: &str, state: &mut Mvcc) -> Result<Header, Error> {
    let mut reader = FrameReader::open(files, name, FileKind::State)?;
    let mut last: Option<bytes::Bytes> = None;
    let mut frames = 0;
    loop {
        let at = reader.offset;
        let damaged = |reason: &str| files.corrupt(name, at, None, reason);
        let (head, records) = match reader.next()? {
            Next::Frame(head, records) => (head, records),
            Next::End => return Err(reader.corrupt(None, "the state file ends early")),
            Next::Bad { key, reason } => return Err(reader.corrupt(key, reason)),
        };
        frames += 1;
        if head.seq != frames || head.revision != reader.header.revision {
            return Err(damaged("a frame of the state file is out of place"));
        }
        for record in records {
            match record {
                Record::Grant { id, ttl } => state.leases.entry(id).or_default().ttl = ttl,
                Record::Entry(kv) => {
                    if last.as_ref().is_some_and(|last| *last >= kv.key) {
                        return Err(damaged("keys are out of order"));
                    }
                    last = Some(kv.key.clone());
                    state.load(Arc::new(kv));
                }
                Record::End { keys } if keys == state.keys_live && reader.offset == reader.size => {
                    state.revision = reader.header.revision;
                    state.floor = reader.header.revision;
                    return Ok(reader.header);
                }
                Record::End { .. } => {
                    return Err(damaged("the state file does not hold as many keys as it says"));
                }
                _ => return Err(damaged("a record has no place in a state file")),
            }
        }
    }
}
