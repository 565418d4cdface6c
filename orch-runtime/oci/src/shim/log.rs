//! The container's log file in CRI format: `<RFC 3339 with nanoseconds> stdout|stderr F|P <text>` a line.
//!
//! A line longer than 16 KiB is cut into pieces marked `P`; so is a last line without its end, as containerd does.
//! Trouble with the file (a full disk) loses output, never stops the container.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest text of one log line.
const LINE_MAX: usize = 16 * 1024;

/// Which stream a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Writes the log of one container.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    /// Begun lines of the two streams.
    begun: [Vec<u8>; 2],
    stamp: Stamp,
    out: Vec<u8>,
}

impl LogWriter {
    /// Opens (and makes) the file. With an empty path nothing is logged.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let mut writer = Self {
            path: path.to_owned(),
            file: None,
            begun: [Vec::new(), Vec::new()],
            stamp: Stamp::default(),
            out: Vec::new(),
        };
        writer.reopen()?;
        Ok(writer)
    }

    /// Opens the file anew by its path.
    pub(crate) fn reopen(&mut self) -> std::io::Result<()> {
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        self.file = Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(&self.path)?,
        );
        Ok(())
    }

    /// Takes output that came at `now`, in nanoseconds since the epoch.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], now: i64) {
        self.stamp.set(now);
        let begun = &mut self.begun[stream as usize];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (mut text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            while begun.len() + text.len() > LINE_MAX {
                let (now_part, later) = text.split_at(LINE_MAX - begun.len());
                line(&mut self.out, &self.stamp, stream, b'P', begun, now_part);
                begun.clear();
                text = later;
            }
            if ended {
                line(&mut self.out, &self.stamp, stream, b'F', begun, text);
                begun.clear();
            } else {
                begun.extend_from_slice(text);
            }
        }
        self.flush();
    }

    /// Writes begun lines out, for there is no more to come.
    pub(crate) fn finish(&mut self, now: i64) {
        self.stamp.set(now);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                line(&mut self.out, &self.stamp, stream, b'P', &begun, b"");
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            // Lost on a full disk; the next line is tried again.
            let _ = file.write_all(&self.out);
        }
        self.out.clear();
        self.out.shrink_to(64 * 1024);
    }
}

fn line(out: &mut Vec<u8>, stamp: &Stamp, stream: Stream, tag: u8, begun: &[u8], text: &[u8]) {
    out.extend_from_slice(&stamp.text);
    out.extend_from_slice(if stream == Stream::Stdout {
        b" stdout "
    } else {
        b" stderr "
    });
    out.extend_from_slice(&[tag, b' ']);
    out.extend_from_slice(begun);
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// A time as text, `2026-01-02T03:04:05.678901234Z`; the part up to the second is kept while it stays the same.
#[derive(Debug, Default)]
struct Stamp {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Stamp {
    fn set(&mut self, now: i64) {
        let (second, nanos) = (now.div_euclid(1_000_000_000), now.rem_euclid(1_000_000_000));
        if self.second != Some(second) {
            self.second = Some(second);
            let (days, of_day) = (second.div_euclid(86400), second.rem_euclid(86400));
            let (year, month, day) = civil(days);
            let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
            self.text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.").into_bytes();
        }
        self.text.truncate(20);
        // Writing to a vector cannot fail.
        let _ = write!(self.text, "{nanos:09}Z");
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_709_210_096_000_000_789;

    fn written(chunks: &[(Stream, &[u8])]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogWriter::open(&path).unwrap();
        for (stream, bytes) in chunks {
            log.write(*stream, bytes, T);
        }
        log.finish(T);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn times_agree_with_the_library() {
        for (seconds, nanos) in [
            (0, 0),
            (951_782_399, 1),
            (1_709_210_096, 789),
            (4_102_444_800, 999_999_999),
            (-1, 5),
        ] {
            let mut stamp = Stamp::default();
            stamp.set(seconds * 1_000_000_000 + nanos);
            let expected =
                jiff::Timestamp::from_nanosecond(i128::from(seconds) * 1_000_000_000 + i128::from(nanos));
            let expected = format!("{:.9}", expected.unwrap());
            assert_eq!(String::from_utf8(stamp.text).unwrap(), expected);
        }
    }

    #[test]
    fn streams_interleave_by_lines() {
        let text = written(&[
            (Stream::Stdout, b"one\ntw"),
            (Stream::Stderr, b"err\n"),
            (Stream::Stdout, b"o\n\nend"),
        ]);
        let t = "2024-02-29T12:34:56.000000789Z";
        let expected = format!(
            "{t} stdout F one\n{t} stderr F err\n{t} stdout F two\n{t} stdout F \n{t} stdout P end\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; LINE_MAX + 5];
        let text = written(&[
            (Stream::Stdout, &long[..7]),
            (Stream::Stdout, &long[7..]),
            (Stream::Stdout, b"\n"),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains(" P ") && lines[0].len() == 30 + 10 + LINE_MAX,
            "{}",
            lines[0].len()
        );
        assert!(lines[1].ends_with(" F xxxxx"));
        let exact = [vec![b'y'; LINE_MAX], vec![b'\n']].concat();
        assert!(written(&[(Stream::Stdout, &exact)]).contains(" F y"));
    }

    #[test]
    fn reopening_follows_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
        let mut log = LogWriter::open(&path).unwrap();
        log.write(Stream::Stdout, b"before\n", T);
        std::fs::rename(&path, &old).unwrap();
        log.reopen().unwrap();
        log.write(Stream::Stdout, b"after\n", T);
        assert!(std::fs::read_to_string(old).unwrap().ends_with("before\n"));
        assert!(std::fs::read_to_string(path).unwrap().ends_with("after\n"));
    }
}
