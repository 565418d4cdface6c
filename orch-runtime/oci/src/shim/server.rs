//! The shim's loop: one thread, one `poll` over the container's output, the clients and the end of children.

use crate::cgroup::Hierarchy;
use crate::error::Attempt;
use crate::error::Result;
use crate::shim::conn::{Attached, Conn, Said};
use crate::shim::execs::{Exec, ExecState};
use crate::shim::launch::{Streams, drain, launch, listen};
use crate::shim::log::{LogWriter, Stream};
use crate::shim::protocol::{ExitRecord, RECORD_FILE, Record, Reply, Request, SOCKET, ShimConfig, TAG_STDIN};
use crate::sys::wall_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::termios::Winsize;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Bytes waiting for standard input at which clients have to wait.
const STDIN_BACKLOG: usize = 64 * 1024;
/// How long clients get at the end to take what is still for them.
const LINGER_MS: i64 = 2000;

/// What a polled descriptor means.
#[derive(Clone, Copy)]
enum Token {
    Listener,
    Children,
    Client(u64),
    Output(Stream),
    Input,
    ExecResult(u64),
}

pub(crate) struct Server {
    pub(super) config: ShimConfig,
    pub(super) dir: PathBuf,
    pub(super) listener: UnixListener,
    pub(super) children: OwnedFd,
    pub(super) clients: BTreeMap<u64, Conn>,
    pub(super) execs: BTreeMap<u64, Exec>,
    pub(super) next: u64,
    pub(super) streams: Streams,
    pub(super) stdin_queue: Vec<u8>,
    pub(super) stdin_ending: bool,
    pub(super) log: LogWriter,
    pub(super) record: Record,
    pub(super) init: Pid,
    pub(super) buffer: Vec<u8>,
    /// Children that ended before it was known what they were.
    pub(super) strays: BTreeMap<i32, i32>,
}

/// Makes and starts the container, tells `control`, and serves it to its end.
pub(crate) fn run(config: ShimConfig, dir: &Path, control: OwnedFd) -> Result<()> {
    let children = crate::sys::child_signal_fd().at("watch the children of", dir)?;
    let mut control = Conn::new(control);
    let record = Record {
        shim_pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(),
        ..Record::default()
    };
    match launch(&config, dir, &children) {
        Ok((init, streams, log)) => {
            let record = Record {
                pid: init.as_raw_nonzero().get().unsigned_abs(),
                started_at: Some(wall_ns()),
                ..record
            };
            let mut server = Server::new(config, dir, children, init, (streams, log), record)?;
            server.write_record();
            control.watching = true;
            control.reply(&Reply::Running {
                pid: server.record.pid,
            });
            server.add_client(control);
            server.serve();
            Ok(())
        }
        Err(e) => {
            // Whatever of it was made must not live on unseen.
            if let Ok(hierarchy) = Hierarchy::detect() {
                hierarchy.group(&config.cgroup).kill();
            }
            let message = e.chain();
            let exit = ExitRecord {
                code: 128,
                message: message.clone(),
                start_error: true,
                finished_at: wall_ns(),
                oom: false,
            };
            write_record(
                dir,
                &Record {
                    exit: Some(exit),
                    ..record
                },
            );
            control.reply(&Reply::Failed { message });
            Ok(())
        }
    }
}

fn write_record(dir: &Path, record: &Record) {
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    // A full disk must not keep the container from ending; the agent then sees a container without an exit.
    // That a container runs is of no interest after a crash of the machine; how it ended is.
    let file = dir.join(RECORD_FILE);
    let done = match record.exit {
        Some(_) => crate::sys::replace_file(&file, &bytes),
        None => crate::sys::replace_file_for_now(&file, &bytes),
    };
    if let Err(e) = done {
        eprintln!("{}", e.chain());
    }
}

/// Exit code of a wait status: 128 + N for signal N.
fn code_of(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

impl Server {
    fn new(
        config: ShimConfig,
        dir: &Path,
        children: OwnedFd,
        init: Pid,
        (streams, log): (Streams, LogWriter),
        record: Record,
    ) -> Result<Self> {
        let listener = listen(dir, SOCKET)?;
        Ok(Self {
            config,
            dir: dir.to_owned(),
            listener,
            children,
            clients: BTreeMap::new(),
            execs: BTreeMap::new(),
            next: 0,
            streams,
            stdin_queue: Vec::new(),
            stdin_ending: false,
            log,
            record,
            init,
            buffer: vec![0; 32 * 1024],
            strays: BTreeMap::new(),
        })
    }

    fn write_record(&self) {
        write_record(&self.dir, &self.record);
    }

    pub(super) fn add_client(&mut self, client: Conn) {
        self.clients.insert(self.next, client);
        self.next += 1;
    }

    /// Serves until the container has ended and everyone knows.
    fn serve(&mut self) {
        // The container may have ended before its end was watched for.
        self.reap();
        while self.record.exit.is_none() {
            self.turn(None, true);
        }
        let deadline = wall_ns() + LINGER_MS * 1_000_000;
        // A zero timeout pass first takes the connections that were waiting.
        self.turn(Some(0), true);
        self.announce();
        while self.clients.values().any(Conn::wants_to_send) && wall_ns() < deadline {
            self.turn(Some(50), false);
        }
        let _ = std::fs::remove_file(self.dir.join(SOCKET));
    }

    fn announce(&mut self) {
        for client in self.clients.values_mut().filter(|c| c.watching) {
            client.reply(&Reply::Ended);
        }
    }

    /// Waits for something to happen and handles it.
    fn turn(&mut self, timeout_ms: Option<i64>, accepting: bool) {
        let ready = self.wait(timeout_ms, accepting);
        for (token, flags) in ready {
            match token {
                Token::Listener => self.accept(),
                Token::Children => {
                    drain(&self.children);
                    self.reap();
                }
                Token::Client(id) => self.client(id, flags),
                Token::Output(stream) => {
                    self.read_output(stream);
                }
                Token::Input => self.write_input(),
                Token::ExecResult(id) => self.exec_result(id),
            }
        }
        self.bury();
    }

    fn wait(&self, timeout_ms: Option<i64>, accepting: bool) -> Vec<(Token, PollFlags)> {
        let mut watched: Vec<(PollFd<'_>, Token)> = Vec::new();
        if accepting {
            watched.push((PollFd::new(&self.listener, PollFlags::IN), Token::Listener));
        }
        watched.push((PollFd::new(&self.children, PollFlags::IN), Token::Children));
        let stdin_full = self.stdin_queue.len() >= STDIN_BACKLOG;
        for (id, client) in &self.clients {
            let mut flags = PollFlags::empty();
            if !(stdin_full && client.attached.is_some_and(|a| a.stdin)) {
                flags |= PollFlags::IN;
            }
            if client.wants_to_send() {
                flags |= PollFlags::OUT;
            }
            watched.push((PollFd::from_borrowed_fd(client.fd(), flags), Token::Client(*id)));
        }
        let outputs = match &self.streams {
            Streams::Pipes { stdout, stderr, .. } => [(stdout, Stream::Stdout), (stderr, Stream::Stderr)],
            Streams::Terminal(master) => [(master, Stream::Stdout), (&None, Stream::Stderr)],
        };
        for (fd, stream) in outputs {
            if let Some(fd) = fd {
                watched.push((PollFd::new(fd, PollFlags::IN), Token::Output(stream)));
            }
        }
        if !self.stdin_queue.is_empty()
            && let Some(fd) = self.input()
        {
            watched.push((PollFd::new(fd, PollFlags::OUT), Token::Input));
        }
        for (id, exec) in &self.execs {
            if let ExecState::Starting(helper) = &exec.state {
                watched.push((PollFd::new(&helper.result, PollFlags::IN), Token::ExecResult(*id)));
            }
        }
        let (mut fds, tokens): (Vec<_>, Vec<_>) = watched.into_iter().unzip();
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: ms / 1000,
            tv_nsec: ms % 1000 * 1_000_000,
        });
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let happened = fds.iter().zip(tokens).map(|(fd, token)| (token, fd.revents()));
        happened.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn accept(&mut self) {
        while let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
            self.add_client(Conn::new(socket));
        }
    }

    fn client(&mut self, id: u64, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        for said in client.receive() {
            match said {
                Said::Request(request) => self.request(id, request),
                Said::Stream(TAG_STDIN, bytes) => {
                    let may = self
                        .clients
                        .get(&id)
                        .and_then(|c| c.attached)
                        .is_some_and(|a| a.stdin);
                    if may && bytes.is_empty() {
                        self.stdin_ended();
                    } else if may && self.input().is_some() {
                        self.stdin_queue.extend_from_slice(&bytes);
                        self.write_input();
                    }
                }
                Said::Stream(..) => {}
            }
        }
    }

    fn request(&mut self, id: u64, request: Request) {
        let reply = match request {
            Request::Watch => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.watching = true;
                }
                Ok(())
            }
            Request::Signal(number) => self.signal(number),
            Request::Attach {
                stdin,
                stdout,
                stderr,
            } => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.attached = Some(Attached {
                        stdin: stdin && self.config.stdin,
                        stdout,
                        stderr,
                    });
                    client.watching = true;
                }
                Ok(())
            }
            Request::Resize { width, height } => match &self.streams {
                Streams::Terminal(Some(master)) => {
                    let size = Winsize {
                        ws_row: height,
                        ws_col: width,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    rustix::termios::tcsetwinsize(master, size).map_err(|e| format!("resize: {e}"))
                }
                _ => Err("the container has no terminal".into()),
            },
            Request::ReopenLog => {
                let path = self.config.log_path.display();
                self.log.reopen().map_err(|e| format!("open {path}: {e}"))
            }
            Request::Exec { process, tty } => match self.exec(id, &process, tty) {
                // The answer comes when the process runs.
                Ok(()) => return,
                Err(e) => Err(e),
            },
        };
        if let Some(client) = self.clients.get_mut(&id) {
            client.reply(&reply.map_or_else(|message| Reply::Failed { message }, |()| Reply::Done));
        }
    }

    fn signal(&mut self, number: i32) -> std::result::Result<(), String> {
        if self.record.exit.is_some() {
            return Ok(());
        }
        let Some(signal) = Signal::from_named_raw(number) else {
            return crate::sys::kill_raw(self.init, number).map_err(|e| format!("signal {number}: {e}"));
        };
        // Not reaped yet, so the number still is the container's.
        rustix::process::kill_process(self.init, signal).map_err(|e| format!("signal {number}: {e}"))
    }

    /// Takes note of every child that has ended.
    pub(super) fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, code_of(status)),
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        if pid == self.init {
            self.init_ended(code);
            return;
        }
        let running = self
            .execs
            .iter()
            .find(|(_, e)| matches!(e.state, ExecState::Running(p) if p == pid));
        if let Some((id, _)) = running {
            let id = *id;
            self.exec_ended(id, code);
            return;
        }
        // A process of an exec whose helper has not told its number yet, a helper that died, or an orphan.
        if self
            .execs
            .values()
            .any(|e| matches!(e.state, ExecState::Starting(_)))
        {
            self.strays.insert(pid.as_raw_nonzero().get(), code);
        } else {
            self.strays.clear();
        }
    }

    fn init_ended(&mut self, code: i32) {
        let finished_at = wall_ns();
        let oom = match Hierarchy::detect() {
            Ok(hierarchy) => {
                let group = hierarchy.group(&self.config.cgroup);
                if self.config.kill_all {
                    group.kill();
                }
                group.oom_kills() > 0
            }
            Err(_) => false,
        };
        while self.read_output(Stream::Stdout) {}
        if matches!(self.streams, Streams::Pipes { .. }) {
            while self.read_output(Stream::Stderr) {}
        }
        self.log.finish(finished_at);
        self.record.exit = Some(ExitRecord {
            code,
            oom,
            message: String::new(),
            start_error: false,
            finished_at,
        });
        self.write_record();
    }

    /// Forgets clients that have gone, and what was done for them alone.
    fn bury(&mut self) {
        let dead: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, c)| c.dead)
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            let Some(client) = self.clients.remove(&id) else {
                continue;
            };
            if client.attached.is_some_and(|a| a.stdin) {
                self.stdin_ended();
            }
            if let Some(exec) = client.exec.and_then(|e| self.execs.get_mut(&e)) {
                exec.unwanted = true;
                if let ExecState::Running(pid) = exec.state {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}
