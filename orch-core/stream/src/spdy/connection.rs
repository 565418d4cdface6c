//! A connection and its streams.

use super::{
    frame::{self, Frame},
    header::{Decoder, Encoder, Headers},
};
use crate::{BoxIo, Driver, StreamError};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::mpsc,
};
use tokio_util::sync::PollSender;

/// Frames that may wait to be written, and chunks that may wait to be read per stream.
const QUEUE: usize = 64;
/// Most streams open at one time.
const STREAMS_MAX: usize = 4096;
/// Longest data frame written.
const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Which side of the connection this is; it decides the parity of stream ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection: odd ids.
    Client,
    /// Accepted it: even ids.
    Server,
}

enum Out {
    Open { id: u32, headers: Headers },
    Reply { id: u32 },
    Data { id: u32, fin: bool, bytes: Bytes },
    Reset { id: u32 },
    Pong { id: u32 },
    Bye,
}

type Inboxes = Arc<Mutex<BTreeMap<u32, mpsc::Sender<Bytes>>>>;

/// One end of a SPDY connection.
pub struct Connection {
    out: mpsc::Sender<Out>,
    accepted: mpsc::Receiver<SpdyStream>,
    inboxes: Inboxes,
    next_id: u32,
}

impl Connection {
    /// Starts on an upgraded byte stream. Spawn the driver; it ends with the connection.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] if the compressor can't be set up.
    pub fn new(io: BoxIo, role: Role) -> Result<(Self, Driver), StreamError> {
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (accept, accepted) = mpsc::channel(QUEUE);
        let inboxes = Inboxes::default();
        let (read, write) = tokio::io::split(io);
        let encoder = Encoder::new()?;
        let incoming = receive(read, accept, out.downgrade(), inboxes.clone());
        let outgoing = send(write, outgoing, encoder);
        let closed = inboxes.clone();
        let driver = Box::pin(async move {
            let (mut incoming, mut outgoing) = (Box::pin(incoming), Box::pin(outgoing));
            tokio::select! {
                r = &mut incoming => {
                    if let Err(e) = r {
                        tracing::debug!("SPDY connection ended: {e}");
                    }
                    // Readers see the end; what is queued to be written still goes out.
                    lock(&closed).clear();
                    drop(incoming);
                    drop(outgoing.await);
                }
                r = &mut outgoing => {
                    if let Err(e) = r {
                        tracing::debug!("SPDY connection ended: {e}");
                    }
                    lock(&closed).clear();
                }
            }
        });
        let next_id = if role == Role::Client { 1 } else { 2 };
        Ok((
            Self {
                out,
                accepted,
                inboxes,
                next_id,
            },
            driver,
        ))
    }

    /// The next stream that the peer opens; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<SpdyStream> {
        self.accepted.recv().await
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`StreamError::Io`] when the connection has ended.
    pub async fn open(&mut self, headers: Headers) -> Result<SpdyStream, StreamError> {
        let id = self.next_id;
        self.next_id += 2;
        let stream = stream(id, headers.clone(), self.out.clone(), &self.inboxes);
        let gone = |_| StreamError::Io(io::ErrorKind::BrokenPipe.into());
        self.out.send(Out::Open { id, headers }).await.map_err(gone)?;
        Ok(stream)
    }

    /// Says good-bye after what is queued, and ends the connection.
    pub async fn close(self) {
        drop(self.out.send(Out::Bye).await);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stream(id: u32, headers: Headers, out: mpsc::Sender<Out>, inboxes: &Inboxes) -> SpdyStream {
    let (inbox, chunks) = mpsc::channel(QUEUE);
    lock(inboxes).insert(id, inbox);
    SpdyStream {
        id,
        headers,
        chunks,
        rest: Bytes::new(),
        out: PollSender::new(out),
        finished: false,
    }
}

async fn receive(
    mut io: impl AsyncRead + Unpin,
    accept: mpsc::Sender<SpdyStream>,
    out: mpsc::WeakSender<Out>,
    inboxes: Inboxes,
) -> Result<(), StreamError> {
    let mut decoder = Decoder::new();
    loop {
        match frame::read(&mut io).await? {
            Frame::SynStream { id, fin, block } => {
                let headers = decoder.decode(&block)?;
                if lock(&inboxes).len() >= STREAMS_MAX {
                    return Err(StreamError::Protocol("too many streams".into()));
                }
                let Some(out) = out.upgrade() else { return Ok(()) };
                let new = stream(id, headers, out.clone(), &inboxes);
                drop(out.send(Out::Reply { id }).await);
                if fin {
                    lock(&inboxes).remove(&id);
                }
                drop(accept.send(new).await);
            }
            // Decoded even when unused: the compression state spans all blocks.
            Frame::SynReply { id, fin, block } | Frame::Headers { id, fin, block } => {
                decoder.decode(&block)?;
                if fin {
                    lock(&inboxes).remove(&id);
                }
            }
            Frame::Data { id, fin, bytes } => {
                let inbox = lock(&inboxes).get(&id).cloned();
                if let Some(inbox) = inbox
                    && !bytes.is_empty()
                {
                    // A reader that went away loses its data; the connection goes on.
                    drop(inbox.send(bytes).await);
                }
                if fin {
                    lock(&inboxes).remove(&id);
                }
            }
            Frame::Reset { id } => drop(lock(&inboxes).remove(&id)),
            Frame::Ping { id } => {
                if let Some(out) = out.upgrade() {
                    drop(out.send(Out::Pong { id }).await);
                }
            }
            Frame::GoAway => return Ok(()),
            Frame::Ignored => {}
        }
    }
}

async fn send(
    mut io: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Out>,
    mut encoder: Encoder,
) -> Result<(), StreamError> {
    while let Some(out) = queue.recv().await {
        let bytes = match out {
            Out::Open { id, headers } => frame::syn_stream(id, &encoder.encode(&headers)?),
            Out::Reply { id } => frame::syn_reply(id, &encoder.encode(&Headers::new())?),
            Out::Data { id, fin, bytes } => frame::data(id, fin, &bytes),
            Out::Reset { id } => frame::reset(id),
            Out::Pong { id } => frame::ping(id),
            Out::Bye => {
                io.write_all(&frame::go_away(0)).await?;
                break;
            }
        };
        io.write_all(&bytes).await?;
        if queue.is_empty() {
            io.flush().await?;
        }
    }
    io.flush().await?;
    io.shutdown().await?;
    Ok(())
}

/// One stream of a connection. Shutting it down sends the end of this direction; dropping it unfinished resets it.
pub struct SpdyStream {
    id: u32,
    headers: Headers,
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
    out: PollSender<Out>,
    finished: bool,
}

impl SpdyStream {
    /// The headers it was opened with.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The value of a header, empty if absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Drop for SpdyStream {
    fn drop(&mut self) {
        if !self.finished
            && let Some(out) = self.out.get_ref()
        {
            // Without room the connection is stalled anyway; its end will reset the stream.
            drop(out.try_send(Out::Reset { id: self.id }));
        }
    }
}

impl AsyncRead for SpdyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.chunks.poll_recv(cx)) {
                Some(chunk) => self.rest = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl SpdyStream {
    fn poll_out(&mut self, cx: &mut Context<'_>, out: impl FnOnce(u32) -> Out) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.out.poll_reserve(cx)).map_err(gone)?;
        let out = out(self.id);
        self.out.send_item(out).map_err(gone)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SpdyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let take = bytes.len().min(CHUNK_BYTES_MAX);
        let chunk = &bytes[..take];
        ready!(self.poll_out(cx, |id| Out::Data {
            id,
            fin: false,
            bytes: Bytes::copy_from_slice(chunk)
        }))?;
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_out(cx, |id| Out::Data {
            id,
            fin: true,
            bytes: Bytes::new()
        }))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}
