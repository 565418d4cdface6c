//! Watch bodies: a line of JSON per event.

use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use orch_core::{
    Object, Status,
    client::{EventStream, WatchEvent, WatchEventType},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Longer than any event; a server that sends more without a line end is broken.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

struct Lines<B> {
    body: B,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
    ended: bool,
}

/// The events of a watch's body. An error is the last item; a body that ends is a watch that the server closed.
pub(super) fn events<B>(body: B) -> EventStream
where
    B: http_body::Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Display,
{
    let lines = Lines {
        body,
        buffer: BytesMut::new(),
        scanned: 0,
        ended: false,
    };
    stream::unfold(lines, |mut lines| async move {
        if lines.ended {
            return None;
        }
        let event = match lines.next().await? {
            Ok(line) => event(&line),
            Err(error) => Err(error),
        };
        lines.ended = event.is_err();
        Some((event, lines))
    })
    .boxed()
}

impl<B> Lines<B>
where
    B: http_body::Body + Unpin,
    B::Error: std::fmt::Display,
{
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1).freeze();
                self.scanned = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(Ok(line));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE_BYTES {
                return Some(Err(Status::internal("a watch event is too long")));
            }
            match self.body.frame().await {
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return None,
                None => {
                    return Some(Err(Status::unavailable(
                        "the watch broke off in the middle of an event",
                    )));
                }
                Some(Err(error)) => {
                    return Some(Err(Status::unavailable(format!("the watch broke off: {error}"))));
                }
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        while data.has_remaining() {
                            let piece = data.chunk();
                            self.buffer.extend_from_slice(piece);
                            let len = piece.len();
                            data.advance(len);
                        }
                    }
                }
            }
        }
    }
}

fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    let line: Line<'_> =
        serde_json::from_slice(line).map_err(|e| Status::internal(format!("decoding a watch event: {e}")))?;
    let json = line.object.get();
    let kind = match line.kind {
        "ADDED" => WatchEventType::Added,
        "MODIFIED" => WatchEventType::Modified,
        "DELETED" => WatchEventType::Deleted,
        "BOOKMARK" => WatchEventType::Bookmark,
        "ERROR" => {
            return Err(serde_json::from_str::<Status>(json)
                .unwrap_or_else(|_| Status::internal("the watch ended with an unknown error")));
        }
        other => {
            return Err(Status::internal(format!(
                "unknown type {other:?} of a watch event"
            )));
        }
    };
    // Copied, so that an object that is kept does not keep its neighbours in the buffer.
    let object = Object::from_json(Bytes::copy_from_slice(json.as_bytes()))?;
    Ok(WatchEvent {
        kind,
        object: Arc::new(object),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::StreamBody;

    async fn check(pieces: &[&'static str], expected: &[&str]) {
        let frames: Vec<_> = pieces
            .iter()
            .map(|p| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(p.as_bytes()))))
            .collect();
        let found: Vec<String> = events(StreamBody::new(stream::iter(frames)))
            .map(|e| {
                e.map_or_else(
                    |e| format!("error {}", e.code),
                    |e| format!("{:?} {}", e.kind, e.object.name()),
                )
            })
            .collect()
            .await;
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn lines_come_in_any_pieces() {
        let a = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n";
        check(&[a, a], &["Added a", "Added a"]).await;
        check(&[&a[..10], &a[10..40], &a[40..]], &["Added a"]).await;
        check(&["\n", a, "  "], &["Added a"]).await;
        check(
            &["{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n", a],
            &["error 410"],
        )
        .await;
        check(&[a, "{\"type\":\"ADD"], &["Added a", "error 503"]).await;
        check(&["{\"type\":\"ODD\",\"object\":{}}\n"], &["error 500"]).await;
        check(&[], &[]).await;
    }
}
