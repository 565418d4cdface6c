//! Log files of containers in CRI format, and reading them the way `kubectl logs` asks.

mod line;
mod reader;

pub use line::{LogLine, parse};
pub use reader::{LogOptions, follow, rotated};

/// The last lines of a log as plain text: at most `lines` and at most `bytes`.
#[must_use]
pub fn tail_text(content: &[u8], lines: usize, bytes: usize) -> String {
    let mut text = Vec::new();
    let parsed: Vec<LogLine<'_>> = content
        .split_inclusive(|b| *b == b'\n')
        .filter_map(parse)
        .collect();
    let ends: Vec<usize> = parsed
        .iter()
        .enumerate()
        .filter(|(_, l)| !l.partial)
        .map(|(i, _)| i)
        .collect();
    // A line may be in several pieces.
    let first = match ends.len().checked_sub(lines + 1) {
        Some(before) => ends[before] + 1,
        None => 0,
    };
    for line in &parsed[first..] {
        text.extend_from_slice(line.content);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let start = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails() {
        let log = b"2026-01-01T00:00:00Z stdout F a\n2026-01-01T00:00:00Z stdout P b\n2026-01-01T00:00:00Z stdout F c\n\
            2026-01-01T00:00:00Z stderr F d\n";
        assert_eq!(tail_text(log, 2, 100), "bc\nd\n");
        assert_eq!(tail_text(log, 80, 100), "a\nbc\nd\n");
        assert_eq!(tail_text(log, 80, 3), "\nd\n");
        assert_eq!(tail_text(b"", 80, 3), "");
    }
}
