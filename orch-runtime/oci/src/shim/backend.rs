//! Makes and starts the container's processes, each time in a forked helper: the OCI runtime changes the process that
//! calls it (working directory, signals, dumpability) and fills its heap, and the shim must stay clean and small.
//!
//! The helper tells `ok <pid>` or `no <reason>` through a pipe and ends; the process that it made is then the shim's
//! child, because the shim is a subreaper.

use crate::seccomp::Instruction;
use crate::shim::executor::Program;
use crate::shim::protocol::{OciBackend, ShimConfig};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest reason told; small enough to be written to a pipe in one piece.
const REASON_MAX: usize = 4000;

/// A running helper.
#[derive(Debug)]
pub(crate) struct Helper {
    /// Its process.
    pub(crate) pid: Pid,
    /// Where its result comes, in one piece.
    pub(crate) result: OwnedFd,
}

impl Helper {
    /// Reads the result, which must be there. Nothing there means that the helper died.
    pub(crate) fn take(&self) -> Result<u32, String> {
        let mut buffer = [0; REASON_MAX + 16];
        let n = rustix::io::read(&self.result, &mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..n]);
        match (text.strip_prefix("ok "), text.strip_prefix("no ")) {
            (Some(pid), _) => pid
                .parse()
                .map_err(|_| "the OCI runtime made no process".to_owned()),
            (_, Some(reason)) => Err(reason.to_owned()),
            _ => Err("the OCI runtime's helper process died".into()),
        }
    }
}

/// The three descriptors that a process without a terminal gets.
#[derive(Debug)]
pub(crate) struct Stdio3 {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// How a process is connected: three descriptors, or a terminal whose master goes to the socket of this name in the
/// container's directory.
#[derive(Debug)]
pub(crate) enum Io {
    Pipes(Stdio3),
    Terminal(String),
}

impl Io {
    fn raw(&self) -> Vec<i32> {
        match self {
            Self::Pipes(s) => [&s.stdin, &s.stdout, &s.stderr].map(AsRawFd::as_raw_fd).to_vec(),
            Self::Terminal(_) => Vec::new(),
        }
    }
}

/// Runs `task` in a forked helper that has the descriptors `keep` and no others. What `task` owns is dropped here.
fn in_helper(mut keep: Vec<i32>, task: impl FnOnce() -> Result<u32, String>) -> io::Result<Helper> {
    let (result, told) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Some(pid) = crate::sys::fork()? {
        return Ok(Helper { pid, result });
    }
    keep.push(told.as_raw_fd());
    crate::sys::close_all_but(&mut keep);
    crate::sys::reset_signals();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task))
        .unwrap_or_else(|_| Err("the OCI runtime panicked".into()));
    let text = match outcome {
        Ok(pid) => format!("ok {pid}"),
        Err(mut reason) => {
            reason.truncate(
                (0..=REASON_MAX)
                    .rev()
                    .find(|i| reason.is_char_boundary(*i))
                    .unwrap_or(0),
            );
            format!("no {reason}")
        }
    };
    // Without a reader the shim is gone, and so is the reason to tell.
    let _ = rustix::io::write(&told, text.as_bytes());
    crate::sys::exit_now(0)
}

/// Creates and starts the container whose bundle is `dir`. The result comes when the program runs.
pub(crate) fn start(config: &ShimConfig, dir: &Path, io: Io) -> io::Result<Helper> {
    in_helper(io.raw(), move || {
        adjust_oom_score(config.oom_score_adj);
        match &config.backend {
            OciBackend::Libcontainer => start_embedded(config, dir, io),
            OciBackend::Binary(program) => start_by_program(program, config, dir, io),
        }
    })
}

/// Runs the process described in `process_file` in the container.
pub(crate) fn exec(config: &ShimConfig, dir: &Path, process_file: &Path, io: Io) -> io::Result<Helper> {
    in_helper(io.raw(), move || {
        adjust_oom_score(config.oom_score_adj);
        match &config.backend {
            OciBackend::Libcontainer => exec_embedded(config, dir, process_file, io),
            OciBackend::Binary(program) => exec_by_program(program, config, dir, process_file, io),
        }
    })
}

/// Sets the badness that the container inherits. Without CAP_SYS_RESOURCE it cannot go below where it is; it then
/// stays as low as the machine allows.
fn adjust_oom_score(wanted: i32) {
    let path = "/proc/self/oom_score_adj";
    if fs::write(path, wanted.to_string()).is_err()
        && let Ok(now) = fs::read_to_string(path)
        && now.trim().parse::<i32>().is_ok_and(|now| now > 0)
    {
        let _ = fs::write(path, "0");
    }
}

/// The reason with its causes, without the ones that a cause says again.
fn reason(e: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(e);
    while let Some(e) = next {
        let text = e.to_string();
        texts.retain(|t| !text.contains(t.as_str()));
        if !texts.iter().any(|t| t.contains(&text)) {
            texts.push(text);
        }
        next = e.source();
    }
    format!("unable to start container process: {}", texts.join(": "))
}

fn builder(config: &ShimConfig, dir: &Path, io: Io, program: Program) -> Result<ContainerBuilder, String> {
    // Groups of whoever started the agent are not the container's.
    rustix::thread::set_thread_groups(&[]).map_err(|e| format!("drop supplementary groups: {e}"))?;
    let state = dir.join("oci");
    let builder = ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(state)
        .map_err(|e| reason(&e))?
        .with_executor(program);
    Ok(match io {
        Io::Pipes(s) => builder
            .with_stdin(s.stdin)
            .with_stdout(s.stdout)
            .with_stderr(s.stderr),
        Io::Terminal(socket) => builder.with_console_socket(Some(dir.join(socket))),
    })
}

fn filter(config: &ShimConfig) -> Result<Vec<Instruction>, String> {
    let compiled = config.seccomp.as_ref().map(crate::seccomp::compile);
    compiled
        .transpose()
        .map(Option::unwrap_or_default)
        .map_err(|e| format!("seccomp profile: {e}"))
}

/// Makes a container or a process in it with the embedded OCI runtime.
fn embedded<T>(task: impl FnOnce() -> Result<T, LibcontainerError>) -> Result<T, String> {
    let causes = crate::shim::trace::collect().ok();
    task().map_err(|e| {
        let text = reason(&e);
        // Where the program itself is at fault, the error says all.
        let cause = causes
            .filter(|_| !text.contains(": exec: "))
            .and_then(|c| c.first());
        cause.map_or(text.clone(), |cause| format!("{text}: {cause}"))
    })
}

fn start_embedded(config: &ShimConfig, dir: &Path, io: Io) -> Result<u32, String> {
    let (failure, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let builder = builder(config, dir, io, Program::new(Some(tell), filter(config)?))?;
    let pid = embedded(|| {
        let mut container = builder
            .as_init(dir)
            .with_systemd(false)
            .with_detach(true)
            .build()?;
        container.start()?;
        Ok(container.pid())
    })?;
    let pid = pid.ok_or("the OCI runtime made no process")?;
    let mut why = String::new();
    fs::File::from(failure)
        .read_to_string(&mut why)
        .map_err(|e| e.to_string())?;
    if why.is_empty() {
        Ok(pid.as_raw().unsigned_abs())
    } else {
        Err(format!("unable to start container process: {why}"))
    }
}

fn exec_embedded(config: &ShimConfig, dir: &Path, process_file: &Path, io: Io) -> Result<u32, String> {
    let builder = builder(config, dir, io, Program::new(None, filter(config)?))?;
    let pid = embedded(|| {
        builder
            .as_tenant()
            .with_detach(true)
            .with_process(Some(process_file))
            .build()
    })?;
    Ok(pid.as_raw().unsigned_abs())
}

/// A call of runc or a program with its command line.
fn program_call(program: &Path, dir: &Path, log: &Path, verb: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--root")
        .arg(dir.join("oci"))
        .arg("--log")
        .arg(log)
        .args(["--log-format", "json"])
        .arg(verb);
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs a call to its end; what went wrong is in its log.
fn call(mut command: Command, program: &Path, log: &Path) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let messages = text
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let message = messages
        .filter(|m| m["level"] == "error")
        .filter_map(|m| Some(m["msg"].as_str()?.to_owned()))
        .next_back();
    Err(message.unwrap_or_else(|| format!("{} failed: {status}", program.display())))
}

fn connect(command: &mut Command, io: Io) {
    match io {
        Io::Pipes(s) => {
            command.stdin(s.stdin).stdout(s.stdout).stderr(s.stderr);
        }
        Io::Terminal(socket) => {
            command.arg("--console-socket").arg(socket);
        }
    }
}

fn read_pid(path: &Path) -> Result<u32, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    text.trim()
        .parse()
        .map_err(|_| format!("{} holds no process ID", path.display()))
}

fn start_by_program(program: &Path, config: &ShimConfig, dir: &Path, io: Io) -> Result<u32, String> {
    let (log, pid_file) = (dir.join("oci.log"), dir.join("init.pid"));
    let mut create = program_call(program, dir, &log, "create");
    create.arg("--bundle").arg(dir).arg("--pid-file").arg(&pid_file);
    connect(&mut create, io);
    create.arg(&config.id);
    call(create, program, &log)?;
    let pid = read_pid(&pid_file)?;
    let mut start = program_call(program, dir, &log, "start");
    start.arg(&config.id);
    call(start, program, &log)?;
    Ok(pid)
}

fn exec_by_program(
    program: &Path,
    config: &ShimConfig,
    dir: &Path,
    process_file: &Path,
    io: Io,
) -> Result<u32, String> {
    let sibling = |extension: &str| -> PathBuf { process_file.with_extension(extension) };
    let (log, pid_file) = (sibling("log"), sibling("pid"));
    let mut exec = program_call(program, dir, &log, "exec");
    exec.arg("--process")
        .arg(process_file)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg("--detach");
    connect(&mut exec, io);
    exec.arg(&config.id);
    let done = call(exec, program, &log).and_then(|()| read_pid(&pid_file));
    for file in [&log, &pid_file] {
        // Best effort: the container's directory goes with the container.
        let _ = fs::remove_file(file);
    }
    done
}
