//! TCP: accept, choose an endpoint, splice.

use super::Backends;
use orch_core::{Env, spawn::TaskHandle};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// How long one endpoint may take to accept before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) async fn listen(
    env: &Env,
    bind: SocketAddr,
    backends: Arc<Backends>,
) -> io::Result<(SocketAddr, TaskHandle)> {
    let listener = TcpListener::bind(bind).await?;
    let local = listener.local_addr()?;
    let (clock, spawner) = (env.clock.clone(), env.spawner.clone());
    let accept = async move {
        loop {
            let Ok((client, from)) = listener.accept().await else {
                // Out of file descriptors or the like: let some close before trying again.
                clock.sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (backends, clock) = (backends.clone(), clock.clone());
            spawner.spawn(
                "proxy-connection",
                Box::pin(async move {
                    for endpoint in backends.candidates(from.ip()) {
                        let connect = TcpStream::connect(endpoint);
                        let connected = tokio::select! {
                            c = connect => c,
                            () = clock.sleep(CONNECT_TIMEOUT) => Err(io::ErrorKind::TimedOut.into()),
                        };
                        if let Ok(server) = connected {
                            backends.chose(from.ip(), endpoint);
                            splice(client, server).await;
                            return;
                        }
                    }
                    // No endpoint: a reset tells the client at once, as the kernel rules do.
                    drop(client.set_zero_linger());
                }),
            );
        }
    };
    Ok((local, env.spawner.spawn("proxy-listener", Box::pin(accept))))
}

async fn splice(mut client: TcpStream, mut server: TcpStream) {
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    // An error on either side ends both; there is nobody to tell.
    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
}
