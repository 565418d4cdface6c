//! Listening sockets.

use crate::setup_error::SetupError;
use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 picks a free one. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError::AddressInUse`] if another process listens there, else [`SetupError::Listen`].
    pub fn bind(address: SocketAddr) -> Result<Self, SetupError> {
        let bind = || -> io::Result<TcpListener> {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            // A restarted server may take its port back while old connections linger in TIME_WAIT.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => SetupError::AddressInUse { address },
            _ => SetupError::Listen { address, source },
        };
        let socket = bind().map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// The address that it is bound to, with the port that was picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_a_clear_error() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Listener::bind(first.address()).unwrap_err();
        assert!(matches!(error, SetupError::AddressInUse { .. }));
        assert!(
            error.to_string().starts_with("address already in use") && error.to_string().contains("--listen")
        );
    }
}
