//! Reading a file frame by frame, and telling a torn end from damage.

use super::disk::{DiskFile, Files};
use super::format::{
    BadHeader, FRAME, FileKind, FrameHead, HEADER, Header, Record, VERSION, decode_frame, frame_len,
    guess_key,
};
use crate::error::Error;

/// How much is read at once.
const WINDOW: usize = 1 << 20;

pub(crate) struct FrameReader<'a> {
    files: &'a Files,
    name: &'a str,
    file: Box<dyn DiskFile>,
    pub(crate) header: Header,
    pub(crate) size: u64,
    /// Where the next frame starts.
    pub(crate) offset: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// What lies at the reader's offset.
pub(crate) enum Next {
    Frame(FrameHead, Vec<Record>),
    /// Only zeros, or nothing, up to the end of the file.
    End,
    /// Something that is not a whole frame.
    Bad {
        key: Option<String>,
        reason: &'static str,
    },
}

impl<'a> FrameReader<'a> {
    pub(crate) fn open(files: &'a Files, name: &'a str, kind: FileKind) -> Result<Self, Error> {
        let file = files.0.open(name, false).map_err(files.fail("open", name))?;
        let size = file.size().map_err(files.fail("read", name))?;
        let header = Header {
            kind,
            salt: 0,
            seq: 0,
            revision: Default::default(),
            store: 0,
            leases_seq: 0,
        };
        let mut reader = Self {
            files,
            name,
            file,
            header,
            size,
            offset: HEADER as u64,
            window: Vec::new(),
            window_at: 0,
        };
        let head = reader.bytes(0, HEADER)?;
        reader.header = Header::decode(head, kind).map_err(|bad| match bad {
            BadHeader::Damaged(reason) => files.corrupt(name, 0, None, reason),
            BadHeader::Newer(found) => Error::NewerFormat {
                file: files.0.path(name),
                found,
                supported: VERSION,
            },
        })?;
        Ok(reader)
    }

    /// Up to `len` bytes at `offset`: fewer only at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        let len = len.min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let inside = offset
            .checked_sub(self.window_at)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(at) = inside.filter(|at| at + len <= self.window.len()) {
            return Ok(self.window.get(at..at + len).unwrap_or_default());
        }
        let want = len
            .max(WINDOW)
            .min(usize::try_from(self.size - offset.min(self.size)).unwrap_or(usize::MAX));
        self.window.resize(want, 0);
        self.window_at = offset;
        let mut got = 0;
        while let Some(rest) = self.window.get_mut(got..).filter(|rest| !rest.is_empty()) {
            let n = self
                .file
                .read_at(offset + got as u64, rest)
                .map_err(self.files.fail("read", self.name))?;
            if n == 0 {
                break;
            }
            got += n;
        }
        self.window.truncate(got);
        Ok(self.window.get(..len).unwrap_or(&self.window))
    }

    /// Reads the frame at the offset and steps behind it; anything else leaves the offset where it is.
    pub(crate) fn next(&mut self) -> Result<Next, Error> {
        let (offset, salt) = (self.offset, self.header.salt);
        let head = self.bytes(offset, FRAME)?;
        let Some(len) = frame_len(head).filter(|_| head.len() == FRAME) else {
            let reason = if head.len() < FRAME {
                "the frame is cut short"
            } else {
                "no frame starts here"
            };
            return Ok(if self.only_zeros()? {
                Next::End
            } else {
                Next::Bad { key: None, reason }
            });
        };
        let frame = self.bytes(offset, len)?;
        if frame.len() < len {
            return Ok(Next::Bad {
                key: guess_key(frame),
                reason: "the frame is cut short",
            });
        }
        match decode_frame(frame, salt, offset) {
            Ok((head, records)) => {
                self.offset += len as u64;
                Ok(Next::Frame(head, records))
            }
            Err(reason) => Ok(Next::Bad {
                key: guess_key(frame),
                reason,
            }),
        }
    }

    fn only_zeros(&mut self) -> Result<bool, Error> {
        let mut at = self.offset;
        while at < self.size {
            let bytes = self.bytes(at, WINDOW)?;
            if bytes.is_empty() || bytes.iter().any(|b| *b != 0) {
                return Ok(bytes.is_empty());
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// Steps to the next whole frame behind the offset, if there is one.
    pub(crate) fn resync(&mut self) -> Result<bool, Error> {
        self.offset = self.offset.next_multiple_of(8);
        while self.offset + (FRAME as u64) < self.size {
            self.offset += 8;
            let (offset, salt) = (self.offset, self.header.salt);
            let Some(len) = frame_len(self.bytes(offset, FRAME)?) else {
                continue;
            };
            if offset + len as u64 <= self.size
                && decode_frame(self.bytes(offset, len)?, salt, offset).is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether something behind the offset proves that frame `seq`, which should be here, was on stable storage.
    ///
    /// If so, it is damage. If not, it belongs to the last write before a crash, which nobody was told of.
    pub(crate) fn proves_synced(&mut self, seq: u64) -> Result<bool, Error> {
        let start = self.offset;
        let mut proven = false;
        while !proven && self.resync()? {
            while let Next::Frame(head, _) = self.next()? {
                proven |= head.synced >= seq;
            }
        }
        self.offset = start;
        Ok(proven)
    }

    pub(crate) fn corrupt(&self, key: Option<String>, reason: impl Into<String>) -> Error {
        self.files.corrupt(self.name, self.offset, key, reason)
    }
}
