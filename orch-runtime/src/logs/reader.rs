//! Reading a log file from its end or a time, and following it through rotation.

use super::line::{LogLine, parse};
use bytes::Bytes;
use jiff::Timestamp;
use orch_core::Env;
use std::{
    fs::File,
    future::Future,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;

/// What is asked for (`PodLogOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written later.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what was written at this time or later.
    pub since: Option<Timestamp>,
    /// Each line with its time before it.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only this stream: `true` the error output, `false` the output; `None` both.
    pub only_stderr: Option<bool>,
}

/// Files that the rotation of `path` has left, the oldest first: `<name>.<time>` beside it.
#[must_use]
pub fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (
        path.parent(),
        path.file_name().map(|n| n.to_string_lossy().into_owned()),
    ) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            let name = p
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            name.starts_with(&prefix) && !name.ends_with(".gz") && !name.ends_with(".tmp")
        })
        .collect();
    found.sort();
    found
}

/// Byte at which the last `lines` lines of the file begin.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    const BLOCK: u64 = 16 * 1024;
    let (mut at, mut seen) = (end, 0);
    let mut block = Vec::new();
    while at > 0 {
        let from = at.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(from))?;
        block.clear();
        file.take(at - from).read_to_end(&mut block)?;
        for (index, byte) in block.iter().enumerate().rev() {
            // The line feed at the very end closes the last line.
            if *byte == b'\n' && from + index as u64 + 1 < end {
                seen += 1;
                if seen == lines {
                    return Ok(from + index as u64 + 1);
                }
            }
        }
        at = from;
    }
    Ok(0)
}

struct Cursor {
    path: PathBuf,
    file: Option<BufReader<File>>,
    inode: u64,
    partial: Vec<u8>,
    options: LogOptions,
    left: Option<u64>,
    in_line: bool,
}

impl Cursor {
    fn open(&mut self, tail: Option<u64>) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        self.inode = file.metadata()?.ino();
        let from = match tail {
            Some(lines) => tail_start(&mut file, lines)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(from))?;
        self.file = Some(BufReader::new(file));
        Ok(())
    }

    fn render(&mut self, line: &LogLine<'_>, out: &mut Vec<u8>) {
        let wanted = self.options.since.is_none_or(|since| line.at >= since)
            && self
                .options
                .only_stderr
                .is_none_or(|stderr| stderr == line.is_stderr);
        if !wanted {
            return;
        }
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(line.at_text.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.content);
        self.in_line = line.partial;
        if !line.partial {
            out.push(b'\n');
        }
    }

    /// What there is to read now, at most about 64 KiB; empty at the end of what is written.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < 64 * 1024 && self.left != Some(0) {
            let Some(file) = self.file.as_mut() else { break };
            if file.read_until(b'\n', &mut self.partial)? == 0 || !self.partial.ends_with(b"\n") {
                break;
            }
            let raw = std::mem::take(&mut self.partial);
            if let Some(line) = parse(&raw) {
                self.render(&line, &mut out);
            }
        }
        if let Some(left) = self.left.as_mut() {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        Ok(out)
    }

    /// Whether another file has taken the place of the one being read.
    fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| m.ino() != self.inode)
    }
}

/// Time between looks at a file that is followed.
const LOOK: Duration = Duration::from_millis(100);

/// Sends what the options ask for, in chunks, until the end; when following, until `ended` completes (the container has
/// ended) and everything is read, or the receiver is dropped. File work is small and done in place.
///
/// # Errors
/// If the file can't be read.
pub async fn follow(
    env: &Env,
    path: PathBuf,
    options: LogOptions,
    ended: impl Future<Output = ()> + Send,
    out: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let tail = options.tail_lines;
    let left = options.limit_bytes;
    let following = options.follow;
    let mut cursor = Cursor {
        path,
        file: None,
        inode: 0,
        partial: Vec::new(),
        options,
        left,
        in_line: false,
    };
    cursor.open(tail)?;
    tokio::pin!(ended);
    let mut over = !following;
    loop {
        let chunk = cursor.read()?;
        if !chunk.is_empty() {
            if out.send(chunk.into()).await.is_err() {
                return Ok(());
            }
            continue;
        }
        if cursor.left == Some(0) {
            return Ok(());
        }
        if cursor.file.is_none() {
            cursor.open(None)?;
            if cursor.file.is_some() {
                continue;
            }
        } else if following && cursor.is_replaced() {
            // The old file was read to its end above; the new one begins at its start.
            cursor.file = None;
            cursor.partial.clear();
            cursor.open(None)?;
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            () = &mut ended => over = true,
            () = env.clock.sleep(LOOK) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn all(path: &Path, options: LogOptions) -> String {
        let (sender, mut receiver) = mpsc::channel(16);
        let env = Env::system();
        let reading = follow(&env, path.to_owned(), options, std::future::ready(()), sender);
        let collect = async {
            let mut text = Vec::new();
            while let Some(chunk) = receiver.recv().await {
                text.extend_from_slice(&chunk);
            }
            String::from_utf8(text).unwrap()
        };
        let (done, text) = futures::join!(reading, collect);
        done.unwrap();
        text
    }

    fn line(second: u32, stream: &str, tag: &str, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000000Z {stream} {tag} {text}\n")
    }

    #[tokio::test]
    async fn options() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let content = [
            line(1, "stdout", "F", "one"),
            line(2, "stderr", "F", "two"),
            line(3, "stdout", "P", "th"),
            line(3, "stdout", "F", "ree"),
        ];
        std::fs::write(&path, content.concat()).unwrap();
        let base = LogOptions::default();
        for (options, expected) in [
            (base.clone(), "one\ntwo\nthree\n"),
            (
                LogOptions {
                    tail_lines: Some(2),
                    ..base.clone()
                },
                "three\n",
            ),
            (
                LogOptions {
                    tail_lines: Some(3),
                    ..base.clone()
                },
                "two\nthree\n",
            ),
            (
                LogOptions {
                    tail_lines: Some(0),
                    ..base.clone()
                },
                "",
            ),
            (
                LogOptions {
                    tail_lines: Some(99),
                    ..base.clone()
                },
                "one\ntwo\nthree\n",
            ),
            (
                LogOptions {
                    since: Some("2026-01-01T00:00:02Z".parse().unwrap()),
                    ..base.clone()
                },
                "two\nthree\n",
            ),
            (
                LogOptions {
                    limit_bytes: Some(5),
                    ..base.clone()
                },
                "one\nt",
            ),
            (
                LogOptions {
                    only_stderr: Some(true),
                    timestamps: true,
                    ..base.clone()
                },
                "2026-01-01T00:00:02.000000000Z two\n",
            ),
            (
                LogOptions {
                    follow: true,
                    ..base.clone()
                },
                "one\ntwo\nthree\n",
            ),
        ] {
            assert_eq!(all(&path, options.clone()).await, expected, "{options:?}");
        }
        assert_eq!(all(&dir.path().join("none.log"), base).await, "");
    }

    #[tokio::test]
    async fn following_sees_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, line(1, "stdout", "F", "a")).unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let reader = path.clone();
        let env = Env::system();
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let work = async {
            let wait = async { drop(ended.await) };
            follow(&env, reader, options, wait, sender).await.unwrap();
        };
        let write = async {
            assert_eq!(receiver.recv().await.unwrap(), "a\n");
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(line(2, "stdout", "F", "b").as_bytes()).unwrap();
            std::fs::rename(&path, dir.path().join("0.log.20260101")).unwrap();
            std::fs::write(&path, line(3, "stdout", "F", "c")).unwrap();
            let mut rest = Vec::new();
            while rest.len() < 4 {
                rest.extend_from_slice(&receiver.recv().await.unwrap());
            }
            assert_eq!(rest, b"b\nc\n");
            drop(end);
            assert!(receiver.recv().await.is_none());
        };
        futures::join!(work, write);
        assert_eq!(rotated(&path).len(), 1);
    }
}
