//! Making cluster IPs local, so that sockets can listen on them.

use crate::{pod::link, proxy::ProxyError};
use async_trait::async_trait;
use std::net::IpAddr;

/// Short name for the trait's usual use.
pub type Addresses = dyn AddressOwner;

/// Makes addresses belong to this machine.
#[async_trait]
pub trait AddressOwner: Send + Sync {
    /// After it returns, a socket can listen on `ip`. May repeat.
    ///
    /// # Errors
    /// [`ProxyError::Listen`].
    async fn claim(&self, ip: IpAddr) -> Result<(), ProxyError>;
    /// Gives `ip` back. Ok when it was not claimed.
    ///
    /// # Errors
    /// [`ProxyError::Listen`].
    async fn release(&self, ip: IpAddr) -> Result<(), ProxyError>;
}

/// Adds and removes addresses on the loopback interface (needs `CAP_NET_ADMIN`).
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopbackAddresses;

#[async_trait]
impl AddressOwner for LoopbackAddresses {
    async fn claim(&self, ip: IpAddr) -> Result<(), ProxyError> {
        link::add_loopback_address(ip)
            .await
            .map_err(|e| ProxyError::Listen {
                address: ip.to_string(),
                source: std::io::Error::other(e),
            })
    }

    async fn release(&self, ip: IpAddr) -> Result<(), ProxyError> {
        link::remove_loopback_address(ip)
            .await
            .map_err(|e| ProxyError::Listen {
                address: ip.to_string(),
                source: std::io::Error::other(e),
            })
    }
}
