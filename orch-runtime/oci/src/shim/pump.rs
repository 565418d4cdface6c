//! Moves the container's streams: output to the log and to clients, what clients send to standard input.

use crate::shim::conn::Attached;
use crate::shim::launch::Streams;
use crate::shim::log::Stream;
use crate::shim::protocol::{TAG_STDERR, TAG_STDOUT};
use crate::shim::server::Server;
use crate::sys::wall_ns;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

impl Server {
    /// The descriptor that feeds the container's input.
    pub(super) fn input(&self) -> Option<&OwnedFd> {
        match &self.streams {
            Streams::Pipes { stdin, .. } => stdin.as_ref(),
            Streams::Terminal(master) => master.as_ref(),
        }
    }

    /// Reads what one stream has; `false` if there is nothing (now or for ever).
    pub(super) fn read_output(&mut self, stream: Stream) -> bool {
        let slot = match (&mut self.streams, stream) {
            (Streams::Pipes { stdout, .. }, Stream::Stdout) => stdout,
            (Streams::Pipes { stderr, .. }, Stream::Stderr) => stderr,
            (Streams::Terminal(master), _) => master,
        };
        let Some(fd) = slot else { return false };
        match rustix::io::read(fd, &mut self.buffer) {
            Ok(0) | Err(Errno::IO) => {
                *slot = None;
                false
            }
            Ok(n) => {
                let bytes = &self.buffer[..n];
                self.log.write(stream, bytes, wall_ns());
                for client in self.clients.values_mut() {
                    match (client.attached, stream) {
                        (Some(Attached { stdout: true, .. }), Stream::Stdout) => {
                            client.stream(TAG_STDOUT, bytes);
                        }
                        (Some(Attached { stderr: true, .. }), Stream::Stderr) => {
                            client.stream(TAG_STDERR, bytes);
                        }
                        _ => {}
                    }
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(_) => false,
        }
    }

    pub(super) fn write_input(&mut self) {
        let mut written = 0;
        while written < self.stdin_queue.len() {
            let Some(fd) = self.input() else {
                written = self.stdin_queue.len();
                break;
            };
            match rustix::io::write(fd, &self.stdin_queue[written..]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    written = self.stdin_queue.len();
                    self.close_input();
                }
            }
        }
        self.stdin_queue.drain(..written);
        if self.stdin_queue.is_empty() && self.stdin_ending {
            self.close_input();
        }
    }

    pub(super) fn close_input(&mut self) {
        match &mut self.streams {
            Streams::Pipes { stdin, .. } => *stdin = None,
            // A terminal has no end of input of its own; the character that means it has to do.
            Streams::Terminal(Some(master)) if self.stdin_ending => {
                let _ = rustix::io::write(master, b"\x04");
            }
            Streams::Terminal(_) => {}
        }
        self.stdin_ending = false;
    }

    /// A client's input ended: its last byte was sent, or it went away.
    pub(super) fn stdin_ended(&mut self) {
        if self.config.stdin_once && self.config.stdin {
            self.stdin_ending = true;
            self.write_input();
        }
    }
}
