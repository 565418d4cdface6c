//! Keys and certificates of a cluster: made once, kept in `DIR/pki` with mode 0600, loaded after.
//!
//! | file | what |
//! |---|---|
//! | `ca.crt`, `ca.key` | cluster CA: serving, client and kubelet certificates |
//! | `front-proxy-ca.crt`, `.key` | CA of the proxy that forwards to aggregated API servers |
//! | `front-proxy-client.crt`, `.key` | the API server's own certificate as that proxy |
//! | `apiserver.crt`, `.key` | serving certificate; made anew when its names or lifetime no longer suffice |
//! | `apiserver-kubelet-client.crt`, `.key` | the API server as a client of kubelets |
//! | `sa.key`, `sa.pub` | service-account token signing key (ECDSA P-256) |
//!
//! The file names are kubeadm's (<https://kubernetes.io/docs/setup/best-practices/certificates/>). Every file is
//! written to a temporary name, synced and renamed, so that a crash leaves the old one, the new one or none.

mod authority;
mod files;

pub use authority::{CertificateAuthority, KeyAndCert, LeafRequest};
pub(crate) use files::{read_file, write_private};

use crate::setup_error::SetupError;
use jiff::Timestamp;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

const DAY_SECONDS: i64 = 24 * 3600;
/// A serving or client certificate on disk that ends sooner than this is made anew at start.
const RENEW_BEFORE_DAYS: i64 = 30;

/// Names that a serving certificate must carry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServingNames {
    /// Host names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
}

impl ServingNames {
    /// The names under which an API server is known to its own cluster: loopback, the `kubernetes` Service of the
    /// cluster domain and the Service's address, and the addresses in `advertised`.
    #[must_use]
    pub fn api_server(cluster_domain: &str, service_ip: Option<IpAddr>, advertised: &[IpAddr]) -> Self {
        let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        for ip in service_ip.iter().chain(advertised) {
            if !ips.contains(ip) && !ip.is_unspecified() {
                ips.push(*ip);
            }
        }
        let dns = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ]
        .map(String::from)
        .into_iter()
        .chain([format!("kubernetes.default.svc.{cluster_domain}")])
        .collect();
        Self { dns, ips }
    }
}

/// The keys and certificates of one cluster.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    /// Cluster CA.
    pub ca: CertificateAuthority,
    /// CA of the front proxy.
    pub front_proxy_ca: CertificateAuthority,
    /// The API server's certificate as a front proxy (user `front-proxy-client`).
    pub front_proxy_client: KeyAndCert,
    /// The API server's serving certificate.
    pub serving: KeyAndCert,
    /// The API server's certificate as a client of kubelets.
    pub kubelet_client: KeyAndCert,
    /// PKCS#8 PEM of the service-account signing key.
    pub service_account_key_pem: String,
}

impl Pki {
    /// Loads the files of `dir`, making what is not there yet. `now` is written into what is made.
    ///
    /// A certificate without its key (or the other way round) is an error, not a reason to make a new one: what was
    /// signed with the lost key would silently stop working.
    ///
    /// # Errors
    /// [`SetupError::Damaged`] names the file that does not parse or lacks its counterpart.
    pub fn open(dir: &Path, names: &ServingNames, now: Timestamp) -> Result<Self, SetupError> {
        files::make_dir(dir)?;
        let ca = authority_at(dir, "ca", "kubernetes", "apiserver", now)?;
        let front_proxy_ca =
            authority_at(dir, "front-proxy-ca", "front-proxy-ca", "front-proxy-client", now)?;
        let front_proxy_client = leaf_at(
            dir,
            "front-proxy-client",
            &front_proxy_ca,
            &LeafRequest::client("front-proxy-client", &[]),
            now,
        )?;
        let serving = leaf_at(
            dir,
            "apiserver",
            &ca,
            &LeafRequest::serving("kube-apiserver", names),
            now,
        )?;
        let kubelet_client = leaf_at(
            dir,
            "apiserver-kubelet-client",
            &ca,
            &LeafRequest::client("kube-apiserver-kubelet-client", &["system:masters"]),
            now,
        )?;
        let service_account_key_pem = signing_key_at(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            ca,
            front_proxy_ca,
            front_proxy_client,
            serving,
            kubelet_client,
            service_account_key_pem,
        })
    }

    /// Everything in memory, for tests and throw-away clusters.
    ///
    /// # Errors
    /// [`SetupError::Crypto`] if key generation fails.
    pub fn ephemeral(names: &ServingNames, now: Timestamp) -> Result<Self, SetupError> {
        let ca = CertificateAuthority::generate("kubernetes", now)?;
        let front_proxy_ca = CertificateAuthority::generate("front-proxy-ca", now)?;
        Ok(Self {
            dir: PathBuf::new(),
            front_proxy_client: front_proxy_ca.issue(&LeafRequest::client("front-proxy-client", &[]), now)?,
            serving: ca.issue(&LeafRequest::serving("kube-apiserver", names), now)?,
            kubelet_client: ca.issue(
                &LeafRequest::client("kube-apiserver-kubelet-client", &["system:masters"]),
                now,
            )?,
            service_account_key_pem: authority::new_signing_key()?.0,
            ca,
            front_proxy_ca,
        })
    }

    /// The directory that the files are in; empty if they are in memory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A client certificate for `user` in `groups`: `kubernetes-admin` in `system:masters`,
    /// `system:kube-scheduler`, and so on.
    ///
    /// # Errors
    /// [`SetupError::Crypto`] if key generation fails.
    pub fn client(&self, user: &str, groups: &[&str], now: Timestamp) -> Result<KeyAndCert, SetupError> {
        self.ca.issue(&LeafRequest::client(user, groups), now)
    }

    /// The client certificate of a node: `system:node:NAME` in `system:nodes`.
    ///
    /// # Errors
    /// As [`Pki::client`].
    pub fn node_client(&self, node: &str, now: Timestamp) -> Result<KeyAndCert, SetupError> {
        self.client(&format!("system:node:{node}"), &["system:nodes"], now)
    }

    /// The certificate with which the kubelet of `node` serves its API.
    ///
    /// # Errors
    /// As [`Pki::client`].
    pub fn kubelet_serving(
        &self,
        node: &str,
        names: &ServingNames,
        now: Timestamp,
    ) -> Result<KeyAndCert, SetupError> {
        let mut request = LeafRequest::serving(&format!("system:node:{node}"), names);
        request.groups = vec!["system:nodes".into()];
        if !request.names.dns.iter().any(|n| n == node) {
            request.names.dns.push(node.to_owned());
        }
        self.ca.issue(&request, now)
    }
}

/// The authority in `stem.crt` and `stem.key`. `signs` is the first certificate that it signs: while that is not
/// there, half a pair is what a crash during the very first start left, and is made anew.
fn authority_at(
    dir: &Path,
    stem: &str,
    name: &str,
    signs: &str,
    now: Timestamp,
) -> Result<CertificateAuthority, SetupError> {
    let path = |suffix: &str| dir.join(format!("{stem}{suffix}"));
    let unused = !dir.join(format!("{signs}.crt")).exists();
    let lost = |half: &str, other: &str| SetupError::Damaged {
        path: path(half),
        what: format!("missing, while {} is there", path(other).display()),
    };
    match files::load_pair(dir, stem)? {
        (Some(cert), Some(key)) => {
            CertificateAuthority::from_pem(&cert, &key).map_err(|damage| SetupError::Damaged {
                path: path(if damage.in_key { ".key" } else { ".crt" }),
                what: damage.what,
            })
        }
        (None, Some(_)) if !unused => Err(lost(".crt", ".key")),
        (Some(_), None) if !unused => Err(lost(".key", ".crt")),
        (None, None) if !unused => Err(SetupError::Damaged {
            path: path(".crt"),
            what: format!("missing, while {signs}.crt, which it signed, is there"),
        }),
        _ => {
            let made = CertificateAuthority::generate(name, now)?;
            files::store_pair(dir, stem, made.cert_pem(), &made.key_pem())?;
            Ok(made)
        }
    }
}

fn leaf_at(
    dir: &Path,
    stem: &str,
    ca: &CertificateAuthority,
    request: &LeafRequest,
    now: Timestamp,
) -> Result<KeyAndCert, SetupError> {
    if let (Some(cert_pem), Some(key_pem)) = files::load_pair(dir, stem)? {
        let held = KeyAndCert { cert_pem, key_pem };
        let path = |suffix: &str| dir.join(format!("{stem}{suffix}"));
        held.private_key().map_err(|what| SetupError::Damaged {
            path: path(".key"),
            what,
        })?;
        let facts = held.facts().map_err(|what| SetupError::Damaged {
            path: path(".crt"),
            what,
        })?;
        let ends_late_enough =
            facts.not_after.as_second() > now.as_second() + RENEW_BEFORE_DAYS * DAY_SECONDS;
        if ends_late_enough
            && facts.covers(&request.names)
            && facts.belongs_to(&held.key_pem)
            && facts.issuer_key_matches(ca)
        {
            return Ok(held);
        }
        tracing::info!(
            file = %path(".crt").display(),
            "making the certificate anew: its names, key, issuer or lifetime no longer suffice"
        );
    }
    let made = ca.issue(request, now)?;
    files::store_pair(dir, stem, &made.cert_pem, &made.key_pem)?;
    Ok(made)
}

fn signing_key_at(dir: &Path) -> Result<String, SetupError> {
    let (key_path, pub_path) = (dir.join("sa.key"), dir.join("sa.pub"));
    if let Some(pem) = files::load(&key_path)? {
        let public = authority::public_key_pem(&pem).map_err(|what| SetupError::Damaged {
            path: key_path.clone(),
            what,
        })?;
        // The public half follows from the private one, so a lost or damaged copy is simply written again.
        if files::load(&pub_path)?.as_deref() != Some(public.as_str()) {
            write_private(&pub_path, public.as_bytes())?;
        }
        return Ok(pem);
    }
    let (pem, public) = authority::new_signing_key()?;
    write_private(&key_path, pem.as_bytes())?;
    write_private(&pub_path, public.as_bytes())?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }
    fn names(extra: &[IpAddr]) -> ServingNames {
        ServingNames::api_server("cluster.local", Some("10.96.0.1".parse().unwrap()), extra)
    }

    #[test]
    fn second_start_loads_what_the_first_made_and_new_names_renew_only_the_serving_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &names(&[]), now()).unwrap();
        let second = Pki::open(dir.path(), &names(&[]), now()).unwrap();
        assert_eq!(first.ca.cert_pem(), second.ca.cert_pem());
        assert_eq!(first.serving.cert_pem, second.serving.cert_pem);
        assert_eq!(first.service_account_key_pem, second.service_account_key_pem);
        let third = Pki::open(dir.path(), &names(&["10.1.2.3".parse().unwrap()]), now()).unwrap();
        assert_eq!(first.ca.cert_pem(), third.ca.cert_pem());
        assert_ne!(first.serving.cert_pem, third.serving.cert_pem);
        use std::os::unix::fs::PermissionsExt;
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let meta = file.unwrap().metadata().unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn damage_names_the_file() {
        for (file, content) in [
            ("ca.crt", Some("nonsense")),
            (
                "ca.key",
                Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            ),
            ("ca.key", None),
            ("ca.crt", None),
            ("apiserver.key", Some("")),
            ("apiserver.crt", Some("x")),
            ("sa.key", Some("\0\0")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            Pki::open(dir.path(), &names(&[]), now()).unwrap();
            let path = dir.path().join(file);
            match content {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let error = Pki::open(dir.path(), &names(&[]), now()).unwrap_err();
            assert!(matches!(error, SetupError::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(file), "{file}: {error}");
        }
    }

    #[test]
    fn a_swapped_key_is_damage() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Pki::open(a.path(), &names(&[]), now()).unwrap();
        Pki::open(b.path(), &names(&[]), now()).unwrap();
        std::fs::copy(b.path().join("ca.key"), a.path().join("ca.key")).unwrap();
        let error = Pki::open(a.path(), &names(&[]), now()).unwrap_err();
        assert!(error.to_string().contains("ca.key"), "{error}");
    }
}
