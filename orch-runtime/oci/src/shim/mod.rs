//! The shim: one small process for each container, which the container lives under however the agent fares.
//!
//! The agent runs its own program again with `argv[0]` set to [`protocol::SHIM_ARG0`]; [`shim_main_if_requested`], the
//! first thing in `main`, takes over then and never returns. The shim makes itself independent (own session, child of
//! init), mounts the root file system, has the OCI runtime start the program, keeps its output in the log file, serves
//! clients over a unix socket, and when the program ends records that on disk and ends too. It has one thread and no
//! async runtime, so that forking is sound and little memory is used.

pub(crate) mod backend;
mod conn;
mod execs;
mod executor;
mod launch;
mod log;
pub(crate) mod pause;
pub(crate) mod protocol;
mod pump;
mod rootfs;
mod server;
mod trace;

use crate::error::{Attempt, Error, Result};
pub(crate) use executor::plain;

use protocol::{CONFIG_FILE, SHIM_ARG0, ShimConfig};
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// This program knows how to be a shim.
static READY: AtomicBool = AtomicBool::new(false);

/// Whether this program called [`shim_main_if_requested`], without which running it again would do anything but shim.
pub(crate) fn is_ready() -> bool {
    READY.load(Ordering::Relaxed)
}

/// Becomes a shim if this process was started as one; returns otherwise.
///
/// Call it first in `main` of every program that makes an [`crate::OciRuntime`], before any thread or async runtime
/// exists.
pub fn shim_main_if_requested() {
    READY.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os();
    if args.next().is_none_or(|arg| arg != SHIM_ARG0) {
        return;
    }
    let mode = args.next().unwrap_or_default();
    let dir = args.next().unwrap_or_default();
    let done = match mode.to_str() {
        Some("container") => container(Path::new(&dir)),
        Some("pause") => pause::main(),
        _ => Err(Error::Unsupported {
            reason: "this program was started as a shim of an unknown kind".into(),
        }),
    };
    if let Err(e) = &done {
        eprintln!("{}", e.chain());
    }
    std::process::exit(i32::from(done.is_err()));
}

/// Leaves the agent's session and becomes a child of init.
pub(crate) fn detach() -> Result<()> {
    // Not a process group leader, being freshly spawned; should it be one, the second fork makes up for it.
    let _ = rustix::process::setsid();
    // What the agent was itself given without the close-on-exec flag: a pipe whose other side waits for its end, say.
    crate::sys::close_all_but(&mut []);
    if crate::sys::fork().at("fork", "the shim")?.is_some() {
        crate::sys::exit_now(0);
    }
    crate::sys::ignore_terminal_signals();
    Ok(())
}

fn container(dir: &Path) -> Result<()> {
    detach()?;
    // The kernel should rather take a process of a container. Needs a privilege that some machines do not give.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).at("become subreaper for", dir)?;
    rustix::process::chdir("/").at("enter", "/")?;
    let control = crate::sys::inherited_fd(0);
    let control = rustix::io::fcntl_dupfd_cloexec(&control, 3).at("keep the agent's socket for", dir)?;
    // Standard output is the file whose lock tells that this shim lives. It is shared with nobody else by now.
    let lock = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).at("keep the lock of", dir)?;
    rustix::io::pwrite(&lock, format!("{}\n", std::process::id()).as_bytes(), 0)
        .at("write the lock of", dir)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).at("open", "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).at("set up", "/dev/null")?;
    rustix::stdio::dup2_stdout(&null).at("set up", "/dev/null")?;
    drop(null);
    let file = dir.join(CONFIG_FILE);
    let bytes = std::fs::read(&file).at("read", &file)?;
    let config: ShimConfig = serde_json::from_slice(&bytes).map_err(|e| Error::Invalid {
        field: file.display().to_string(),
        reason: e.to_string(),
    })?;
    let done = server::run(config, dir, control);
    drop(lock);
    done
}
