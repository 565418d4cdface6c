//! From a configuration to a running program with its streams connected.

use crate::error::{Attempt, Error, Result};
use crate::shim::backend::{self, Helper, Io, Stdio3};
use crate::shim::log::LogWriter;
use crate::shim::protocol::ShimConfig;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The end of a container's streams that the shim holds.
pub(super) enum Streams {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    Terminal(Option<OwnedFd>),
}

/// Makes the root file system and the streams, and starts the program.
pub(super) fn launch(
    config: &ShimConfig,
    dir: &Path,
    children: &OwnedFd,
) -> Result<(Pid, Streams, LogWriter)> {
    let log = LogWriter::open(&config.log_path).at("open the log file", &config.log_path)?;
    crate::shim::rootfs::prepare(config, dir)?;
    let failed = |e: std::io::Error| Error::io("connect the streams of", dir, e);
    let (io, mut streams, terminal) = if config.tty {
        let listener = listen(dir, "tty.sock")?;
        (
            Io::Terminal("tty.sock".into()),
            Streams::Terminal(None),
            Some(listener),
        )
    } else {
        let (out_r, out_w) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let (err_r, err_w) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let (stdin, feed) = if config.stdin {
            let (r, w) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
            rustix::io::ioctl_fionbio(&w, true).map_err(|e| failed(e.into()))?;
            (r, Some(w))
        } else {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            (null.map_err(|e| failed(e.into()))?, None)
        };
        for fd in [&out_r, &err_r] {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| failed(e.into()))?;
        }
        let streams = Streams::Pipes {
            stdin: feed,
            stdout: Some(out_r),
            stderr: Some(err_r),
        };
        (
            Io::Pipes(Stdio3 {
                stdin,
                stdout: out_w,
                stderr: err_w,
            }),
            streams,
            None,
        )
    };
    let helper = backend::start(config, dir, io).map_err(failed)?;
    wait_for(&helper, children);
    let pid = helper.take().map_err(|reason| Error::Start { reason })?;
    reap_one(helper.pid);
    if let Some(listener) = terminal {
        streams = Streams::Terminal(Some(receive_terminal(&listener).map_err(failed)?));
        // Its name is not needed again.
        let _ = std::fs::remove_file(dir.join("tty.sock"));
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let init = pid.ok_or_else(|| Error::Start {
        reason: "the OCI runtime made no process".into(),
    })?;
    Ok((init, streams, log))
}

/// Waits until a helper has told its result or died.
pub(super) fn wait_for(helper: &Helper, children: &OwnedFd) {
    loop {
        let mut fds = [
            PollFd::new(&helper.result, PollFlags::IN),
            PollFd::new(children, PollFlags::IN),
        ];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            return;
        }
        drain(children);
        let ended = rustix::process::waitid(
            rustix::process::WaitId::Pid(helper.pid),
            rustix::process::WaitIdOptions::EXITED
                | rustix::process::WaitIdOptions::NOWAIT
                | rustix::process::WaitIdOptions::NOHANG,
        );
        if !matches!(ended, Ok(None)) {
            return;
        }
    }
}

pub(super) fn reap_one(pid: Pid) {
    while matches!(
        rustix::process::waitpid(Some(pid), WaitOptions::empty()),
        Err(Errno::INTR)
    ) {}
}

/// Empties the signal descriptor.
pub(super) fn drain(children: &OwnedFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(children, &mut buffer).is_ok_and(|n| n > 0) {}
}

/// Listens on a socket in the container's directory, whose path may be longer than a socket address.
pub(super) fn listen(dir: &Path, name: &str) -> Result<UnixListener> {
    rustix::process::chdir(dir).at("enter", dir)?;
    // A socket of that name is of a shim that did not get far.
    let _ = std::fs::remove_file(name);
    let listener = UnixListener::bind(name).at("listen on", dir.join(name));
    rustix::process::chdir("/").at("enter", "/")?;
    let listener = listener?;
    listener.set_nonblocking(true).at("set up", dir.join(name))?;
    Ok(listener)
}

/// Takes the master side of a terminal that the OCI runtime has sent.
pub(super) fn receive_terminal(listener: &UnixListener) -> std::io::Result<OwnedFd> {
    let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    let mut parts = [std::io::IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = item
            && let Some(fd) = fds.next()
        {
            rustix::io::ioctl_fionbio(&fd, true)?;
            return Ok(fd);
        }
    }
    Err(std::io::Error::other("the OCI runtime sent no terminal"))
}
