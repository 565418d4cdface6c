//! Port-forward: a data and an error stream per connection.

use crate::{
    BoxIo, Driver, StreamError, Writer,
    negotiate::ForwardProtocol,
    spdy::{Connection, Role, SpdyStream},
    websocket,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

const BUFFER_BYTES: usize = 64 * 1024;

/// The client's end of one forwarded connection.
pub type ForwardData = BoxIo;

/// One connection that the client wants forwarded.
pub struct Forward {
    /// Port inside the pod.
    pub port: u16,
    /// The connection's bytes. Shut it down when the pod's side has ended.
    pub data: ForwardData,
    /// Takes a text that says why the connection failed; shut it down or drop it when there is none.
    pub error: Writer,
}

/// Serves a port-forward on an upgraded connection: each forwarded connection comes out of the receiver, which ends
/// with the client. `ports` are those of the request's query (WebSocket only). Spawn the driver.
///
/// # Errors
/// [`StreamError`].
pub async fn serve_forward(
    io: BoxIo,
    protocol: ForwardProtocol,
    ports: &[u16],
) -> Result<(mpsc::Receiver<Forward>, Driver), StreamError> {
    match protocol {
        ForwardProtocol::Spdy => over_spdy(io),
        ForwardProtocol::Tunnel => {
            let socket = websocket::socket(io, websocket::Role::Server).await;
            over_spdy(Box::new(websocket::ByteStream::new(socket)))
        }
        ForwardProtocol::WebSocket => Ok(over_channels(
            websocket::socket(io, websocket::Role::Server).await,
            ports.to_vec(),
        )),
    }
}

fn over_spdy(io: BoxIo) -> Result<(mpsc::Receiver<Forward>, Driver), StreamError> {
    let (mut connection, driver) = Connection::new(io, Role::Server)?;
    let (found, forwards) = mpsc::channel(16);
    let pair = async move {
        // Half-open pairs by request id (clients before 1.6 send none: then the port is the id).
        let mut waiting: BTreeMap<String, SpdyStream> = BTreeMap::new();
        while let Some(stream) = connection.accept().await {
            let id = match stream.header("requestid") {
                "" => stream.header("port").to_owned(),
                id => id.to_owned(),
            };
            let Some(other) = waiting.remove(&id) else {
                if waiting.len() < 1024 {
                    waiting.insert(id, stream);
                }
                continue;
            };
            let (data, error) = match (stream.header("streamtype"), other.header("streamtype")) {
                ("data", "error") => (stream, other),
                ("error", "data") => (other, stream),
                _ => continue,
            };
            let Ok(port @ 1..) = data.header("port").parse::<u16>() else {
                continue;
            };
            if found
                .send(Forward {
                    port,
                    data: Box::new(data),
                    error: Box::new(error),
                })
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let driver = Box::pin(async move {
        tokio::join!(pair, driver);
    });
    Ok((forwards, driver))
}

/// `v4.channel.k8s.io`: port number N of the query has data channel 2N and error channel 2N+1, and the server's first
/// message on each is the port as two bytes, little endian.
fn over_channels(socket: websocket::Socket, ports: Vec<u16>) -> (mpsc::Receiver<Forward>, Driver) {
    let (found, forwards) = mpsc::channel(ports.len().max(1));
    let (messages, mut queue) = mpsc::channel::<Message>(16);
    let (mut sink, mut source) = socket.split();
    let mut to_pod = Vec::new();
    let mut pumps = Vec::new();
    for (n, port) in ports.iter().take(127).enumerate() {
        let (client, ours) = tokio::io::duplex(BUFFER_BYTES);
        let (error, errors) = tokio::io::duplex(4096);
        let (from_pod, into_pod) = tokio::io::split(ours);
        to_pod.push(Some(into_pod));
        drop(found.try_send(Forward {
            port: *port,
            data: Box::new(client),
            error: Box::new(error),
        }));
        let (data_channel, error_channel) = ((2 * n) as u8, (2 * n + 1) as u8);
        let (messages, port) = (messages.clone(), *port);
        pumps.push(async move {
            for channel in [data_channel, error_channel] {
                drop(messages.send(framed(channel, &port.to_le_bytes())).await);
            }
            tokio::join!(
                pump(data_channel, from_pod, &messages),
                pump(error_channel, errors, &messages)
            );
        });
    }
    drop((messages, found));
    let receive = async move {
        while let Some(Ok(message)) = source.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return,
                _ => continue,
            };
            let Some((channel, rest)) = bytes.split_first() else {
                continue;
            };
            let Some(slot) = to_pod
                .get_mut(usize::from(*channel / 2))
                .filter(|_| channel % 2 == 0)
            else {
                continue;
            };
            if let Some(writer) = slot
                && writer.write_all(rest).await.is_err()
            {
                *slot = None;
            }
        }
    };
    let transmit = async move {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        drop(sink.send(Message::Close(None)).await);
        drop(sink.close().await);
    };
    let driver = Box::pin(async move {
        let pumps = futures::future::join_all(pumps);
        let work = futures::future::join(pumps, transmit);
        tokio::select! {
            _ = work => {}
            () = receive => {}
        }
    });
    (forwards, driver)
}

fn framed(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(Bytes::from(message))
}

async fn pump(channel: u8, mut from: impl AsyncReadExt + Unpin, to: &mpsc::Sender<Message>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.send(framed(channel, &buffer[..length])).await.is_err() {
            return;
        }
    }
}
