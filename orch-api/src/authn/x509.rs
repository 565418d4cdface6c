//! Client certificates: common name to user, organizations to groups.
//!
//! TLS only asks for a certificate and checks that the client holds its key ([`RequestOnly`]); whether a CA of ours
//! vouches for it is decided here. So a client with a foreign or expired certificate gets `401 Unauthorized`, or is
//! judged by its bearer token, as upstream, and not a broken handshake.

use jiff::Timestamp;
use orch_core::UserInfo;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::ring::default_provider,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Duration};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who a verified certificate stands for, and until when.
#[derive(Debug, Clone)]
pub struct CertificateIdentity {
    /// The user.
    pub user: Arc<UserInfo>,
    not_after: Timestamp,
}

impl CertificateIdentity {
    /// Whether the certificate has not expired since it was verified: a connection may outlive it.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> bool {
        now <= self.not_after
    }
}

/// Trusted CAs.
pub(super) struct Roots {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Roots {
    pub(super) fn new(pem: &str) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            store
                .add(cert.map_err(|e| e.to_string())?)
                .map_err(|e| e.to_string())?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::new(default_provider()))
                .build()
                .map_err(|e| e.to_string())?;
        Ok(Self { verifier })
    }

    /// Who the chain stands for, if it leads to one of these CAs and is valid at `now`.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Option<CertificateIdentity> {
        let (leaf, rest) = chain.split_first()?;
        let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).ok()?);
        if let Err(error) =
            self.verifier
                .verify_client_cert(leaf, rest, UnixTime::since_unix_epoch(since_epoch))
        {
            tracing::debug!(%error, "client certificate not accepted");
            return None;
        }
        let (_, cert) = X509Certificate::from_der(leaf).ok()?;
        let username = cert
            .subject()
            .iter_common_name()
            .last()?
            .as_str()
            .ok()?
            .to_owned();
        if username.is_empty() {
            return None;
        }
        let mut groups: Vec<String> = cert
            .subject()
            .iter_organization()
            .filter_map(|o| o.as_str().ok().map(ToOwned::to_owned))
            .collect();
        groups.push("system:authenticated".into());
        let mut credential = String::from("X509SHA256=");
        for byte in ring::digest::digest(&ring::digest::SHA256, leaf).as_ref() {
            // Writing to a String cannot fail.
            let _ = write!(credential, "{byte:02x}");
        }
        let extra = BTreeMap::from([(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![credential],
        )]);
        Some(CertificateIdentity {
            user: Arc::new(UserInfo {
                username,
                uid: String::new(),
                groups,
                extra,
            }),
            not_after: Timestamp::from_second(cert.validity().not_after.timestamp()).ok()?,
        })
    }
}

/// Asks for a client certificate, checks possession of its key, and nothing else.
#[derive(Debug)]
pub struct RequestOnly {
    hints: Vec<DistinguishedName>,
    inner: Arc<dyn ClientCertVerifier>,
}

impl RequestOnly {
    pub(super) fn new<'a>(roots: impl Iterator<Item = &'a Roots>) -> Self {
        let mut hints = Vec::new();
        let mut inner = None;
        for root in roots {
            hints.extend_from_slice(root.verifier.root_hint_subjects());
            inner.get_or_insert_with(|| root.verifier.clone());
        }
        Self {
            hints,
            inner: inner.unwrap_or_else(WebPkiClientVerifier::no_client_auth),
        }
    }
}

impl ClientCertVerifier for RequestOnly {
    fn offer_client_auth(&self) -> bool {
        true
    }
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Not a judgement: `Roots::verify` makes it before anything is done in the certificate's name.
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
