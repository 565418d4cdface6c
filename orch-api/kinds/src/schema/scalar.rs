//! Canonical spelling of scalars whose Go types have a JSON form of their own.

use orch_core::quantity::Quantity;
use std::str::FromStr;

/// The canonical spelling of a quantity; `Ok(None)` if `text` already is.
pub(super) fn quantity(text: &str) -> Result<Option<String>, String> {
    // The common short forms, without arithmetic: up to three digits and a suffix that cannot be shortened.
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let canonical = (1..=3).contains(&digits)
        && (bytes[0] != b'0' || bytes.len() == 1)
        && matches!(
            &text[digits..],
            "" | "m" | "k" | "M" | "G" | "T" | "Ki" | "Mi" | "Gi" | "Ti"
        );
    if canonical {
        return Ok(None);
    }
    let printed = Quantity::from_str(text.trim())
        .map_err(|e| e.to_string())?
        .to_string();
    Ok((printed != text).then_some(printed))
}

/// Whether `text` is `2006-01-02T15:04:05Z`, digit by digit: the form in which times are written.
fn is_plain_time(text: &str, fraction: usize) -> bool {
    let b = text.as_bytes();
    let length = if fraction == 0 { 20 } else { 21 + fraction };
    b.len() == length
        && b[length - 1] == b'Z'
        && b[..length - 1].iter().enumerate().all(|(i, c)| match i {
            4 | 7 => *c == b'-',
            10 => *c == b'T',
            13 | 16 => *c == b':',
            19 => *c == b'.',
            _ => c.is_ascii_digit(),
        })
}

/// The canonical spelling of a time, in UTC with whole seconds, or microseconds if `micros`.
pub(super) fn time(text: &str, micros: bool) -> Result<Option<String>, String> {
    let layout = if micros {
        "2006-01-02T15:04:05.000000Z07:00"
    } else {
        "2006-01-02T15:04:05Z07:00"
    };
    let parsed: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))?;
    if is_plain_time(text, if micros { 6 } else { 0 }) {
        return Ok(None);
    }
    let format = if micros {
        "%Y-%m-%dT%H:%M:%S%.6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(Some(parsed.strftime(format).to_string()))
}

/// Checks standard base64 with padding; the error is Go's.
pub(super) fn base64(text: &str) -> Result<(), String> {
    let bytes: Vec<(usize, u8)> = text
        .bytes()
        .enumerate()
        .filter(|(_, b)| !matches!(b, b'\r' | b'\n'))
        .collect();
    let corrupt = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let padding = bytes.iter().rev().take_while(|(_, b)| *b == b'=').count();
    let data = bytes.len() - padding;
    for (at, b) in &bytes[..data] {
        if !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')) {
            return corrupt(*at);
        }
    }
    match (bytes.len() % 4, padding) {
        (0, 0..=2) => Ok(()),
        (0, _) => corrupt(bytes[data].0),
        _ => corrupt(bytes.len() - bytes.len() % 4),
    }
}
