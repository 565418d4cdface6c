//! The agent's end of a shim's socket.

use crate::shim::protocol::{Reply, Request, SOCKET, TAG_MESSAGE, next_frame, put_message};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What a shim said.
#[derive(Debug)]
pub(super) enum Heard {
    Reply(Reply),
    Stream(u8, Vec<u8>),
}

/// Reads from a shim's socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Arc<UnixStream>,
    input: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Writes to a shim's socket; whole frames, whoever else writes.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    socket: Arc<UnixStream>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Wraps a connected socket.
pub(super) fn open(socket: StdUnixStream) -> io::Result<(Listener, Speaker)> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(UnixStream::from_std(socket)?);
    let listener = Listener {
        socket: socket.clone(),
        input: Vec::new(),
        fds: Vec::new(),
    };
    Ok((
        listener,
        Speaker {
            socket,
            turn: Arc::default(),
        },
    ))
}

/// Connects to the shim of the container in `dir`. The path goes through a descriptor, for it may be longer than a
/// socket address.
pub(super) fn connect(dir: &Path) -> io::Result<(Listener, Speaker)> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let at = rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    open(StdUnixStream::connect(format!(
        "/proc/self/fd/{}/{SOCKET}",
        at.as_raw_fd()
    ))?)
}

/// Asks one thing over a connection of its own.
pub(super) async fn ask(dir: &Path, request: &Request) -> io::Result<Reply> {
    let (mut listener, speaker) = connect(dir)?;
    speaker.say(request).await?;
    listener.reply().await
}

impl Listener {
    /// The next thing said; `None` when the shim has hung up.
    pub(super) async fn next(&mut self) -> io::Result<Option<Heard>> {
        loop {
            match next_frame(&self.input) {
                Err(()) => return Err(io::ErrorKind::InvalidData.into()),
                Ok(Some((tag, range))) => {
                    let end = range.end;
                    let payload = self.input[range].to_vec();
                    self.input.drain(..end);
                    if tag != TAG_MESSAGE {
                        return Ok(Some(Heard::Stream(tag, payload)));
                    }
                    return Ok(Some(Heard::Reply(serde_json::from_slice(&payload)?)));
                }
                Ok(None) => {}
            }
            let (socket, input, fds) = (&self.socket, &mut self.input, &mut self.fds);
            let n = socket
                .async_io(Interest::READABLE, || receive(socket, input, fds))
                .await?;
            if n == 0 {
                return Ok(None);
            }
        }
    }

    /// The next reply; pieces of streams before it are dropped.
    pub(super) async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match self.next().await? {
                Some(Heard::Reply(reply)) => return Ok(reply),
                Some(Heard::Stream(..)) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// A descriptor that came along.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        (!self.fds.is_empty()).then(|| self.fds.remove(0))
    }
}

fn receive(socket: &UnixStream, input: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
        Ok(message) => message,
        Err(rustix::io::Errno::CONNRESET) => return Ok(0),
        Err(e) => return Err(e.into()),
    };
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            fds.extend(received);
        }
    }
    input.extend_from_slice(&buffer[..message.bytes]);
    Ok(message.bytes)
}

impl Speaker {
    /// Sends a request.
    pub(super) async fn say(&self, request: &Request) -> io::Result<()> {
        let mut frame = Vec::new();
        put_message(&mut frame, request);
        self.send(&frame, &[]).await
    }

    /// Sends a request with descriptors.
    pub(super) async fn say_with(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut frame = Vec::new();
        put_message(&mut frame, request);
        self.send(&frame, fds).await
    }

    /// Sends bytes that make up whole frames; the descriptors go with the first of them.
    pub(super) async fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        let mut sent = 0;
        while sent < frame.len() {
            let fds = if sent == 0 { fds } else { &[] };
            let rest = &frame[sent..];
            sent += self
                .socket
                .async_io(Interest::WRITABLE, || transmit(&self.socket, rest, fds))
                .await?;
        }
        Ok(())
    }
}

fn transmit(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}
