//! What a node needs to join, as files in one directory: made on the control plane's machine, carried to the node's.
//!
//! | file | what |
//! |---|---|
//! | `kubeconfig` | the node's client certificate and the API server's address |
//! | `serving.crt`, `serving.key` | certificate of the node's own API |
//! | `cluster.json` | name and address of the node, ranges and domain of the cluster |

use ipnet::Ipv4Net;
use orch_api::{
    SetupError,
    http_client::HttpClient,
    kubeconfig::Kubeconfig,
    pki::{KeyAndCert, Pki, ServingNames},
};
use orch_core::Env;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::machine::NodeIdentity;

/// What `cluster.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Name of the node.
    pub node: String,
    /// Address of the node.
    pub node_ip: Ipv4Addr,
    /// All pods of the cluster.
    pub pod_cidr: Ipv4Net,
    /// Cluster IPs.
    pub service_cidr: Ipv4Net,
    /// Address of cluster DNS.
    pub dns_ip: Ipv4Addr,
    /// Cluster domain.
    pub domain: String,
}

/// Why a bundle could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A key, certificate or kubeconfig.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// `cluster.json` is damaged.
    #[error("{path}: {source}")]
    Facts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io { path, source }
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(io(path))
}

/// Makes the bundle of a node in `out`, with the keys of the cluster in `pki`.
///
/// # Errors
/// [`BundleError`].
pub fn write(
    out: &Path,
    env: &Env,
    pki: &Pki,
    server: &str,
    facts: &ClusterFacts,
) -> Result<(), BundleError> {
    fs::create_dir_all(out).map_err(io(out))?;
    let now = env.clock.now();
    let user = format!("system:node:{}", facts.node);
    let client = pki.node_client(&facts.node, now)?;
    Kubeconfig::with_certificate(server, pki.ca.cert_pem(), user, client).write(&out.join("kubeconfig"))?;
    let ips = vec![IpAddr::V4(facts.node_ip), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let names = ServingNames {
        dns: vec![facts.node.clone()],
        ips,
    };
    let serving = pki.kubelet_serving(&facts.node, &names, now)?;
    write_private(&out.join("serving.crt"), serving.cert_pem.as_bytes())?;
    write_private(&out.join("serving.key"), serving.key_pem.as_bytes())?;
    let path = out.join("cluster.json");
    let text = serde_json::to_vec_pretty(facts).map_err(|source| BundleError::Facts {
        path: path.clone(),
        source,
    })?;
    write_private(&path, &text)
}

/// Reads a bundle: the facts, and the identity over HTTPS.
///
/// # Errors
/// [`BundleError`], naming the file.
pub fn read(dir: &Path, env: &Env) -> Result<(ClusterFacts, NodeIdentity), BundleError> {
    let text = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(io(&path))
    };
    let path = dir.join("cluster.json");
    let facts =
        serde_json::from_str(&text("cluster.json")?).map_err(|source| BundleError::Facts { path, source })?;
    let kubeconfig = Kubeconfig::read(&dir.join("kubeconfig"))?;
    let serving = KeyAndCert {
        cert_pem: text("serving.crt")?,
        key_pem: text("serving.key")?,
    };
    let client = HttpClient::from_kubeconfig(env.clone(), &kubeconfig)?;
    Ok((
        facts,
        NodeIdentity {
            client: Arc::new(client),
            serving,
            client_ca_pem: kubeconfig.ca_pem,
        },
    ))
}
