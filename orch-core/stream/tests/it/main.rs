//! Both protocols end to end, client and server over an in-memory connection.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop; it runs in real time"
)]
use futures::{SinkExt, StreamExt};
use orch_stream::{
    CommandOptions, CommandProtocol, CommandStreams, ForwardProtocol, Size, serve_command, serve_forward,
    spdy::{Connection, Headers, Role},
    websocket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

const ALL: CommandOptions = CommandOptions {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

fn never() -> futures::future::BoxFuture<'static, ()> {
    Box::pin(std::future::pending())
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Stands for a process: echoes its input to its output in upper case, then ends.
async fn upper(mut streams: CommandStreams) {
    let mut stdin = streams.stdin.take().unwrap();
    let mut text = String::new();
    stdin.read_to_string(&mut text).await.unwrap();
    let (mut out, mut err) = (streams.stdout.take().unwrap(), streams.stderr.take().unwrap());
    out.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    err.write_all(b"done").await.unwrap();
    drop((out, err));
    streams.finish(r#"{"status":"Success"}"#);
}

fn typed(kind: &str) -> Headers {
    [("streamtype".to_owned(), kind.to_owned())].into()
}

#[tokio::test]
async fn a_command_over_spdy() {
    let (client, server) = tokio::io::duplex(1 << 16);
    spawn(async move {
        let protocol = CommandProtocol::Spdy { version: 4 };
        let (streams, driver) = serve_command(Box::new(server), protocol, ALL, never())
            .await
            .unwrap();
        spawn(driver);
        upper(streams).await;
    });
    let (mut connection, driver) = Connection::new(Box::new(client), Role::Client).unwrap();
    spawn(driver);
    let mut error = connection.open(typed("error")).await.unwrap();
    let mut stdin = connection.open(typed("stdin")).await.unwrap();
    let mut stdout = connection.open(typed("stdout")).await.unwrap();
    let mut stderr = connection.open(typed("stderr")).await.unwrap();
    let input = "hello ".repeat(50_000);
    let (written, mut output, mut errors, mut status) =
        (input.clone(), String::new(), String::new(), String::new());
    let write = async {
        stdin.write_all(written.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let (_, a, b, c) = tokio::join!(
        write,
        stdout.read_to_string(&mut output),
        stderr.read_to_string(&mut errors),
        error.read_to_string(&mut status)
    );
    for read in [a, b, c] {
        read.unwrap();
    }
    assert_eq!(output, input.to_uppercase());
    assert_eq!(
        (errors.as_str(), status.as_str()),
        ("done", r#"{"status":"Success"}"#)
    );
}

#[tokio::test]
async fn a_command_over_websocket_closes_its_input_alone() {
    let (client, server) = tokio::io::duplex(1 << 16);
    spawn(async move {
        let protocol = CommandProtocol::WebSocket { version: 5 };
        let (streams, driver) = serve_command(Box::new(server), protocol, ALL, never())
            .await
            .unwrap();
        spawn(driver);
        upper(streams).await;
    });
    let mut socket = websocket::socket(Box::new(client), websocket::Role::Client).await;
    for message in [&b"\0hel"[..], b"\0lo", &[255, 0]] {
        socket
            .send(Message::Binary(message.to_vec().into()))
            .await
            .unwrap();
    }
    let mut channels: [Vec<u8>; 4] = Default::default();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
    }
    assert_eq!(channels[1], b"HELLO");
    assert_eq!(channels[2], b"done");
    assert_eq!(channels[3], br#"{"status":"Success"}"#);
}

#[tokio::test]
async fn terminal_sizes_arrive() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let options = CommandOptions {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let protocol = CommandProtocol::WebSocket { version: 4 };
    let (mut streams, driver) = serve_command(Box::new(server), protocol, options, never())
        .await
        .unwrap();
    spawn(driver);
    assert!(streams.stderr.is_none());
    let mut socket = websocket::socket(Box::new(client), websocket::Role::Client).await;
    let message = [&[4][..], br#"{"Width":120,"Height":40}"#].concat();
    socket.send(Message::Binary(message.into())).await.unwrap();
    assert_eq!(
        streams.resize.recv().await,
        Some(Size {
            width: 120,
            height: 40
        })
    );
    drop(socket);
    assert_eq!(
        streams.resize.recv().await,
        None,
        "a client that is gone ends its channels"
    );
}

#[tokio::test]
async fn a_slow_spdy_client_is_not_waited_for() {
    let (_client, server) = tokio::io::duplex(64);
    let protocol = CommandProtocol::Spdy { version: 4 };
    let served = serve_command(Box::new(server), protocol, ALL, Box::pin(async {})).await;
    assert!(matches!(served.err(), Some(orch_stream::StreamError::Timeout)));
}

async fn forward_twice(mut connection: Connection) {
    for id in 0..2 {
        let headers = |kind: &str| -> Headers {
            let pairs = [
                ("streamtype", kind),
                ("port", "8080"),
                ("requestid", if id == 0 { "0" } else { "1" }),
            ];
            pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into()
        };
        let mut error = connection.open(headers("error")).await.unwrap();
        error.shutdown().await.unwrap();
        let mut data = connection.open(headers("data")).await.unwrap();
        data.write_all(b"ping").await.unwrap();
        data.shutdown().await.unwrap();
        let mut answer = String::new();
        data.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "8080:ping");
        let mut errors = String::new();
        error.read_to_string(&mut errors).await.unwrap();
        assert_eq!(errors, "no more");
    }
}

async fn answer(forward: orch_stream::Forward) {
    let orch_stream::Forward {
        port,
        mut data,
        mut error,
    } = forward;
    let mut text = String::new();
    data.read_to_string(&mut text).await.unwrap();
    data.write_all(format!("{port}:{text}").as_bytes()).await.unwrap();
    data.shutdown().await.unwrap();
    error.write_all(b"no more").await.unwrap();
    error.shutdown().await.unwrap();
}

#[tokio::test]
async fn ports_over_spdy_plain_and_tunnelled() {
    for protocol in [ForwardProtocol::Spdy, ForwardProtocol::Tunnel] {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (mut forwards, driver) = serve_forward(Box::new(server), protocol, &[]).await.unwrap();
        spawn(driver);
        spawn(async move {
            while let Some(forward) = forwards.recv().await {
                spawn(answer(forward));
            }
        });
        let io: orch_stream::BoxIo = match protocol {
            ForwardProtocol::Tunnel => Box::new(websocket::ByteStream::new(
                websocket::socket(Box::new(client), websocket::Role::Client).await,
            )),
            _ => Box::new(client),
        };
        let (connection, driver) = Connection::new(io, Role::Client).unwrap();
        spawn(driver);
        forward_twice(connection).await;
    }
}

#[tokio::test]
async fn ports_over_websocket_channels() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (mut forwards, driver) = serve_forward(Box::new(server), ForwardProtocol::WebSocket, &[80])
        .await
        .unwrap();
    spawn(driver);
    let mut socket = websocket::socket(Box::new(client), websocket::Role::Client).await;
    let mut forward = forwards.recv().await.unwrap();
    socket
        .send(Message::Binary(b"\0hi".to_vec().into()))
        .await
        .unwrap();
    let mut two = [0; 2];
    forward.data.read_exact(&mut two).await.unwrap();
    assert_eq!((forward.port, &two), (80, b"hi"));
    forward.data.write_all(b"yo").await.unwrap();
    drop(forward);
    let mut seen = Vec::new();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        seen.push(bytes.to_vec());
    }
    seen.sort();
    assert_eq!(seen, [vec![0, 80, 0], b"\0yo".to_vec(), vec![1, 80, 0]]);
}

#[tokio::test]
async fn garbage_ends_the_connection_without_a_panic() {
    for garbage in [
        &[0xff_u8; 64][..],
        &[0x80, 3, 0, 1, 0, 0, 0, 2, 1, 2],
        &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
    ] {
        let (mut client, server) = tokio::io::duplex(1 << 12);
        let (mut connection, driver) = Connection::new(Box::new(server), Role::Server).unwrap();
        client.write_all(garbage).await.unwrap();
        drop(client);
        spawn(driver);
        assert!(connection.accept().await.is_none());
    }
}
