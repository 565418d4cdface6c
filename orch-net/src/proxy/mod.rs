//! Service proxying: from Services and EndpointSlices to where connections go.
//!
//! [`compile`] turns API objects into a [`RuleTable`] (pure), and a [`ServiceProxy`] makes the table true:
//! [`nftables::NftablesProxy`] in the kernel, [`userspace::UserspaceProxy`] where there is no privilege or no `nft`.

mod compile;
pub mod nftables;
mod table;
pub mod userspace;

pub use compile::compile;
pub use table::{Protocol, RuleTable, ServiceName, ServiceRule};

use async_trait::async_trait;

/// What a sync changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Service ports whose rules were written anew.
    pub written: usize,
    /// Service ports whose rules were removed.
    pub removed: usize,
}

/// Why a table could not be made true. The previous table then still holds.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The tool that a backend needs is not installed.
    #[error("{tool} is not installed")]
    ToolMissing {
        /// Name of the executable.
        tool: &'static str,
    },
    /// The kernel or the tool refused the rules.
    #[error("{tool} refused the rules: {message}")]
    Refused {
        /// Name of the executable.
        tool: &'static str,
        /// What it printed.
        message: String,
    },
    /// A listening address could not be bound or configured.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Other input or output failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Makes a whole [`RuleTable`] true on this machine.
#[async_trait]
pub trait ServiceProxy: Send + Sync {
    /// Replaces what holds by `table`: all or nothing, idempotent. Connections that are already established go on,
    /// also to endpoints that left the table.
    ///
    /// # Errors
    /// [`ProxyError`]; the table synced before then still holds.
    ///
    /// # Cancel safety
    /// A dropped call has either applied the table or not; the next call applies what differs.
    async fn sync(&self, table: &RuleTable) -> Result<Applied, ProxyError>;

    /// Removes every trace from the machine. May repeat.
    ///
    /// # Errors
    /// [`ProxyError`] if something could not be removed.
    async fn clear(&self) -> Result<(), ProxyError>;
}
