//! One client of the shim: buffers around a nonblocking socket.

use crate::shim::protocol::{Reply, Request, TAG_MESSAGE, next_frame, put_frame, put_message};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Unsent bytes at which a client that does not read is given up, so that it neither slows the container down nor
/// makes the shim grow.
const BACKLOG_MAX: usize = 1 << 20;

/// Which streams a client is connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// What a client said.
#[derive(Debug)]
pub(crate) enum Said {
    Request(Request),
    Stream(u8, Vec<u8>),
}

/// A client.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Descriptors that came and were not asked for yet.
    pub(crate) received: VecDeque<OwnedFd>,
    pub(crate) attached: Option<Attached>,
    pub(crate) watching: bool,
    /// The exec that this connection is about.
    pub(crate) exec: Option<u64>,
    /// Nothing more comes or goes.
    pub(crate) dead: bool,
}

impl Conn {
    /// Takes a connected socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        // A blocking socket would be wrong, not unsound; the call fails on no valid descriptor.
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        Self {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            received: VecDeque::new(),
            attached: None,
            watching: false,
            exec: None,
            dead: false,
        }
    }

    /// For polling.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
    /// Whether something waits to be sent.
    pub(crate) fn wants_to_send(&self) -> bool {
        !self.output.is_empty() && !self.dead
    }

    /// Reads what is there and returns what was said.
    pub(crate) fn receive(&mut self) -> Vec<Said> {
        let mut buffer = [0; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match rustix::net::recvmsg(&self.socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => {
                for item in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = item {
                        self.received.extend(fds);
                    }
                }
                if message.bytes == 0 {
                    self.dead = true;
                }
                self.input.extend_from_slice(&buffer[..message.bytes]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.dead = true,
        }
        let (mut said, mut at) = (Vec::new(), 0);
        loop {
            match next_frame(&self.input[at..]) {
                Ok(Some((tag, range))) => {
                    let payload = &self.input[at + range.start..at + range.end];
                    if tag != TAG_MESSAGE {
                        said.push(Said::Stream(tag, payload.to_vec()));
                    } else if let Ok(request) = serde_json::from_slice(payload) {
                        said.push(Said::Request(request));
                    } else {
                        let message = "the shim does not know this request".to_owned();
                        put_message(&mut self.output, &Reply::Failed { message });
                    }
                    at += range.end;
                }
                Ok(None) => break,
                Err(()) => {
                    self.dead = true;
                    break;
                }
            }
        }
        self.input.drain(..at);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        said
    }

    /// Says something.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        put_message(&mut self.output, reply);
        self.flush();
    }

    /// Says that a process runs, and hands over its terminal.
    pub(crate) fn reply_with_fd(&mut self, reply: &Reply, fd: BorrowedFd<'_>) {
        self.flush();
        let mut frame = Vec::new();
        put_message(&mut frame, reply);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        match rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(&frame)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        ) {
            Ok(n) => self.output.extend_from_slice(&frame[n..]),
            Err(_) => self.dead = true,
        }
    }

    /// Passes a piece of a stream on.
    pub(crate) fn stream(&mut self, tag: u8, bytes: &[u8]) {
        put_frame(&mut self.output, tag, bytes);
        self.flush();
        if self.output.len() > BACKLOG_MAX {
            self.dead = true;
        }
    }

    /// Sends what can be sent now.
    pub(crate) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.output.len() && !self.dead {
            match rustix::net::send(&self.socket, &self.output[sent..], SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.dead = true,
            }
        }
        self.output.drain(..sent);
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }
}
