//! Header blocks: name-value pairs behind one zlib stream per direction.

use super::dictionary::dictionary;
use crate::StreamError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::collections::BTreeMap;

/// Header names (lower case) and values of a stream.
pub type Headers = BTreeMap<String, String>;

/// Longest header block after decompression: more is an attack.
const BLOCK_BYTES_MAX: usize = 1 << 20;

fn protocol(what: impl std::fmt::Display) -> StreamError {
    StreamError::Protocol(format!("SPDY header block: {what}"))
}

pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new() -> Result<Self, StreamError> {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary()).map_err(protocol)?;
        Ok(Self(zlib))
    }

    pub(super) fn encode(&mut self, headers: &Headers) -> Result<Vec<u8>, StreamError> {
        let mut plain = Vec::new();
        let mut put = |bytes: &[u8]| {
            plain.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            plain.extend_from_slice(bytes);
        };
        for (name, value) in headers {
            put(name.as_bytes());
            put(value.as_bytes());
        }
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        block.append(&mut plain);
        let mut out = Vec::with_capacity(block.len() + 64);
        let start = self.0.total_in();
        loop {
            let consumed = (self.0.total_in() - start) as usize;
            out.reserve(256);
            self.0
                .compress_vec(&block[consumed..], &mut out, FlushCompress::Sync)
                .map_err(protocol)?;
            // A sync flush is complete when it leaves room in the output.
            if (self.0.total_in() - start) as usize == block.len() && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

pub(super) struct Decoder(Decompress);

impl Decoder {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Headers, StreamError> {
        let mut plain: Vec<u8> = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let consumed = (self.0.total_in() - start) as usize;
            if plain.len() > BLOCK_BYTES_MAX {
                return Err(protocol("too long"));
            }
            plain.reserve(1024);
            match self
                .0
                .decompress_vec(&block[consumed..], &mut plain, FlushDecompress::Sync)
            {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) => {
                    let all_in = (self.0.total_in() - start) as usize == block.len();
                    if all_in && plain.len() < plain.capacity() {
                        break;
                    }
                }
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(protocol)?;
                }
                Err(e) => return Err(protocol(e)),
            }
        }
        parse(&plain)
    }
}

fn parse(plain: &[u8]) -> Result<Headers, StreamError> {
    let mut rest = plain;
    let number = |rest: &mut &[u8]| -> Result<usize, StreamError> {
        let (head, tail) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| protocol("cut short"))?;
        *rest = tail;
        Ok(u32::from_be_bytes(*head) as usize)
    };
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || -> Result<String, StreamError> {
            let length = number(&mut rest)?;
            let (head, tail) = rest
                .split_at_checked(length)
                .ok_or_else(|| protocol("cut short"))?;
            rest = tail;
            Ok(String::from_utf8_lossy(head).into_owned())
        };
        let (name, value) = (text()?, text()?);
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_share_one_compression_stream() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        for n in 0..50 {
            let headers: Headers = [
                ("streamtype".to_owned(), "error".to_owned()),
                ("port".to_owned(), n.to_string()),
                ("long".to_owned(), "x".repeat(n * 97)),
            ]
            .into();
            assert_eq!(
                decoder.decode(&encoder.encode(&headers).unwrap()).unwrap(),
                headers
            );
        }
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Decoder::new().decode(&[1, 2, 3, 4, 5]).is_err());
        assert!(parse(&[0, 0, 0, 9, 0, 0]).is_err());
        assert!(parse(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
