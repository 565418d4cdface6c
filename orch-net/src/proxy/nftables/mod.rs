//! Services as nftables rules.
//!
//! One table holds verdict maps from (address, protocol, port) to a chain per service port, and each service chain picks
//! an endpoint chain at random (or by client affinity), which rewrites the destination. After the first sync only what
//! differs is written: map elements and the chains of changed services, each sync as one transaction of `nft -f -`.
//! Connection tracking keeps established connections on their endpoint.
//!
//! IPv4 only for now: a service's IPv6 addresses are left out.

mod rules;

use super::{Applied, ProxyError, RuleTable, ServiceProxy};
use async_trait::async_trait;
use ipnet::Ipv4Net;
use rules::{Layout, render_base, render_change};
use std::process::Stdio;
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex};

/// Addresses that the rules need to know.
#[derive(Debug, Clone)]
pub struct NftablesConfig {
    /// Name of the nftables table; two clusters on one machine need two names.
    pub table: String,
    /// Range of cluster IPs: what no rule takes is refused instead of leaving the machine.
    pub service_cidr: Ipv4Net,
    /// Range of pod addresses: traffic from elsewhere to a Service is masqueraded where the answer must come back.
    pub pod_cidr: Ipv4Net,
}

/// [`ServiceProxy`] over the `nft` program.
pub struct NftablesProxy {
    config: NftablesConfig,
    /// What the kernel holds; `None` before the first sync.
    held: Mutex<Option<Layout>>,
}

impl NftablesProxy {
    /// A proxy that has written nothing yet.
    #[must_use]
    pub fn new(config: NftablesConfig) -> Self {
        Self {
            config,
            held: Mutex::new(None),
        }
    }

    /// Whether `nft` is installed and may change this network namespace's rules; the error says what is missing.
    ///
    /// # Errors
    /// [`ProxyError::ToolMissing`] or [`ProxyError::Refused`].
    pub async fn probe() -> Result<(), ProxyError> {
        run_nft(&["-c", "-f", "-"], "add table ip orch-probe\n").await
    }
}

#[async_trait]
impl ServiceProxy for NftablesProxy {
    async fn sync(&self, table: &RuleTable) -> Result<Applied, ProxyError> {
        let wanted = Layout::of(table);
        let mut held = self.held.lock().await;
        let mut script = String::new();
        let nothing = Layout::default();
        let from = match &*held {
            Some(layout) => layout,
            None => {
                render_base(&self.config, &mut script);
                &nothing
            }
        };
        let applied = render_change(&self.config.table, from, &wanted, &mut script);
        if !script.is_empty() {
            run_nft(&["-f", "-"], &script).await?;
        }
        *held = Some(wanted);
        Ok(applied)
    }

    async fn clear(&self) -> Result<(), ProxyError> {
        let mut held = self.held.lock().await;
        let name = &self.config.table;
        run_nft(
            &["-f", "-"],
            &format!("add table ip {name}\ndelete table ip {name}\n"),
        )
        .await?;
        *held = None;
        Ok(())
    }
}

/// Feeds `script` to `nft` as one transaction.
pub(crate) async fn run_nft(args: &[&str], script: &str) -> Result<(), ProxyError> {
    let io = |source| ProxyError::Io {
        what: "running nft",
        source,
    };
    let spawned = Command::new("nft")
        .args(args)
        .env(
            "PATH",
            "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin",
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(ProxyError::ToolMissing { tool: "nft" });
        }
        Err(e) => return Err(io(e)),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A refusal closes the pipe early; its message says more than the broken pipe does.
        drop(stdin.write_all(script.as_bytes()).await);
    }
    let output = child.wait_with_output().await.map_err(io)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr)
        .lines()
        .take(3)
        .collect::<Vec<_>>()
        .join("; ");
    Err(ProxyError::Refused { tool: "nft", message })
}
