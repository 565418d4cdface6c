//! Exec and attach: five channels over one connection.

use crate::{
    BoxIo, Driver, Reader, StreamError, Writer,
    negotiate::CommandProtocol,
    spdy::{Connection, Role, SpdyStream},
    websocket::{self, Socket},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::tungstenite::Message;

/// Bytes buffered per channel between the connection and the process.
const BUFFER_BYTES: usize = 64 * 1024;
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Which channels the client asked for in the request's query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommandOptions {
    /// `stdin`/`input`.
    pub stdin: bool,
    /// `stdout`/`output`.
    pub stdout: bool,
    /// `stderr`/`error`; never with `tty`.
    pub stderr: bool,
    /// `tty`.
    pub tty: bool,
}

/// Size of the client's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The client's channels. What was not asked for is `None`.
pub struct CommandStreams {
    /// What the client types; its end is the end of input.
    pub stdin: Option<Reader>,
    /// The process' output. Drop it when the process has closed it.
    pub stdout: Option<Writer>,
    /// The process' error output. Drop it when the process has closed it.
    pub stderr: Option<Writer>,
    /// New terminal sizes.
    pub resize: mpsc::Receiver<Size>,
    finish: oneshot::Sender<Bytes>,
}

impl CommandStreams {
    /// Ends the session with a `meta/v1` `Status` in JSON, after all output. Drop the writers before.
    pub fn finish(self, status: impl Into<Bytes>) {
        drop((self.stdout, self.stderr, self.stdin));
        // A client that is gone does not wait for the status.
        drop(self.finish.send(status.into()));
    }
}

/// Serves the channels on an upgraded connection. Spawn the driver.
///
/// `timeout` bounds how long a SPDY client may take to open its streams.
///
/// # Errors
/// [`StreamError`] when the client breaks the protocol or is too slow.
pub async fn serve_command(
    io: BoxIo,
    protocol: CommandProtocol,
    options: CommandOptions,
    timeout: BoxFuture<'static, ()>,
) -> Result<(CommandStreams, Driver), StreamError> {
    match protocol {
        CommandProtocol::WebSocket { version } => Ok(over_websocket(
            websocket::socket(io, websocket::Role::Server).await,
            options,
            version,
        )),
        CommandProtocol::Spdy { version } => over_spdy(io, options, version, timeout).await,
    }
}

/// One pipe per channel: the outer ends for the caller, the inner ends for the driver.
struct Pipes {
    stdin: Option<DuplexStream>,
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
    sizes: mpsc::Sender<Size>,
    status: oneshot::Receiver<Bytes>,
}

fn pipes(options: CommandOptions) -> (CommandStreams, Pipes) {
    let pair = |wanted: bool| {
        if wanted {
            let (a, b) = tokio::io::duplex(BUFFER_BYTES);
            (Some(a), Some(b))
        } else {
            (None, None)
        }
    };
    let (stdin, stdin_inner) = pair(options.stdin);
    let (stdout, stdout_inner) = pair(options.stdout);
    let (stderr, stderr_inner) = pair(options.stderr && !options.tty);
    let (sizes, resize) = mpsc::channel(8);
    let (finish, status) = oneshot::channel();
    let outer = CommandStreams {
        stdin: stdin.map(|s| Box::new(s) as Reader),
        stdout: stdout.map(|s| Box::new(s) as Writer),
        stderr: stderr.map(|s| Box::new(s) as Writer),
        resize,
        finish,
    };
    (
        outer,
        Pipes {
            stdin: stdin_inner,
            stdout: stdout_inner,
            stderr: stderr_inner,
            sizes,
            status,
        },
    )
}

fn size_of(message: &[u8]) -> Option<Size> {
    // `{"Width":80,"Height":24}`, as Go writes it; numbers only, so no JSON library is needed for two of them.
    let text = std::str::from_utf8(message).ok()?;
    let field = |name: &str| {
        let rest = text
            .split_once(&format!("\"{name}\""))?
            .1
            .trim_start()
            .strip_prefix(':')?
            .trim_start();
        rest.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    Some(Size {
        width: field("Width")?,
        height: field("Height")?,
    })
}

fn over_websocket(socket: Socket, options: CommandOptions, version: u8) -> (CommandStreams, Driver) {
    let (outer, pipes) = pipes(options);
    let (mut sink, mut source) = socket.split();
    let Pipes {
        mut stdin,
        mut stdout,
        mut stderr,
        sizes,
        status,
    } = pipes;
    let (messages, mut queue) = mpsc::channel::<Message>(16);
    let receive = async move {
        while let Some(Ok(message)) = source.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
                Message::Close(_) => break,
                _ => continue,
            };
            match (bytes.first(), bytes.get(1..).unwrap_or_default()) {
                (Some(&STDIN), rest) => {
                    if let Some(to) = &mut stdin
                        && to.write_all(rest).await.is_err()
                    {
                        // The process closed its input; the rest has no reader.
                        stdin = None;
                    }
                }
                (Some(&RESIZE), rest) => {
                    if let Some(size) = size_of(rest) {
                        let _ = sizes.send(size).await;
                    }
                }
                (Some(&CLOSE), [STDIN, ..]) if version >= 5 => stdin = None,
                _ => {}
            }
        }
    };
    let outputs = async move {
        let out = pump_channel(STDOUT, stdout.take(), messages.clone());
        let err = pump_channel(STDERR, stderr.take(), messages.clone());
        // The first message on each channel is empty: clients learn from it that the channel is open.
        tokio::join!(out, err);
        if let Ok(status) = status.await {
            drop(messages.send(channel_message(ERROR, &status)).await);
        }
    };
    let transmit = async move {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        drop(sink.send(Message::Close(Some(normal_closure()))).await);
        drop(sink.close().await);
    };
    let driver = Box::pin(async move {
        let work = futures::future::join(outputs, transmit);
        tokio::pin!(work);
        let mut receive = Box::pin(receive);
        tokio::select! {
            _ = &mut work => {}
            () = &mut receive => {
                // The client is gone: dropping the pipes tells the process' side. It may still be reading the last
                // output if it only closed its half.
                drop(receive);
                work.await;
            }
        }
    });
    (outer, driver)
}

fn normal_closure() -> tokio_tungstenite::tungstenite::protocol::CloseFrame {
    tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Normal,
        reason: "".into(),
    }
}

fn channel_message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

async fn pump_channel(channel: u8, from: Option<DuplexStream>, to: mpsc::Sender<Message>) {
    let Some(mut from) = from else { return };
    if to.send(channel_message(channel, &[])).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to
            .send(channel_message(channel, &buffer[..length]))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn over_spdy(
    io: BoxIo,
    options: CommandOptions,
    version: u8,
    timeout: BoxFuture<'static, ()>,
) -> Result<(CommandStreams, Driver), StreamError> {
    let (mut connection, driver) = Connection::new(io, Role::Server)?;
    let mut driver = driver;
    let wants_resize = options.tty && version >= 3;
    let mut expected =
        1 + usize::from(options.stdin) + usize::from(options.stdout) + usize::from(wants_resize);
    expected += usize::from(options.stderr && !options.tty);
    let mut streams: Vec<SpdyStream> = Vec::new();
    {
        let collect = async {
            while streams.len() < expected {
                match connection.accept().await {
                    Some(stream) => streams.push(stream),
                    None => return Err(StreamError::Io(std::io::ErrorKind::UnexpectedEof.into())),
                }
            }
            Ok(())
        };
        tokio::select! {
            r = collect => r?,
            () = &mut driver => return Err(StreamError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            () = timeout => return Err(StreamError::Timeout),
        }
    }
    let mut take = |kind: &str| {
        streams
            .iter()
            .position(|s| s.header("streamtype") == kind)
            .map(|at| streams.swap_remove(at))
    };
    let (stdin, stdout, stderr) = (take("stdin"), take("stdout"), take("stderr"));
    let (error, resize) = (take("error"), take("resize"));
    let Some(mut error) = error else {
        return Err(StreamError::Protocol("no error stream".into()));
    };
    let (outer, pipes) = pipes(options);
    let Pipes {
        stdin: inner_stdin,
        stdout: inner_stdout,
        stderr: inner_stderr,
        sizes,
        status,
    } = pipes;
    let input = async move {
        if let (Some(mut from), Some(mut to)) = (stdin, inner_stdin) {
            drop(tokio::io::copy(&mut from, &mut to).await);
            drop(to);
            // Held so that dropping it does not reset the stream while the process runs.
            std::future::pending::<()>().await;
            drop(from);
        }
        std::future::pending::<()>().await;
    };
    let terminal = async move {
        if let Some(resize) = resize {
            read_sizes(resize, &sizes).await;
        }
        std::future::pending::<()>().await;
    };
    let output = async move {
        tokio::join!(
            pump_stream(inner_stdout, stdout),
            pump_stream(inner_stderr, stderr)
        );
        if let Ok(status) = status.await {
            // Before version 4 success is an empty error stream and failure is plain text.
            let text = if version >= 4 { status } else { plain_text(&status) };
            drop(error.write_all(&text).await);
        }
        drop(error.shutdown().await);
    };
    let driver = Box::pin(async move {
        let work = async move {
            tokio::select! {
                () = output => {}
                () = input => {}
                () = terminal => {}
            }
            connection.close().await;
        };
        // The connection's driver ends last: it flushes what the streams queued.
        tokio::join!(work, driver);
    });
    Ok((outer, driver))
}

async fn pump_stream(from: Option<DuplexStream>, to: Option<SpdyStream>) {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        drop(tokio::io::copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
    }
}

async fn read_sizes(mut from: SpdyStream, to: &mpsc::Sender<Size>) {
    let mut text = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..length]);
        while let Some(end) = text.iter().position(|b| *b == b'}') {
            let message: Vec<u8> = text.drain(..=end).collect();
            if let Some(size) = size_of(&message) {
                let _ = to.send(size).await;
            }
        }
        if text.len() > 4096 {
            return;
        }
    }
}

/// The message of a failure `Status`, nothing for success.
fn plain_text(status: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(status);
    if text.contains("\"status\":\"Success\"") {
        Bytes::new()
    } else {
        Bytes::from(text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_gos_json() {
        assert_eq!(
            size_of(br#"{"Width":80,"Height":24}"#),
            Some(Size {
                width: 80,
                height: 24
            })
        );
        assert_eq!(
            size_of(b"{\"Width\": 80, \"Height\": 24}\n"),
            Some(Size {
                width: 80,
                height: 24
            })
        );
        for bad in ["", "{}", r#"{"Width":80}"#, r#"{"Width":99999999,"Height":1}"#] {
            assert_eq!(size_of(bad.as_bytes()), None, "{bad}");
        }
    }
}
