//! Values that are messages on the wire and scalars in JSON.

use super::{
    broken,
    table::Type,
    wire::{Reader, Wire},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use orch_core::Status;
use serde_json::Value;

pub(super) fn text(bytes: &[u8]) -> Result<String, Status> {
    String::from_utf8(bytes.to_vec()).map_err(|_| broken("text is not UTF-8"))
}

/// A message's fields 1 to 3 as numbers and text.
struct Parts<'a> {
    numbers: [Option<i64>; 4],
    bytes: [Option<&'a [u8]>; 4],
}

fn parts(bytes: &[u8]) -> Result<Parts<'_>, Status> {
    let mut parts = Parts {
        numbers: [None; 4],
        bytes: [None; 4],
    };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next().map_err(broken)? {
        let Some(at) = usize::try_from(number).ok().filter(|n| *n < 4) else {
            continue;
        };
        match wire {
            Wire::Varint(n) => parts.numbers[at] = Some(n as i64),
            Wire::Bytes(b) => parts.bytes[at] = Some(b),
            _ => {}
        }
    }
    Ok(parts)
}

/// The JSON form; `None` if `ty` is none of these.
pub(super) fn special(ty: &Type, bytes: &[u8]) -> Result<Option<Value>, Status> {
    Ok(Some(match ty {
        Type::Bytes => BASE64_STANDARD.encode(bytes).into(),
        Type::Quantity => text(parts(bytes)?.bytes[1].unwrap_or(b"0"))?.into(),
        Type::IntOrString => {
            let parts = parts(bytes)?;
            match parts.numbers[1] {
                Some(1) => text(parts.bytes[3].unwrap_or_default())?.into(),
                _ => parts.numbers[2].unwrap_or_default().into(),
            }
        }
        // An empty message is Go's zero time, which is null in JSON.
        Type::Time | Type::MicroTime if bytes.is_empty() => Value::Null,
        Type::Time => time(bytes)?.to_string().into(),
        Type::MicroTime => {
            let at = time(bytes)?;
            let whole = Timestamp::from_second(at.as_second())
                .map_err(broken)?
                .to_string();
            format!(
                "{}.{:06}Z",
                whole.trim_end_matches('Z'),
                at.subsec_nanosecond() / 1000
            )
            .into()
        }
        Type::Duration => format!("{}ns", parts(bytes)?.numbers[1].unwrap_or_default()).into(),
        Type::RawJson | Type::FieldSet => match parts(bytes)?.bytes[1] {
            None | Some([]) => Value::Null,
            Some(json) => serde_json::from_slice(json).map_err(broken)?,
        },
        _ => return Ok(None),
    }))
}

fn time(bytes: &[u8]) -> Result<Timestamp, Status> {
    let parts = parts(bytes)?;
    let (seconds, nanos) = (
        parts.numbers[1].unwrap_or_default(),
        parts.numbers[2].unwrap_or_default(),
    );
    let nanos = i32::try_from(nanos).map_err(broken)?;
    let exact = Timestamp::new(seconds, nanos).map_err(broken)?;
    Ok(exact)
}
