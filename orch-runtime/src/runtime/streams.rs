//! Sessions: the streams of a command or container.

use super::RuntimeError;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Input of a process. Shutting it down or dropping it is the end of input.
pub type SessionWriter = Box<dyn AsyncWrite + Send + Unpin>;
/// Output of a process.
pub type SessionReader = Box<dyn AsyncRead + Send + Unpin>;

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// Write to its input.
    pub stdin: bool,
    /// Read its output.
    pub stdout: bool,
    /// Read its error output; never with `tty`.
    pub stderr: bool,
    /// Through a terminal.
    pub tty: bool,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The streams of a running command (exec) or container (attach). What was not asked for is `None`.
pub struct Session {
    /// Its input.
    pub stdin: Option<SessionWriter>,
    /// Its output; with a terminal, all of it.
    pub stdout: Option<SessionReader>,
    /// Its error output.
    pub stderr: Option<SessionReader>,
    /// Takes new sizes, with a terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Completes with the exit code when the process has ended. Output may still be buffered in the readers then; they
    /// end by themselves.
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// Outcome of a command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Exit code; 128 + N for signal N.
    pub code: i32,
    /// What it wrote to its output.
    pub stdout: Vec<u8>,
    /// What it wrote to its error output.
    pub stderr: Vec<u8>,
}
