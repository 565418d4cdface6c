//! Response bodies: whole, spliced from objects, compressed on the way, or streamed.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, stream::BoxStream};
use http_body::{Frame, SizeHint};
use orch_core::{
    Object, Status,
    client::{WatchEvent, WatchEventType},
};
use std::{
    io::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Pieces of a spliced or compressed body are about this long.
const PIECE_BYTES: usize = 64 * 1024;
/// So many waiting events at most go into one piece.
const EVENTS_A_PIECE: usize = 128;

/// Body of an HTTP answer.
pub struct Body(Inner);

enum Inner {
    Whole(Option<Bytes>),
    List(ListBody),
    Gzip(Box<GzipBody>),
    Stream(BoxStream<'static, Result<Bytes, Status>>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(Inner::Whole(None))
    }
    /// These bytes.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(Some(bytes.into()).filter(|b| !b.is_empty())))
    }
    /// Bytes as they come.
    #[must_use]
    pub fn stream(chunks: BoxStream<'static, Result<Bytes, Status>>) -> Self {
        Self(Inner::Stream(chunks))
    }
    /// `head`, the items with commas between them, `tail`.
    #[must_use]
    pub fn list(head: Bytes, items: Vec<Arc<Object>>, tail: &'static [u8]) -> Self {
        let commas = items.len().saturating_sub(1);
        let objects: usize = items.iter().map(|o| o.json().len()).sum();
        let remaining = head.len() + objects + commas + tail.len();
        Self(Inner::List(ListBody {
            head,
            items: items.into_iter(),
            first: true,
            tail,
            remaining,
        }))
    }
    /// The events of a watch, a line of JSON each. Events that wait together leave together.
    #[must_use]
    pub fn events(events: BoxStream<'static, Result<WatchEvent, Status>>) -> Self {
        let frames = events
            .ready_chunks(EVENTS_A_PIECE)
            .map(|events| Ok(frames(events)));
        Self(Inner::Stream(frames.boxed()))
    }
    /// How long the body will be, if that is known.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        match &self.0 {
            Inner::Whole(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Inner::List(list) => Some(list.remaining),
            Inner::Gzip(_) | Inner::Stream(_) => None,
        }
    }
    /// Whether it is known to be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
    /// Compresses it on the way, a piece at a time, at the fastest level (as upstream).
    #[must_use]
    pub fn gzip(self) -> Self {
        let encoder = Some(GzEncoder::new(
            Vec::with_capacity(PIECE_BYTES),
            Compression::fast(),
        ));
        Self(Inner::Gzip(Box::new(GzipBody { from: self, encoder })))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({:?} bytes)", self.len())
    }
}

struct ListBody {
    head: Bytes,
    items: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    tail: &'static [u8],
    remaining: usize,
}

impl ListBody {
    /// The next piece. Copying objects into pieces costs less than handing each to TLS and framing on its own.
    fn next(&mut self) -> Option<Bytes> {
        if self.remaining == 0 {
            return None;
        }
        let mut piece = BytesMut::with_capacity(self.remaining.min(PIECE_BYTES + PIECE_BYTES / 4));
        piece.put(std::mem::take(&mut self.head));
        while piece.len() < PIECE_BYTES {
            let Some(object) = self.items.next() else {
                piece.put_slice(std::mem::take(&mut self.tail));
                break;
            };
            if !std::mem::take(&mut self.first) {
                piece.put_u8(b',');
            }
            piece.put_slice(object.json());
        }
        self.remaining = self.remaining.saturating_sub(piece.len());
        Some(piece.freeze())
    }
}

struct GzipBody {
    from: Body,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl GzipBody {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(None);
            };
            match futures::ready!(Pin::new(&mut self.from).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    for piece in frame.data_ref().into_iter().flat_map(|d| d.chunks(PIECE_BYTES)) {
                        encoder.write_all(piece).map_err(Status::internal)?;
                    }
                    if encoder.get_ref().len() >= PIECE_BYTES / 4 {
                        return Poll::Ready(Some(Ok(std::mem::take(encoder.get_mut()).into())));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let rest = self
                        .encoder
                        .take()
                        .map(GzEncoder::finish)
                        .transpose()
                        .map_err(Status::internal)?;
                    return Poll::Ready(rest.filter(|r| !r.is_empty()).map(|r| Ok(r.into())));
                }
            }
        }
    }
}

use http_body::Body as _;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = match &mut self.0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Inner::List(list) => Poll::Ready(list.next().map(Ok)),
            Inner::Gzip(gzip) => gzip.poll_next(cx),
            Inner::Stream(chunks) => chunks.poll_next_unpin(cx),
        };
        next.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.len()
            .map_or_else(SizeHint::default, |len| SizeHint::with_exact(len as u64))
    }
}

fn frames(events: Vec<Result<WatchEvent, Status>>) -> Bytes {
    let frame_len = |e: &Result<WatchEvent, Status>| e.as_ref().map_or(256, |e| e.object.json().len() + 40);
    let mut out = BytesMut::with_capacity(events.iter().map(frame_len).sum());
    for event in events {
        let status;
        let (kind, object): (_, &[u8]) = match &event {
            Ok(event) => (type_name(event.kind), event.object.json()),
            Err(error) => {
                status = serde_json::to_vec(error).unwrap_or_else(|_| b"null".to_vec());
                ("ERROR", &status)
            }
        };
        out.put_slice(b"{\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(object);
        out.put_slice(b"}\n");
    }
    out.freeze()
}

fn type_name(kind: WatchEventType) -> &'static str {
    match kind {
        WatchEventType::Added => "ADDED",
        WatchEventType::Modified => "MODIFIED",
        WatchEventType::Deleted => "DELETED",
        WatchEventType::Bookmark => "BOOKMARK",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    fn objects(n: usize, pad: usize) -> Vec<Arc<Object>> {
        (0..n)
            .map(|i| serde_json::json!({"n": i, "pad": "x".repeat(pad)}))
            .map(Object::from_value)
            .map(Arc::new)
            .collect()
    }

    #[tokio::test]
    async fn a_list_is_spliced_with_its_exact_length_and_survives_compression() {
        for (n, pad) in [(0, 0), (1, 0), (3, 10), (500, 1000), (2, 200_000)] {
            let make = || Body::list(Bytes::from_static(b"{\"items\":["), objects(n, pad), b"]}\n");
            let body = make();
            let len = body.len().unwrap();
            let plain = body.collect().await.unwrap().to_bytes();
            assert_eq!(plain.len(), len);
            let value: serde_json::Value = serde_json::from_slice(&plain).unwrap();
            assert_eq!(value["items"].as_array().unwrap().len(), n);
            let packed = make().gzip().collect().await.unwrap().to_bytes();
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert_eq!(unpacked, plain);
        }
    }

    #[tokio::test]
    async fn events_are_lines_and_an_error_is_the_last() {
        let object = objects(1, 0).remove(0);
        let added = WatchEvent {
            kind: WatchEventType::Added,
            object,
        };
        let events = futures::stream::iter([Ok(added), Err(Status::expired("too old"))]);
        let text = Body::events(events.boxed()).collect().await.unwrap().to_bytes();
        let lines: Vec<serde_json::Value> = text
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(
            (lines[0]["type"].as_str(), lines[1]["type"].as_str()),
            (Some("ADDED"), Some("ERROR"))
        );
        assert_eq!(lines[1]["object"]["code"], 410);
    }
}
