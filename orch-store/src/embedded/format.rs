//! The bytes in the files: a header, then frames.
//!
//! ```text
//! header  0  magic, 8 bytes: "ORCHLOG1" or "ORCHSTA1"     frame   0  magic "OFRM"
//!         8  u32 format version                                   4  u32 length of the payload
//!        12  u32 CRC-32 of the header (this field 0)              8  u32 CRC-32 (below)
//!        16  u64 salt                                            12  u32 number of records
//!        24  u64 log: sequence number of its first frame         16  u64 sequence number
//!            state: the log needed starts with this one          24  u64 the store's revision with it
//!        32  u64 revision: before the log, or of the state       32  u64 every frame up to this sequence number
//!        40  u64 identity of the store                                was on stable storage when this was written
//!        48  u64 state: its leases are those after this frame    40  payload: records; zeros up to 8 bytes
//!        56  u64 zero
//! ```
//!
//! All numbers are little endian. A frame is one transaction, or one key of a state file. Its checksum covers the file's
//! salt and the frame's own offset too, so nothing that looks like a frame elsewhere (an older file's rest, a value
//! made to look like one) is taken for one.

use crate::store::{KeyValue, LeaseId, Revision};
use bytes::Bytes;
use std::time::Duration;

/// The newest format this program writes, and reads together with all before it.
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER: usize = 64;
pub(crate) const FRAME: usize = 40;
const FRAME_MAGIC: [u8; 4] = *b"OFRM";
/// Larger than any transaction: what claims more is not a frame.
const PAYLOAD_MAX: usize = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Log,
    State,
}

impl FileKind {
    fn magic(self) -> [u8; 8] {
        match self {
            Self::Log => *b"ORCHLOG1",
            Self::State => *b"ORCHSTA1",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FileKind,
    pub(crate) salt: u64,
    pub(crate) seq: u64,
    pub(crate) revision: Revision,
    pub(crate) store: u64,
    pub(crate) leases_seq: u64,
}

/// Why a header was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged(&'static str),
    Newer(u32),
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&self.kind.magic());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for n in [
            self.salt,
            self.seq,
            self.revision.0,
            self.store,
            self.leases_seq,
            0,
        ] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&out);
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], kind: FileKind) -> Result<Self, BadHeader> {
        let damaged = BadHeader::Damaged;
        let mut copy: [u8; HEADER] = bytes
            .get(..HEADER)
            .and_then(|b| b.try_into().ok())
            .ok_or(damaged("the file header is cut short"))?;
        if copy[..7] != kind.magic()[..7] {
            return Err(damaged("the file header has another magic"));
        }
        let version = u32_at(bytes, 8).unwrap_or_default();
        let crc = u32_at(bytes, 12).unwrap_or_default();
        copy[12..16].fill(0);
        if crc32fast::hash(&copy) != crc {
            return Err(damaged("the file header's checksum does not match"));
        }
        // A newer format keeps the header's magic, version and checksum where they are.
        if version > VERSION {
            return Err(BadHeader::Newer(version));
        }
        let field = |at| u64_at(bytes, at).unwrap_or_default();
        Ok(Self {
            kind,
            salt: field(16),
            seq: field(24),
            revision: Revision(field(32)),
            store: field(40),
            leases_seq: field(48),
        })
    }
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Put {
        key: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
    },
    Delete {
        key: Bytes,
    },
    Grant {
        id: LeaseId,
        ttl: Duration,
    },
    EndLease {
        id: LeaseId,
    },
    /// History up to this was forgotten.
    Floor(Revision),
    /// In state files: a key as it was.
    Entry(KeyValue),
    /// Buffered transactions up to this revision may have been seen without being on stable storage, in the machine's
    /// run of this name.
    Reserve {
        until: Revision,
        boot: [u8; 16],
    },
    /// The store was closed with everything on stable storage.
    Clean,
    /// After a possible loss: the sequence goes on here, everything before is compacted.
    Jump(Revision),
    /// In state files: the end, with the number of keys.
    End {
        keys: u64,
    },
    /// The end of a full segment: the log goes on in the one that starts with this frame.
    Next {
        seq: u64,
    },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const GRANT: u8 = 3;
const END_LEASE: u8 = 4;
const FLOOR: u8 = 5;
const ENTRY: u8 = 6;
const RESERVE: u8 = 7;
const CLEAN: u8 = 8;
const JUMP: u8 = 9;
const END: u8 = 10;
const NEXT: u8 = 11;

/// A record to be written, borrowing what it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RecordRef<'a> {
    Put(&'a KeyValue),
    Delete(&'a [u8]),
    Grant(LeaseId, Duration),
    EndLease(LeaseId),
    Floor(Revision),
    Entry(&'a KeyValue),
    Reserve(Revision, [u8; 16]),
    Clean,
    Jump(Revision),
    End(u64),
    Next(u64),
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

impl RecordRef<'_> {
    fn encode(self, out: &mut Vec<u8>) {
        let one = |out: &mut Vec<u8>, tag: u8, n: u64| {
            out.push(tag);
            out.extend_from_slice(&n.to_le_bytes());
        };
        match self {
            Self::Put(kv) => {
                out.push(PUT);
                out.extend_from_slice(&length(kv.key.len()));
                out.extend_from_slice(&length(kv.value.len()));
                out.extend_from_slice(&kv.lease.map_or(0, |l| l.0).to_le_bytes());
                out.extend_from_slice(&kv.key);
                out.extend_from_slice(&kv.value);
            }
            Self::Delete(key) => {
                out.push(DELETE);
                out.extend_from_slice(&length(key.len()));
                out.extend_from_slice(key);
            }
            Self::Grant(id, ttl) => {
                one(out, GRANT, id.0);
                out.extend_from_slice(&u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
            }
            Self::EndLease(id) => one(out, END_LEASE, id.0),
            Self::Floor(revision) => one(out, FLOOR, revision.0),
            Self::Entry(kv) => {
                out.push(ENTRY);
                out.extend_from_slice(&length(kv.key.len()));
                out.extend_from_slice(&length(kv.value.len()));
                let lease = kv.lease.map_or(0, |l| l.0);
                for n in [lease, kv.create_revision.0, kv.mod_revision.0, kv.version] {
                    out.extend_from_slice(&n.to_le_bytes());
                }
                out.extend_from_slice(&kv.key);
                out.extend_from_slice(&kv.value);
            }
            Self::Reserve(until, boot) => {
                one(out, RESERVE, until.0);
                out.extend_from_slice(&boot);
            }
            Self::Clean => out.push(CLEAN),
            Self::Jump(revision) => one(out, JUMP, revision.0),
            Self::End(keys) => one(out, END, keys),
            Self::Next(seq) => one(out, NEXT, seq),
        }
    }
}

/// Takes fields off the front of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    fn len(&mut self) -> Option<usize> {
        u32_at(self.take(4)?, 0)?.try_into().ok()
    }
    fn u64(&mut self) -> Option<u64> {
        u64_at(self.take(8)?, 0)
    }
    fn lease(&mut self) -> Option<Option<LeaseId>> {
        self.u64().map(|id| (id != 0).then_some(LeaseId(id)))
    }

    fn record(&mut self) -> Option<Record> {
        Some(match self.u8()? {
            PUT => {
                let (key, value, lease) = (self.len()?, self.len()?, self.lease()?);
                let key = Bytes::copy_from_slice(self.take(key)?);
                Record::Put {
                    key,
                    value: Bytes::copy_from_slice(self.take(value)?),
                    lease,
                }
            }
            DELETE => {
                let key = self.len()?;
                Record::Delete {
                    key: Bytes::copy_from_slice(self.take(key)?),
                }
            }
            GRANT => Record::Grant {
                id: LeaseId(self.u64()?),
                ttl: Duration::from_nanos(self.u64()?),
            },
            END_LEASE => Record::EndLease {
                id: LeaseId(self.u64()?),
            },
            FLOOR => Record::Floor(Revision(self.u64()?)),
            ENTRY => {
                let (key, value, lease) = (self.len()?, self.len()?, self.lease()?);
                let (create_revision, mod_revision) = (Revision(self.u64()?), Revision(self.u64()?));
                let version = self.u64()?;
                let key = Bytes::copy_from_slice(self.take(key)?);
                let value = Bytes::copy_from_slice(self.take(value)?);
                Record::Entry(KeyValue {
                    key,
                    value,
                    create_revision,
                    mod_revision,
                    version,
                    lease,
                })
            }
            RESERVE => Record::Reserve {
                until: Revision(self.u64()?),
                boot: self.take(16)?.try_into().ok()?,
            },
            CLEAN => Record::Clean,
            JUMP => Record::Jump(Revision(self.u64()?)),
            END => Record::End { keys: self.u64()? },
            NEXT => Record::Next { seq: self.u64()? },
            _ => return None,
        })
    }
}

/// A frame's fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) seq: u64,
    pub(crate) revision: Revision,
    pub(crate) synced: u64,
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

fn checksum(salt: u64, offset: u64, frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(frame.get(..8).unwrap_or_default());
    crc.update(frame.get(12..).unwrap_or_default());
    crc.finalize()
}

/// Appends a frame to `out`, whose first byte lies at `base` in the file.
pub(crate) fn encode_frame<'a>(
    out: &mut Vec<u8>,
    salt: u64,
    base: u64,
    head: FrameHead,
    records: impl IntoIterator<Item = RecordRef<'a>>,
) {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&[0; 12]);
    for n in [head.seq, head.revision.0, head.synced] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    let mut count = 0u32;
    for record in records {
        record.encode(out);
        count += 1;
    }
    let payload = out.len() - start - FRAME;
    out.resize(start + FRAME + padded(payload), 0);
    if let Some(frame) = out.get_mut(start..) {
        frame[4..8].copy_from_slice(&length(payload));
        frame[12..16].copy_from_slice(&count.to_le_bytes());
        let crc = checksum(salt, base + start as u64, frame);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The whole length of the frame that starts with these bytes, padding included; none if no frame starts so.
pub(crate) fn frame_len(head: &[u8]) -> Option<usize> {
    if head.get(..4)? != FRAME_MAGIC {
        return None;
    }
    let payload = u32_at(head, 4)? as usize;
    (payload <= PAYLOAD_MAX).then(|| FRAME + padded(payload))
}

/// Checks a whole frame and takes it apart. Errors say what does not match.
pub(crate) fn decode_frame(
    frame: &[u8],
    salt: u64,
    offset: u64,
) -> Result<(FrameHead, Vec<Record>), &'static str> {
    if u32_at(frame, 8) != Some(checksum(salt, offset, frame)) {
        return Err("the checksum does not match");
    }
    let cut = "the frame is cut short";
    let field = |at| u64_at(frame, at).ok_or(cut);
    let head = FrameHead {
        seq: field(16)?,
        revision: Revision(field(24)?),
        synced: field(32)?,
    };
    let payload = u32_at(frame, 4).ok_or(cut)? as usize;
    let mut fields = Fields(frame.get(FRAME..FRAME + payload).ok_or(cut)?);
    let count = u32_at(frame, 12).ok_or(cut)?;
    let mut records = Vec::with_capacity(count.min(1024) as usize);
    for _ in 0..count {
        records.push(fields.record().ok_or("a record has no meaning")?);
    }
    if !fields.0.is_empty() {
        return Err("there is more than the records");
    }
    Ok((head, records))
}

/// The first key in a frame that is damaged, as far as its lengths still make sense.
pub(crate) fn guess_key(frame: &[u8]) -> Option<String> {
    let mut fields = Fields(frame.get(FRAME..)?);
    let key = match fields.u8()? {
        PUT => {
            let key = fields.len()?;
            fields.take(12)?;
            fields.take(key)?
        }
        DELETE => {
            let key = fields.len()?;
            fields.take(key)?
        }
        ENTRY => {
            let key = fields.len()?;
            fields.take(36)?;
            fields.take(key)?
        }
        _ => return None,
    };
    (!key.is_empty() && key.len() <= crate::store::KEY_BYTES_MAX).then(|| key.escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kv(key: &[u8], value: &[u8]) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            create_revision: Revision(3),
            mod_revision: Revision(9),
            version: 4,
            lease: Some(LeaseId(7)),
        }
    }

    fn sample(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<Record>) {
        let kv = kv(key, value);
        let ttl = Duration::from_millis(1500);
        let records = [
            RecordRef::Put(&kv),
            RecordRef::Delete(key),
            RecordRef::Grant(LeaseId(7), ttl),
            RecordRef::EndLease(LeaseId(7)),
            RecordRef::Floor(Revision(5)),
            RecordRef::Entry(&kv),
            RecordRef::Reserve(Revision(6), [8; 16]),
            RecordRef::Clean,
            RecordRef::Jump(Revision(11)),
            RecordRef::End(12),
            RecordRef::Next(13),
        ];
        let mut out = Vec::new();
        let head = FrameHead {
            seq: 5,
            revision: Revision(9),
            synced: 4,
        };
        encode_frame(&mut out, 77, 64, head, records);
        let read = vec![
            Record::Put {
                key: kv.key.clone(),
                value: kv.value.clone(),
                lease: kv.lease,
            },
            Record::Delete { key: kv.key.clone() },
            Record::Grant { id: LeaseId(7), ttl },
            Record::EndLease { id: LeaseId(7) },
            Record::Floor(Revision(5)),
            Record::Entry(kv),
            Record::Reserve {
                until: Revision(6),
                boot: [8; 16],
            },
            Record::Clean,
            Record::Jump(Revision(11)),
            Record::End { keys: 12 },
            Record::Next { seq: 13 },
        ];
        (out, read)
    }

    proptest! {
        #[test]
        fn frames_come_back_and_any_damage_is_seen(key in prop::collection::vec(any::<u8>(), 1..40), value in prop::collection::vec(any::<u8>(), 0..200), flip in any::<prop::sample::Index>()) {
            let (mut bytes, records) = sample(&key, &value);
            prop_assert_eq!(frame_len(&bytes), Some(bytes.len()));
            prop_assert_eq!(decode_frame(&bytes, 77, 64).map(|(_, r)| r), Ok(records));
            prop_assert!(decode_frame(&bytes, 78, 64).is_err());
            prop_assert!(decode_frame(&bytes, 77, 72).is_err());
            prop_assert_eq!(guess_key(&bytes), Some(key.escape_ascii().to_string()));
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let len = frame_len(&bytes);
            prop_assert!(len != Some(bytes.len()) || decode_frame(&bytes, 77, 64).is_err());
        }

        #[test]
        fn garbage_is_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _len = frame_len(&bytes);
            prop_assert!(decode_frame(&bytes, 1, 64).is_err());
            let _key = guess_key(&bytes);
            prop_assert!(Header::decode(&bytes, FileKind::Log).is_err());
        }
    }

    #[test]
    fn headers() {
        let header = Header {
            kind: FileKind::Log,
            salt: 1,
            seq: 2,
            revision: Revision(3),
            store: 4,
            leases_seq: 5,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes, FileKind::Log), Ok(header));
        assert!(matches!(
            Header::decode(&bytes, FileKind::State),
            Err(BadHeader::Damaged(_))
        ));
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let seventh_of_magic = bit / 8 == 7;
            assert!(
                seventh_of_magic || Header::decode(&flipped, FileKind::Log).is_err(),
                "bit {bit}"
            );
        }
        let mut newer = bytes;
        newer[8] = 2;
        newer[12..16].fill(0);
        let crc = crc32fast::hash(&newer);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&newer, FileKind::Log), Err(BadHeader::Newer(2)));
    }
}
