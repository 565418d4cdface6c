//! Frames: the eight-byte header and what follows it.

use crate::StreamError;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest frame that is accepted.
const FRAME_BYTES_MAX: usize = 1 << 22;
pub(super) const FLAG_FIN: u8 = 1;

/// A frame as received; header blocks still compressed.
#[derive(Debug)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    SynReply {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    Headers {
        fin: bool,
        id: u32,
        block: Bytes,
    },
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, window updates and whatever else has no effect here.
    Ignored,
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Frame, StreamError> {
    let mut head = [0; 8];
    io.read_exact(&mut head).await?;
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(StreamError::Protocol(format!("SPDY frame of {length} bytes")));
    }
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await?;
    let payload = Bytes::from(payload);
    let fin = flags & FLAG_FIN != 0;
    if first & 0x8000_0000 == 0 {
        return Ok(Frame::Data {
            id: first,
            fin,
            bytes: payload,
        });
    }
    let id = |at: usize| -> Result<u32, StreamError> {
        let bytes = payload.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
        let bytes = bytes.ok_or_else(|| StreamError::Protocol("SPDY control frame cut short".into()))?;
        Ok(u32::from_be_bytes(bytes) & 0x7fff_ffff)
    };
    let block = |from: usize| payload.slice(from.min(payload.len())..);
    Ok(match (first & 0xffff) as u16 {
        SYN_STREAM => Frame::SynStream {
            id: id(0)?,
            fin,
            block: block(10),
        },
        SYN_REPLY => Frame::SynReply {
            id: id(0)?,
            fin,
            block: block(4),
        },
        HEADERS => Frame::Headers {
            id: id(0)?,
            fin,
            block: block(4),
        },
        RST_STREAM => Frame::Reset { id: id(0)? },
        PING => Frame::Ping { id: id(0)? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Ignored,
    })
}

fn control(kind: u16, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let length: usize = payload.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(8 + length);
    out.extend_from_slice(&0x8003_u16.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.push(flags);
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    payload.iter().for_each(|p| out.extend_from_slice(p));
    out
}

pub(super) fn syn_stream(id: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_STREAM, 0, &[&id.to_be_bytes(), &[0; 6], block])
}

pub(super) fn syn_reply(id: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, 0, &[&id.to_be_bytes(), block])
}

pub(super) fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &[&id.to_be_bytes()])
}

pub(super) fn reset(id: u32) -> Vec<u8> {
    // 5: CANCEL.
    control(RST_STREAM, 0, &[&id.to_be_bytes(), &5_u32.to_be_bytes()])
}

pub(super) fn go_away(last: u32) -> Vec<u8> {
    control(GOAWAY, 0, &[&last.to_be_bytes(), &0_u32.to_be_bytes()])
}

pub(super) fn data(id: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + bytes.len());
    out.extend_from_slice(&id.to_be_bytes());
    out.push(if fin { FLAG_FIN } else { 0 });
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(bytes);
    out
}
