//! Kubeconfig files: written for the cluster's own users, read for clients.
//!
//! Written files embed their data and have mode 0600. Reading understands the current context's server, CA,
//! client certificate, token and token file, embedded or as file references (relative to the kubeconfig, as
//! <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/> says). Plugins (`exec`,
//! `auth-provider`), passwords and switched-off verification are refused.

use crate::{
    pki::{KeyAndCert, read_file, write_private},
    setup_error::SetupError,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// A bearer token, or the file that holds the current one.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The token itself.
    Inline(String),
    /// A file that is read again when it changes, such as a mounted service-account token.
    File(PathBuf),
}

/// How to reach one API server as one user.
#[derive(Clone)]
pub struct Kubeconfig {
    /// Name of cluster and context.
    pub cluster: String,
    /// Name of the user entry.
    pub user: String,
    /// URL, such as `https://127.0.0.1:6443`.
    pub server: String,
    /// CA certificates that the server's certificate must chain to, PEM.
    pub ca_pem: String,
    /// Name to expect in the server's certificate, if not the URL's host.
    pub tls_server_name: Option<String>,
    /// Client certificate.
    pub client: Option<KeyAndCert>,
    /// Bearer token.
    pub token: Option<TokenSource>,
    /// Default namespace of the context.
    pub namespace: Option<String>,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubeconfig({}@{} {})", self.user, self.cluster, self.server)
    }
}

impl Kubeconfig {
    /// For a user with a client certificate.
    pub fn with_certificate(
        server: impl Into<String>,
        ca_pem: impl Into<String>,
        user: impl Into<String>,
        client: KeyAndCert,
    ) -> Self {
        Self {
            cluster: "orch".into(),
            user: user.into(),
            server: server.into(),
            ca_pem: ca_pem.into(),
            tls_server_name: None,
            client: Some(client),
            token: None,
            namespace: None,
        }
    }

    /// For a user with a bearer token.
    pub fn with_token(
        server: impl Into<String>,
        ca_pem: impl Into<String>,
        user: impl Into<String>,
        token: TokenSource,
    ) -> Self {
        let none = KeyAndCert {
            cert_pem: String::new(),
            key_pem: String::new(),
        };
        Self {
            client: None,
            token: Some(token),
            ..Self::with_certificate(server, ca_pem, user, none)
        }
    }

    /// The file's text, data embedded.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        // A JSON string is a YAML double-quoted scalar, so nothing in a name can break out of its place.
        let quote = |s: &str| serde_json::Value::from(s).to_string();
        let embed = |s: &str| BASE64_STANDARD.encode(s);
        let context = format!("{}@{}", self.user, self.cluster);
        let mut text = String::from("apiVersion: v1\nkind: Config\n");
        let mut line = |l: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = text.write_fmt(l);
            text.push('\n');
        };
        line(format_args!(
            "clusters:\n- name: {}\n  cluster:",
            quote(&self.cluster)
        ));
        line(format_args!("    server: {}", quote(&self.server)));
        if !self.ca_pem.is_empty() {
            line(format_args!(
                "    certificate-authority-data: {}",
                embed(&self.ca_pem)
            ));
        }
        if let Some(name) = &self.tls_server_name {
            line(format_args!("    tls-server-name: {}", quote(name)));
        }
        line(format_args!("contexts:\n- name: {}\n  context:", quote(&context)));
        line(format_args!(
            "    cluster: {}\n    user: {}",
            quote(&self.cluster),
            quote(&self.user)
        ));
        if let Some(namespace) = &self.namespace {
            line(format_args!("    namespace: {}", quote(namespace)));
        }
        line(format_args!(
            "current-context: {}\npreferences: {{}}",
            quote(&context)
        ));
        line(format_args!("users:\n- name: {}\n  user:", quote(&self.user)));
        if let Some(client) = &self.client {
            line(format_args!(
                "    client-certificate-data: {}",
                embed(&client.cert_pem)
            ));
            line(format_args!("    client-key-data: {}", embed(&client.key_pem)));
        }
        match &self.token {
            Some(TokenSource::Inline(token)) => line(format_args!("    token: {}", quote(token))),
            Some(TokenSource::File(path)) => {
                line(format_args!(
                    "    tokenFile: {}",
                    quote(&path.display().to_string())
                ));
            }
            None if self.client.is_none() => line(format_args!("    {{}}")),
            None => {}
        }
        text
    }

    /// Writes the file with mode 0600, whole or not at all.
    ///
    /// # Errors
    /// [`SetupError::File`].
    pub fn write(&self, path: &Path) -> Result<(), SetupError> {
        write_private(path, self.to_yaml().as_bytes())
    }

    /// Reads the current context of a file.
    ///
    /// # Errors
    /// [`SetupError::File`] and [`SetupError::Kubeconfig`], which says what is missing or not supported.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let text = read_file(path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base).map_err(|e| match e {
            SetupError::Kubeconfig { what, .. } => SetupError::Kubeconfig {
                path: Some(path.to_owned()),
                what,
            },
            other => other,
        })
    }

    /// Reads the current context of a file's text. File references are relative to `base`.
    ///
    /// # Errors
    /// As [`Kubeconfig::read`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, SetupError> {
        let wrong = |what: String| SetupError::Kubeconfig { path: None, what };
        let file: File = serde_saphyr::from_str(text).map_err(|e| wrong(format!("not a kubeconfig: {e}")))?;
        let context = file
            .contexts
            .iter()
            .find(|c| c.name == file.current_context)
            .ok_or_else(|| wrong(format!("context {:?} does not exist", file.current_context)))?
            .context
            .clone();
        let cluster = file
            .clusters
            .into_iter()
            .find(|c| c.name == context.cluster)
            .ok_or_else(|| wrong(format!("cluster {:?} does not exist", context.cluster)))?;
        let user = file
            .users
            .into_iter()
            .find(|u| u.name == context.user)
            .ok_or_else(|| wrong(format!("user {:?} does not exist", context.user)))?;
        if cluster.cluster.insecure_skip_tls_verify {
            return Err(wrong(
                "insecure-skip-tls-verify is not supported; name the CA instead".into(),
            ));
        }
        if user.user.exec.is_some() || user.user.auth_provider.is_some() || user.user.username.is_some() {
            return Err(wrong(
                "exec plugins, auth providers and passwords are not supported".into(),
            ));
        }
        if cluster.cluster.server.is_empty() {
            return Err(wrong(format!("cluster {:?} has no server", cluster.name)));
        }
        let pick = |data: &Option<String>,
                    reference: &Option<PathBuf>,
                    what: &str|
         -> Result<Option<String>, SetupError> {
            match (data.as_deref().filter(|d| !d.is_empty()), reference) {
                (Some(data), _) => {
                    let bytes = BASE64_STANDARD
                        .decode(data)
                        .map_err(|e| wrong(format!("{what}-data: {e}")))?;
                    String::from_utf8(bytes)
                        .map(Some)
                        .map_err(|_| wrong(format!("{what}-data is not PEM")))
                }
                (None, Some(path)) if !path.as_os_str().is_empty() => read_file(&base.join(path)).map(Some),
                _ => Ok(None),
            }
        };
        let ca_pem = pick(
            &cluster.cluster.ca_data,
            &cluster.cluster.ca,
            "certificate-authority",
        )?
        .unwrap_or_default();
        let cert = pick(&user.user.cert_data, &user.user.cert, "client-certificate")?;
        let key = pick(&user.user.key_data, &user.user.key, "client-key")?;
        let client = match (cert, key) {
            (Some(cert_pem), Some(key_pem)) => Some(KeyAndCert { cert_pem, key_pem }),
            (None, None) => None,
            _ => {
                return Err(wrong(format!(
                    "user {:?} has a certificate or a key, but not both",
                    user.name
                )));
            }
        };
        // As upstream: the file takes precedence, because its content is the current token.
        let token = match (user.user.token_file, user.user.token) {
            (Some(path), _) => Some(TokenSource::File(base.join(path))),
            (None, Some(token)) if !token.is_empty() => Some(TokenSource::Inline(token)),
            _ => None,
        };
        Ok(Self {
            cluster: cluster.name,
            user: user.name,
            server: cluster.cluster.server,
            ca_pem,
            tls_server_name: cluster.cluster.tls_server_name.filter(|n| !n.is_empty()),
            client,
            token,
            namespace: context.namespace.filter(|n| !n.is_empty()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    #[serde(default)]
    server: String,
    #[serde(default, rename = "certificate-authority-data")]
    ca_data: Option<String>,
    #[serde(default, rename = "certificate-authority")]
    ca: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    #[serde(default)]
    tls_server_name: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Deserialize, Clone)]
struct ContextEntry {
    cluster: String,
    user: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: UserEntry,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct UserEntry {
    #[serde(rename = "client-certificate-data")]
    cert_data: Option<String>,
    #[serde(rename = "client-certificate")]
    cert: Option<PathBuf>,
    #[serde(rename = "client-key-data")]
    key_data: Option<String>,
    #[serde(rename = "client-key")]
    key: Option<PathBuf>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
    username: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let pair = KeyAndCert {
            cert_pem: "CERT".into(),
            key_pem: "KEY".into(),
        };
        let mut config = Kubeconfig::with_certificate("https://127.0.0.1:6443", "CA", "yes: \"no\"", pair);
        config.namespace = Some("on".into());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        config.write(&path).unwrap();
        let read = Kubeconfig::read(&path).unwrap();
        assert_eq!(
            (&*read.user, &*read.server, &*read.ca_pem),
            ("yes: \"no\"", "https://127.0.0.1:6443", "CA")
        );
        assert_eq!(read.namespace.as_deref(), Some("on"));
        let client = read.client.unwrap();
        assert_eq!((&*client.cert_pem, &*client.key_pem), ("CERT", "KEY"));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn file_references_and_refusals() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca"), "CA").unwrap();
        let text = |cluster: &str, user: &str| {
            format!(
                "current-context: c\nclusters: [{{name: a, cluster: {{server: https://h, {cluster}}}}}]\n\
                 contexts: [{{name: c, context: {{cluster: a, user: u}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
            )
        };
        let read =
            Kubeconfig::parse(&text("certificate-authority: ca", "tokenFile: tok"), dir.path()).unwrap();
        assert_eq!(read.ca_pem, "CA");
        assert!(read.token == Some(TokenSource::File(dir.path().join("tok"))));
        for (cluster, user, says) in [
            ("insecure-skip-tls-verify: true", "", "insecure-skip-tls-verify"),
            ("certificate-authority: ca", "exec: {command: x}", "exec"),
            ("certificate-authority: ca", "client-key-data: eA==", "not both"),
            ("certificate-authority: gone", "", "cannot read"),
        ] {
            let error = Kubeconfig::parse(&text(cluster, user), dir.path()).unwrap_err();
            assert!(error.to_string().contains(says), "{says}: {error}");
        }
        assert!(Kubeconfig::parse("a: [", dir.path()).is_err());
    }
}
