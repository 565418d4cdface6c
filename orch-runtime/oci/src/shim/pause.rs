//! The first process of a process namespace that the containers of a pod share: reaps orphans, does nothing else.
//!
//! It has no file system to look at (an empty root), no capabilities, and ends by the kill signal alone.

use crate::error::{Attempt, Result};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use std::io::Write;

/// Makes the namespace and its first process, tells that process's number on standard output and goes on as it.
pub(crate) fn main() -> Result<()> {
    super::detach()?;
    rustix::process::chdir("/").at("enter", "/")?;
    // The namespace is for children; the directory for the empty root is the working directory given to the spawn.
    crate::sys::unshare(UnshareFlags::NEWPID).at("make", "a process namespace")?;
    if let Some(child) = crate::sys::fork().at("fork", "the pause process")? {
        let mut out = std::io::stdout();
        let told = writeln!(out, "{}", child.as_raw_nonzero()).and_then(|()| out.flush());
        told.at("write to", "standard output")?;
        crate::sys::exit_now(0);
    }
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    let null = null.at("open", "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).at("set up", "/dev/null")?;
    rustix::stdio::dup2_stdout(&null).at("set up", "/dev/null")?;
    rustix::stdio::dup2_stderr(&null).at("set up", "/dev/null")?;
    drop(null);
    let children = crate::sys::child_signal_fd().at("watch", "children")?;
    // Nothing of the machine is in reach through /proc/1/root: an empty, read-only root.
    crate::sys::unshare(UnshareFlags::NEWNS).at("make", "a mount namespace")?;
    let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).at("change the propagation of", "/")?;
    rustix::mount::mount("none", "/proc", "tmpfs", rustix::mount::MountFlags::RDONLY, None)
        .at("mount on", "/proc")?;
    rustix::process::chdir("/proc").at("enter", "/proc")?;
    rustix::process::chroot(".").at("change the root to", "/proc")?;
    rustix::thread::set_no_new_privs(true).at("give up", "privileges")?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).at("give up", "capabilities")?;
    loop {
        let mut buffer = [0; 1024];
        let mut fds = [rustix::event::PollFd::new(
            &children,
            rustix::event::PollFlags::IN,
        )];
        let _ = rustix::event::poll(&mut fds, None);
        while rustix::io::read(&children, &mut buffer).is_ok_and(|n| n > 0) {}
        while matches!(
            rustix::process::wait(WaitOptions::NOHANG),
            Ok(Some(_)) | Err(Errno::INTR)
        ) {}
    }
}
