//! The few system calls that need `unsafe`, each with the reason why it is sound, and small file helpers.

use crate::error::{Attempt, Result};
use rustix::thread::UnshareFlags;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// Moves the calling thread into fresh namespaces. Never with [`UnshareFlags::FILES`].
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    #[expect(unsafe_code)]
    // SAFETY: the one hazard of unshare(2) is CLONE_FILES, after which descriptors of other threads are no longer
    // this thread's; it is masked out.
    unsafe {
        rustix::thread::unshare_unsafe(flags & !UnshareFlags::FILES).map_err(Into::into)
    }
}

/// Forks. `None` in the child.
///
/// Only for processes with a single thread: the child then is a full copy and may do whatever the parent may.
pub(crate) fn fork() -> io::Result<Option<rustix::process::Pid>> {
    #[expect(unsafe_code)]
    // SAFETY: fork(2) itself touches no memory of ours. What is unsound after it are locks held by other threads at
    // that moment; the callers are the shim and its helpers, which never start a thread.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(rustix::process::Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once, running no destructors and no exit handlers: for forked children, whose buffers and
/// handlers belong to the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    #[expect(unsafe_code)]
    // SAFETY: _exit(2) has no precondition and does not return.
    unsafe {
        libc::_exit(code)
    }
}

/// Blocks SIGCHLD and returns a descriptor that becomes readable when a child has ended.
pub(crate) fn child_signal_fd() -> io::Result<OwnedFd> {
    #[expect(unsafe_code)]
    // SAFETY: `set` is a plain value that sigemptyset initializes before it is read; signalfd returns a descriptor
    // that nobody else owns, or -1, which is checked.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Ignores the signals by which a terminal or a service manager's stop would reach the shim.
pub(crate) fn ignore_terminal_signals() {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGTTOU,
        libc::SIGTTIN,
    ] {
        #[expect(unsafe_code)]
        // SAFETY: SIG_IGN is a constant disposition; no handler code runs.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Gives all signals their default disposition and unblocks them, as a program expects at its start.
pub(crate) fn reset_signals() {
    #[expect(unsafe_code)]
    // SAFETY: only the constant SIG_DFL is installed, and the mask is initialized by sigemptyset before use. Numbers
    // that cannot be changed (SIGKILL, SIGSTOP, those of libc) are refused by the call without effect.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        // The two that libc keeps for itself are ignored after posix_spawn, and libc refuses to change them back. A zeroed
        // kernel sigaction is the default disposition, and is as long as on every 64-bit machine.
        let default = [0_u64; 4];
        for signal in [32, 33] {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8_usize,
            );
        }
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Takes ownership of the descriptor that a parent put at number `raw` before this program started.
///
/// Call it at most once a number, at the start of the program, for a number that the parent is known to have set.
pub(crate) fn inherited_fd(raw: i32) -> OwnedFd {
    #[expect(unsafe_code)]
    // SAFETY: called once by the shim for standard input, which the agent always sets to a socket, and which nothing
    // else in the shim uses (it is replaced by /dev/null right after).
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}

/// Replaces a file as a whole: after a crash it holds the old or the new bytes.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, true)
}

/// Replaces a file as a whole, for content that is worth nothing after a crash of the machine.
pub(crate) fn replace_file_for_now(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let tmp = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = File::create(&tmp).at("create", &tmp)?;
    file.write_all(bytes).at("write", &tmp)?;
    if durable {
        file.sync_data().at("sync", &tmp)?;
    }
    fs::rename(&tmp, path).at("rename to", path)
}

/// Closes every descriptor above standard error except `keep`, owned by whomever.
///
/// Only where no owner of a closed descriptor is used or dropped again: in a forked child that then runs one task, uses
/// nothing but `keep`, and ends by [`exit_now`]; and in a program that has just started and opened nothing yet.
pub(crate) fn close_all_but(keep: &mut [i32]) {
    keep.sort_unstable();
    let mut from = 3_u32;
    let close = |from: u32, to: u32| {
        if from <= to {
            #[expect(unsafe_code)]
            // SAFETY: see above: in this process nobody uses these numbers any more.
            unsafe {
                libc::syscall(libc::SYS_close_range, from, to, 0_u32);
            }
        }
    };
    for fd in keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .filter(|fd| *fd >= 3)
    {
        if fd > from {
            close(from, fd - 1);
        }
        from = from.max(fd + 1);
    }
    close(from, u32::MAX);
}

/// Installs a system call filter for this process and what it executes.
pub(crate) fn install_filter(filter: &[crate::seccomp::Instruction]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    #[expect(unsafe_code)]
    // SAFETY: `Instruction` has the layout of `sock_filter` (four fields, repr(C)); the kernel copies `len` of them out of
    // the slice, which lives through the call, and writes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Removes a directory tree; `Ok` when absent.
pub(crate) fn remove_dir_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(crate::error::Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Blocks the thread for a moment: for the kernel's own latencies, where no event tells.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on blocking threads and in the shim, which have no clock handle"
)]
pub(crate) fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}

/// Wall time in nanoseconds since the epoch, for processes that have no clock handle.
#[expect(
    clippy::disallowed_methods,
    reason = "the shim is a process of its own; its times are the machine's"
)]
pub(crate) fn wall_ns() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Sends a signal that has no name here, such as a real-time one.
pub(crate) fn kill_raw(pid: rustix::process::Pid, number: i32) -> io::Result<()> {
    #[expect(unsafe_code)]
    // SAFETY: kill(2) takes two numbers and touches no memory.
    let done = unsafe { libc::kill(pid.as_raw_nonzero().get(), number) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Registers a descriptor with the async reactor.
pub(crate) fn async_fd(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    #[expect(unsafe_code)]
    // SAFETY: an `OwnedFd` holds a valid descriptor for as long as it lives, and nothing here replaces or closes it
    // while the `AsyncFd` owns it.
    let registered = unsafe { tokio::io::unix::AsyncFd::register(fd) };
    Ok(registered?)
}
