//! From files to state: the newest state file, then the log from there on.
//!
//! What is accepted is exactly what was acknowledged, perhaps followed by whole frames of the last, unacknowledged
//! write. Anything else is [`Error::Corrupt`], and nothing is changed. What a crash may leave behind, and what happens
//! to it:
//!
//! - drafts (`*.tmp`), state files older than the newest, segments below the one it needs: removed
//! - an incomplete last write at the end of the last segment: cut off
//! - an empty segment whose making was interrupted: removed

use super::disk::Files;
use super::format::{FileKind, HEADER, Record};
use super::log::{LOG_PREFIX, LogEnd, Segment, segment_name};
use super::reader::{FrameReader, Next};
use super::state_file::{STATE_PREFIX, read_state};
use crate::error::Error;
use crate::mvcc::{Effect, HistoryLimits, LeaseChange, Mvcc, Wakes, deletion};
use crate::store::{EventKind, KeyValue, Revision, WatchEvent};
use std::sync::Arc;

/// What the files hold.
pub(crate) struct Recovered {
    pub(crate) state: Mvcc,
    pub(crate) end: LogEnd,
    /// The log's files in order; none in a new store.
    pub(crate) segments: Vec<Segment>,
    pub(crate) last_salt: u64,
    pub(crate) state_bytes: u64,
    /// Buffered transactions up to this revision may have been lost, unless the machine still runs the named run.
    pub(crate) reserved: Option<(Revision, [u8; 16])>,
    /// Bytes behind the end of the log that are to be cut off.
    pub(crate) torn_bytes: u64,
    /// Files that are to be removed.
    pub(crate) litter: Vec<String>,
}

/// Reads everything and changes nothing.
pub(crate) fn recover(files: &Files, limits: HistoryLimits) -> Result<Recovered, Error> {
    let names = files.0.list().map_err(files.fail("list", ""))?;
    let mut litter: Vec<String> = names.iter().filter(|n| n.ends_with(".tmp")).cloned().collect();
    let numbered = |prefix: &str| -> Vec<(u64, String)> {
        let number = |name: &String| name.strip_prefix(prefix).and_then(|n| n.parse().ok());
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|n| Some((number(n)?, n.clone())))
            .collect();
        found.sort();
        found
    };
    let (mut states, logs) = (numbered(STATE_PREFIX), numbered(LOG_PREFIX));
    let mut replay = Replay {
        state: Mvcc::new(limits),
        seq: 0,
        base: Revision(0),
        leases_seq: 0,
        reserved: None,
        next: None,
    };
    let mut store = None;
    let mut state_bytes = 0;
    if let Some((_, name)) = states.pop() {
        let header = read_state(files, &name, &mut replay.state)?;
        store = Some(header.store);
        replay.seq = header.seq.saturating_sub(1);
        replay.base = header.revision;
        replay.leases_seq = header.leases_seq;
        state_bytes = files
            .0
            .open(&name, false)
            .and_then(|f| f.size())
            .map_err(files.fail("read", &name))?;
    }
    litter.extend(states.into_iter().map(|(_, name)| name));
    let first = replay.seq + 1;
    let mut segments: Vec<Segment> = Vec::new();
    let (mut torn_bytes, mut last_salt) = (0, 0);
    let mut logs = logs.into_iter().peekable();
    while let Some((seq, name)) = logs.next() {
        if seq < first {
            litter.push(name);
            continue;
        }
        let mut reader = FrameReader::open(files, &name, FileKind::Log)?;
        if *store.get_or_insert(reader.header.store) != reader.header.store || reader.header.seq != seq {
            return Err(reader.corrupt(None, "the segment belongs elsewhere"));
        }
        if seq != replay.seq + 1 {
            // A segment whose making was interrupted stays empty; the log may have gone on in the one before it.
            if seq <= replay.seq + 2 && replay.next.is_none() && matches!(reader.next()?, Next::End) {
                litter.push(name);
                continue;
            }
            let reason = format!(
                "the log lacks what comes before it, from frame {}",
                replay.seq + 1
            );
            return Err(files.corrupt(&name, 0, None, reason));
        }
        let revision = replay.state.revision;
        if reader.header.revision > revision {
            return Err(reader.corrupt(None, "the state that the segment continues is missing"));
        }
        replay.next = None;
        replay.segment(&mut reader, logs.peek().is_none())?;
        let (size, salt) = (reader.offset, reader.header.salt);
        torn_bytes = reader.size - size;
        last_salt = salt;
        segments.push(Segment {
            name,
            seq,
            revision,
            size,
        });
    }
    if segments.first().map(|s| s.seq) != store.map(|_| first) {
        let reason = format!("the segment with frame {first}, which the state needs, is missing");
        return Err(files.corrupt(&segment_name(first), 0, None, reason));
    }
    if let Some(next) = replay.next {
        let reason = "the segment is missing, the one before it says that it was there";
        return Err(files.corrupt(&segment_name(next), 0, None, reason));
    }
    if replay.seq < replay.leases_seq {
        let last = segments.last().map_or_else(String::new, |s| s.name.clone());
        let reason = "the log ends before the state that was made from it";
        return Err(files.corrupt(
            &last,
            segments.last().map_or(HEADER as u64, |s| s.size),
            None,
            reason,
        ));
    }
    // Puts that were replayed may have named leases that ended before the state file was made.
    replay.state.leases.retain(|_, lease| !lease.ttl.is_zero());
    let end = LogEnd {
        store: store.unwrap_or(0),
        seq: replay.seq,
    };
    let (state, reserved) = (replay.state, replay.reserved);
    Ok(Recovered {
        state,
        end,
        segments,
        last_salt,
        state_bytes,
        reserved,
        torn_bytes,
        litter,
    })
}

struct Replay {
    state: Mvcc,
    /// The last frame read.
    seq: u64,
    /// The state file's revision: changes up to it are in the state already.
    base: Revision,
    leases_seq: u64,
    reserved: Option<(Revision, [u8; 16])>,
    /// The segment that must follow.
    next: Option<u64>,
}

impl Replay {
    fn segment(&mut self, reader: &mut FrameReader<'_>, is_last: bool) -> Result<(), Error> {
        loop {
            let at = reader.offset;
            match reader.next()? {
                Next::Frame(head, records) if head.seq == self.seq + 1 => {
                    self.seq = head.seq;
                    let key = records.iter().find_map(key_of);
                    let applied = self.frame(head.revision, records);
                    applied.map_err(|reason| {
                        reader.offset = at;
                        reader.corrupt(key, reason)
                    })?;
                }
                Next::Frame(head, records) => {
                    reader.offset = at;
                    let reason = format!("frame {} follows frame {}", head.seq, self.seq);
                    return Err(reader.corrupt(records.iter().find_map(key_of), reason));
                }
                // An early end of an inner segment shows in the next one's first number.
                Next::End if !is_last || !self.is_known_synced() => return Ok(()),
                Next::End => return Err(reader.corrupt(None, "the log ends early")),
                Next::Bad { key, reason } => {
                    let damaged = !is_last || self.is_known_synced() || reader.proves_synced(self.seq + 1)?;
                    return if damaged {
                        Err(reader.corrupt(key, reason))
                    } else {
                        Ok(())
                    };
                }
            }
        }
    }

    /// Whether the state file was made from frames behind the last one read.
    fn is_known_synced(&self) -> bool {
        self.seq < self.leases_seq
    }

    fn frame(&mut self, revision: Revision, records: Vec<Record>) -> Result<(), &'static str> {
        let known = revision <= self.base;
        let mut effect = Effect {
            revision,
            events: Vec::new(),
            leases: Vec::new(),
            floor: None,
        };
        let mut jumped = false;
        self.next = None;
        for record in records {
            match record {
                Record::Put { .. } | Record::Delete { .. } if known => {}
                Record::Put { key, value, lease } => {
                    let prev = self.state.get(&key).cloned();
                    let kv = KeyValue {
                        key: prev.as_ref().map_or(key, |kv| kv.key.clone()),
                        value,
                        create_revision: prev.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: prev.as_ref().map_or(0, |kv| kv.version) + 1,
                        lease,
                    };
                    effect.events.push(Arc::new(WatchEvent {
                        kind: EventKind::Put,
                        kv: Arc::new(kv),
                        prev,
                    }));
                }
                Record::Delete { key } => {
                    let prev = self
                        .state
                        .get(&key)
                        .cloned()
                        .ok_or("it deletes a key that is not there")?;
                    effect.events.push(Arc::new(deletion(prev, revision)));
                }
                Record::Grant { .. } | Record::EndLease { .. } if self.seq <= self.leases_seq => {}
                Record::Grant { id, ttl } => effect.leases.push(LeaseChange::Grant(id, ttl)),
                Record::EndLease { id } => effect.leases.push(LeaseChange::End(id)),
                Record::Floor(floor) => effect.floor = Some(floor),
                Record::Reserve { until, boot } => self.reserved = Some((until, boot)),
                Record::Next { seq } => self.next = Some(seq),
                Record::Clean => self.reserved = None,
                Record::Jump(to) => {
                    self.reserved = None;
                    effect.floor = Some(to);
                    jumped = true;
                }
                Record::Entry(_) | Record::End { .. } => return Err("a record has no place in a log"),
            }
        }
        if known {
            effect.revision = self.state.revision;
        } else {
            let step = u64::from(!effect.events.is_empty());
            if !jumped && revision.0 != self.state.revision.0 + step || revision < self.state.revision {
                return Err("its revision does not follow the one before");
            }
        }
        self.state.apply(&effect, &mut Wakes::default());
        self.state.prune(usize::MAX);
        Ok(())
    }
}

fn key_of(record: &Record) -> Option<String> {
    match record {
        Record::Put { key, .. } | Record::Delete { key } => Some(key.escape_ascii().to_string()),
        Record::Entry(kv) => Some(kv.key.escape_ascii().to_string()),
        _ => None,
    }
}
