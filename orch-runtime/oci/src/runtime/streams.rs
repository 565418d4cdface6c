//! [`seam::Streams`]: exec, attach, port forwarding.

use super::client::{self, Heard, Listener, Speaker};
use super::container::{Container, Phase};
use super::sessions::{FdStream, Guard, Guarded, PipeWriter};
use super::{OciRuntime, Result};
use crate::error::{Attempt, Error};
use crate::shim::protocol::{BUNDLE_FILE, Reply, Request, TAG_STDERR, TAG_STDIN, TAG_STDOUT, put_frame};
use async_trait::async_trait;
use orch_runtime::runtime::{
    self as seam, ContainerId, ExecOutput, RuntimeError, SandboxId, Session, SessionReader, SessionWriter,
    StreamOptions, TerminalSize,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Output of [`seam::Streams::exec_sync`] beyond this is cut off.
const OUTPUT_MAX: usize = 16 << 20;
/// How long output may go on after an exec has ended, from what it left behind.
const DRAIN: Duration = Duration::from_millis(500);

#[async_trait]
impl seam::Streams for OciRuntime {
    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        options: StreamOptions,
    ) -> seam::Result<Session> {
        let container = self.running_container(id)?;
        if command.is_empty() {
            return Err(RuntimeError::invalid("command", "is empty"));
        }
        let process = self.exec_process(&container, command, options.tty).await?;
        let mut start = ExecStart::new(&container.dir, options)?;
        match start.run(process).await {
            Ok(Ok(())) => {}
            // The container's end and the exec crossed.
            Err(_) | Ok(Err(_)) if !matches!(container.phase(), Phase::Running { .. }) => {
                return Err(RuntimeError::WrongState {
                    what: format!("container {id}"),
                    state: "exited".into(),
                });
            }
            Ok(Err(reason)) => return Err(RuntimeError::StartFailed { reason }),
            Err(e) => return Err(RuntimeError::io("talk to the container's shim", e)),
        }
        Ok(start.session(self)?)
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> seam::Result<ExecOutput> {
        let clock = self.0.env.clock.clone();
        let run = async {
            let options = StreamOptions {
                stdout: true,
                stderr: true,
                ..StreamOptions::default()
            };
            let session = self.exec(id, command, options).await?;
            let Session {
                stdout, stderr, exit, ..
            } = session;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut reading =
                Box::pin(async { tokio::join!(collect(stdout, &mut out), collect(stderr, &mut err)) });
            let mut exit = exit;
            let (code, read) = tokio::select! {
                code = &mut exit => (code?, false),
                _ = &mut reading => (0, true),
            };
            let code = if read { exit.await? } else { code };
            if !read {
                tokio::select! {
                    _ = &mut reading => {}
                    () = clock.sleep(DRAIN) => {}
                }
            }
            drop(reading);
            Ok(ExecOutput {
                code,
                stdout: out,
                stderr: err,
            })
        };
        match timeout {
            None => run.await,
            Some(after) => tokio::select! {
                done = run => done,
                // Dropping what runs closes its connection, upon which the shim kills the process.
                () = self.0.env.clock.sleep(after) => Err(RuntimeError::Timeout { after }),
            },
        }
    }

    async fn attach(&self, id: &ContainerId, options: StreamOptions) -> seam::Result<Session> {
        let container = self.running_container(id)?;
        let request = Request::Attach {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let connected = async {
            let (mut listener, speaker) = client::connect(&container.dir)?;
            speaker.say(&request).await?;
            listener.reply().await?;
            Ok::<_, std::io::Error>((listener, speaker))
        };
        let (listener, speaker) = match connected.await {
            Ok(connected) => connected,
            Err(e) => {
                // Ended just now, which the watch will note in a moment.
                return match container.phase() {
                    Phase::Running { .. } => Err(RuntimeError::io("talk to the container's shim", e)),
                    _ => Err(RuntimeError::WrongState {
                        what: format!("container {id}"),
                        state: "exited".into(),
                    }),
                };
            }
        };
        Ok(self.attached(container, options, listener, speaker))
    }

    async fn port_forward(
        &self,
        id: &SandboxId,
        port: u16,
    ) -> seam::Result<Box<dyn orch_core::client::Duplex>> {
        let sandbox = self
            .sandbox(id.as_str())
            .ok_or_else(|| RuntimeError::no_sandbox(id))?;
        let dir = self.sandbox_dir(&sandbox.id);
        if !sandbox.ready(&dir) {
            let what = format!("sandbox {id}");
            return Err(RuntimeError::WrongState {
                what,
                state: "not ready".into(),
            });
        }
        let netns = sandbox.namespace(&dir, "net");
        let stream = self.blocking(move || connect_in(netns, port)).await?;
        let stream =
            tokio::net::TcpStream::from_std(stream).map_err(|e| RuntimeError::io("forward a port", e))?;
        Ok(Box::new(stream))
    }
}

impl OciRuntime {
    /// The process of an exec, after the container's own.
    async fn exec_process(
        &self,
        container: &Container,
        command: &[String],
        tty: bool,
    ) -> Result<serde_json::Value> {
        let (file, command) = (container.dir.join(BUNDLE_FILE), command.to_vec());
        self.blocking(move || {
            let bytes = std::fs::read(&file).at("read", &file)?;
            let config = serde_json::from_slice(&bytes).map_err(|e| Error::Invalid {
                field: file.display().to_string(),
                reason: e.to_string(),
            })?;
            Ok(crate::spec::exec_process(&config, &command, tty))
        })
        .await
    }

    /// The session of an attached client.
    fn attached(
        &self,
        container: Arc<Container>,
        options: StreamOptions,
        mut listener: Listener,
        speaker: Speaker,
    ) -> Session {
        // Held by every piece of the session: when the last one goes, the receiver below wakes and hangs up.
        let (alive, all_gone) = oneshot::channel::<()>();
        let guard: Guard = Arc::new(parking_lot::Mutex::new(alive));
        let pipe = |wanted: bool| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            if wanted {
                (Some(ours), Some(theirs))
            } else {
                (None, None)
            }
        };
        let (mut out, stdout) = pipe(options.stdout);
        let (mut err, stderr) = pipe(options.stderr && !container.meta.lock().spec.tty);
        let (input, stdin) = pipe(options.stdin);
        let (ended_tx, ended) = oneshot::channel::<()>();
        let ended_container = container.clone();
        let pump = async move {
            let forward = async {
                while let Ok(Some(heard)) = listener.next().await {
                    let (to, bytes) = match heard {
                        Heard::Stream(TAG_STDOUT, bytes) => (&mut out, bytes),
                        Heard::Stream(TAG_STDERR, bytes) => (&mut err, bytes),
                        Heard::Reply(Reply::Ended) => break,
                        Heard::Stream(..) | Heard::Reply(_) => continue,
                    };
                    if let Some(stream) = to
                        && stream.write_all(&bytes).await.is_err()
                    {
                        // Nobody reads this stream any more; the others go on.
                        *to = None;
                    }
                }
                drop((out, err));
            };
            tokio::select! {
                () = forward => {}
                _ = all_gone => {}
            }
            drop(ended_tx);
        };
        self.0.env.spawner.spawn("orch-oci-attach", Box::pin(pump));
        if let Some(mut input) = input {
            let speaker = speaker.clone();
            let feed = async move {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let n = input.read(&mut buffer).await.unwrap_or(0);
                    let mut frame = Vec::new();
                    put_frame(&mut frame, TAG_STDIN, &buffer[..n]);
                    if speaker.send(&frame, &[]).await.is_err() || n == 0 {
                        return;
                    }
                }
            };
            self.0.env.spawner.spawn("orch-oci-attach", Box::pin(feed));
        }
        let resize = options.tty.then(|| {
            let (tx, mut sizes) = mpsc::channel::<TerminalSize>(4);
            let resize = async move {
                while let Some(size) = sizes.recv().await {
                    let request = Request::Resize {
                        width: size.width,
                        height: size.height,
                    };
                    if speaker.say(&request).await.is_err() {
                        return;
                    }
                }
            };
            self.0.env.spawner.spawn("orch-oci-attach", Box::pin(resize));
            tx
        });
        let held = guard.clone();
        let exit = async move {
            // An error means that the pump has ended, which is what is waited for.
            let _ = ended.await;
            let _held = held;
            ended_container.wait().await;
            match ended_container.phase() {
                Phase::Exited(exit) => Ok(exit.code),
                _ => Err(RuntimeError::Unavailable {
                    reason: "the container's end is not known".into(),
                    source: None,
                }),
            }
        };
        Session {
            stdin: stdin.map(|s| Box::new(Guarded::new(s, guard.clone())) as SessionWriter),
            stdout: stdout.map(|s| Box::new(Guarded::new(s, guard.clone())) as SessionReader),
            stderr: stderr.map(|s| Box::new(Guarded::new(s, guard.clone())) as SessionReader),
            resize,
            exit: Box::pin(exit),
        }
    }
}

/// An exec on its way.
struct ExecStart {
    options: StreamOptions,
    listener: Listener,
    speaker: Speaker,
    /// The process's ends, until they are sent.
    theirs: Option<[OwnedFd; 3]>,
    /// Ours: input, output, error output.
    ours: [Option<OwnedFd>; 3],
    terminal: Option<OwnedFd>,
}

impl ExecStart {
    fn new(dir: &Path, options: StreamOptions) -> Result<Self> {
        let (listener, speaker) = client::connect(dir).at("talk to the shim of", dir)?;
        let (mut theirs, mut ours) = (None, [None, None, None]);
        if !options.tty {
            let pipe = || pipe_with(PipeFlags::CLOEXEC).at("make a pipe for", dir);
            let null = || {
                use rustix::fs::{Mode, OFlags, open};
                open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at("open", "/dev/null")
            };
            let stdin = if options.stdin {
                let (r, w) = pipe()?;
                ours[0] = Some(w);
                r
            } else {
                null()?
            };
            let mut output = |i: usize, wanted: bool| -> Result<OwnedFd> {
                if !wanted {
                    return null();
                }
                let (r, w) = pipe()?;
                ours[i] = Some(r);
                Ok(w)
            };
            theirs = Some([stdin, output(1, options.stdout)?, output(2, options.stderr)?]);
        }
        Ok(Self {
            options,
            listener,
            speaker,
            theirs,
            ours,
            terminal: None,
        })
    }

    /// Has the shim run it; the inner error is the reason why it does not run.
    async fn run(&mut self, process: serde_json::Value) -> std::io::Result<std::result::Result<(), String>> {
        let request = Request::Exec {
            process,
            tty: self.options.tty,
        };
        {
            let theirs = self.theirs.take();
            let fds: Vec<_> = theirs.iter().flatten().map(AsFd::as_fd).collect();
            self.speaker.say_with(&request, &fds).await?;
        }
        match self.listener.reply().await? {
            Reply::Running { .. } => {}
            Reply::Failed { message } => return Ok(Err(message)),
            other => return Ok(Err(format!("the shim answered {other:?}"))),
        }
        if self.options.tty {
            match self.listener.take_fd() {
                Some(fd) => self.terminal = Some(fd),
                None => return Ok(Err("no terminal came from the shim".into())),
            }
        }
        Ok(Ok(()))
    }

    fn session(self, runtime: &OciRuntime) -> Result<Session> {
        let Self {
            options,
            mut listener,
            speaker,
            mut ours,
            terminal,
            ..
        } = self;
        // The connection stays open while a piece of the session lives; closing it kills the process.
        let guard: Guard = Arc::new(speaker);
        let mut resize = None;
        if let Some(terminal) = terminal {
            let copy = || terminal.try_clone().at("duplicate", "a terminal");
            let sizes = copy()?;
            if options.stdin {
                ours[0] = Some(copy()?);
            }
            if options.stdout {
                ours[1] = Some(copy()?);
            }
            let (tx, mut wanted) = mpsc::channel::<TerminalSize>(4);
            let task = async move {
                while let Some(size) = wanted.recv().await {
                    let size = Winsize {
                        ws_row: size.height,
                        ws_col: size.width,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    // A terminal that is gone has no size.
                    let _ = rustix::termios::tcsetwinsize(&sizes, size);
                }
            };
            runtime.0.env.spawner.spawn("orch-oci-resize", Box::pin(task));
            resize = Some(tx);
        }
        let [stdin, stdout, stderr] = ours;
        let stream = |fd: OwnedFd| FdStream::new(fd, guard.clone()).at("use", "a stream of an exec");
        let reader = |fd: Option<OwnedFd>| -> Result<Option<SessionReader>> {
            fd.map(|fd| Ok(Box::new(stream(fd)?) as SessionReader))
                .transpose()
        };
        let stdin = match stdin {
            Some(fd) if options.tty => Some(Box::new(stream(fd)?) as SessionWriter),
            Some(fd) => Some(Box::new(PipeWriter::new(stream(fd)?)) as SessionWriter),
            None => None,
        };
        let (stdout, stderr) = (reader(stdout)?, reader(stderr)?);
        let exit = async move {
            let _guard = guard;
            loop {
                match listener.reply().await {
                    Ok(Reply::ExecEnded { code }) => return Ok(code),
                    Ok(_) => {}
                    // The container ended, and the process with it.
                    Err(_) => return Ok(137),
                }
            }
        };
        Ok(Session {
            stdin,
            stdout,
            stderr,
            resize,
            exit: Box::pin(exit),
        })
    }
}

/// Reads a stream to its end, keeping no more than [`OUTPUT_MAX`].
async fn collect(stream: Option<SessionReader>, into: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 {
            break;
        }
        let room = OUTPUT_MAX - into.len();
        into.extend_from_slice(&buffer[..n.min(room)]);
    }
}

/// Connects to a port of the loopback in a network namespace.
fn connect_in(netns: Option<PathBuf>, port: u16) -> Result<StdTcpStream> {
    let connect = move || {
        if let Some(netns) = &netns {
            let file = std::fs::File::open(netns).at("open", netns)?;
            rustix::thread::move_into_link_name_space(
                file.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .at("enter", netns)?;
        }
        let limit = Duration::from_secs(10);
        let to = |ip: IpAddr| StdTcpStream::connect_timeout(&SocketAddr::new(ip, port), limit);
        let stream =
            to(Ipv4Addr::LOCALHOST.into()).or_else(|e| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| e));
        let stream = stream.map_err(|e| Error::Io {
            what: format!("connect to port {port} of the pod"),
            source: e,
        })?;
        // Latency over throughput, as for everything interactive.
        stream.set_nodelay(true).at("set up", "a forwarded port")?;
        stream.set_nonblocking(true).at("set up", "a forwarded port")?;
        Ok(stream)
    };
    // A thread that has moved into another namespace is thrown away.
    let thread = std::thread::Builder::new()
        .name("orch-forward".into())
        .spawn(connect);
    thread
        .at("start a thread for", "port forwarding")?
        .join()
        .unwrap_or_else(|p| std::panic::resume_unwind(p))
}
