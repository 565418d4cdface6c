//! One line of a log file: `<RFC 3339 time> stdout|stderr F|P <content>`.

use jiff::Timestamp;

/// A parsed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// When it was written.
    pub at: Timestamp,
    /// The time as it stands in the file.
    pub at_text: &'a str,
    /// It went to the error output.
    pub is_stderr: bool,
    /// It is a piece that the next line continues.
    pub partial: bool,
    /// What was written, without the line feed.
    pub content: &'a [u8],
}

/// Parses a line, with or without its line feed; `None` if it is damaged.
#[must_use]
pub fn parse(line: &[u8]) -> Option<LogLine<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let at_text = std::str::from_utf8(parts.next()?).ok()?;
    let is_stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // Further tags may follow after a colon.
    let tags = parts.next()?;
    let partial = tags.split(|b| *b == b':').next()? == b"P";
    Some(LogLine {
        at: at_text.parse().ok()?,
        at_text,
        is_stderr,
        partial,
        content: parts.next().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let l = parse(b"2026-01-01T00:00:00.5+01:00 stderr P:x a b \n").unwrap();
        assert_eq!((l.is_stderr, l.partial, l.content), (true, true, &b"a b "[..]));
        assert_eq!(l.at.to_string(), "2025-12-31T23:00:00.5Z");
        assert_eq!(parse(b"2026-01-01T00:00:00Z stdout F").unwrap().content, b"");
        for bad in [
            &b""[..],
            b"x stdout F a",
            b"2026-01-01T00:00:00Z stdin F a",
            b"2026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
