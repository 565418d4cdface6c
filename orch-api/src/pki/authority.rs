//! Certificate authorities and what they sign.

use super::ServingNames;
use crate::setup_error::SetupError;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{net::IpAddr, time::Duration};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates begin this much before they are made, for clients whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// A private key and its certificate (chain), both PEM. The key is PKCS#8.
#[derive(Clone)]
pub struct KeyAndCert {
    /// Certificate chain, leaf first.
    pub cert_pem: String,
    /// Private key.
    pub key_pem: String,
}

impl std::fmt::Debug for KeyAndCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyAndCert(…)")
    }
}

/// What a leaf certificate shall say.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// Common name: the user of a client certificate.
    pub common_name: String,
    /// Organizations: the groups of a client certificate.
    pub groups: Vec<String>,
    /// Subject alternative names; a certificate with some may be used for serving.
    pub names: ServingNames,
    /// Whether it may be used for serving (otherwise as a client).
    pub serving: bool,
    /// How long it is valid.
    pub lifetime: Duration,
}

impl LeafRequest {
    /// A client certificate for `user` in `groups`, valid for a year.
    #[must_use]
    pub fn client(user: &str, groups: &[&str]) -> Self {
        Self {
            common_name: user.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            names: ServingNames::default(),
            serving: false,
            lifetime: LEAF_LIFETIME,
        }
    }
    /// A serving certificate for `names`, valid for a year.
    #[must_use]
    pub fn serving(common_name: &str, names: &ServingNames) -> Self {
        Self {
            names: names.clone(),
            serving: true,
            ..Self::client(common_name, &[])
        }
    }
}

/// What is wrong with a CA's PEM text, and in which of its two files.
#[derive(Debug)]
pub struct DamagedAuthority {
    /// Whether the key is at fault, and not the certificate.
    pub in_key: bool,
    /// What is wrong.
    pub what: String,
}

/// A certificate authority: a certificate that may sign others, and its key.
pub struct CertificateAuthority {
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateAuthority(…)")
    }
}

impl CertificateAuthority {
    /// A new self-signed authority, valid for ten years from `now`.
    ///
    /// # Errors
    /// [`SetupError::Crypto`] if key generation fails.
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, SetupError> {
        let key = KeyPair::generate().map_err(SetupError::crypto("make a CA key"))?;
        let mut params = params(common_name, &[], now, CA_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let cert = params
            .self_signed(&key)
            .map_err(SetupError::crypto("sign the CA certificate"))?;
        Ok(Self {
            cert_pem: cert.pem(),
            cert_der: cert.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// From its two files.
    ///
    /// # Errors
    /// Says which of the two does not parse, is no CA, or does not fit the other.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, DamagedAuthority> {
        let bad = |in_key, what: String| DamagedAuthority { in_key, what };
        let cert_der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|e| bad(false, format!("not a PEM certificate: {e}")))?;
        let (_, parsed) = X509Certificate::from_der(&cert_der)
            .map_err(|e| bad(false, format!("not an X.509 certificate: {e}")))?;
        if !parsed.is_ca() {
            return Err(bad(false, "not a CA certificate".into()));
        }
        let key = KeyPair::from_pem(key_pem).map_err(|e| bad(true, format!("not a private key: {e}")))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(bad(true, "does not belong to the certificate beside it".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&cert_der, key).map_err(|e| bad(false, e.to_string()))?;
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            cert_der: cert_der.clone(),
            issuer,
        })
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }
    /// The certificate, DER.
    #[must_use]
    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.cert_der
    }
    /// The private key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// [`SetupError::Crypto`] if a name cannot stand in a certificate.
    pub fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<KeyAndCert, SetupError> {
        let key = KeyPair::generate().map_err(SetupError::crypto("make a key"))?;
        let groups: Vec<&str> = request.groups.iter().map(String::as_str).collect();
        let mut params = params(&request.common_name, &groups, now, request.lifetime)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![if request.serving {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        for name in &request.names.dns {
            let name = name
                .as_str()
                .try_into()
                .map_err(SetupError::crypto("use a host name in a certificate"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params
            .subject_alt_names
            .extend(request.names.ips.iter().copied().map(SanType::IpAddress));
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(SetupError::crypto("sign a certificate"))?;
        Ok(KeyAndCert {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Signs a certificate signing request: its subject, names and key, with usages for clients, and for serving if
    /// it names hosts or addresses and `serving` allows. Whether the requester may have it is the caller's decision.
    ///
    /// # Errors
    /// [`SetupError::Crypto`] if the request does not parse or its signature is wrong.
    pub fn sign_request(
        &self,
        csr_pem: &str,
        serving: bool,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, SetupError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(SetupError::crypto("read the request"))?;
        set_validity(&mut request.params, now, lifetime);
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.use_authority_key_identifier_extension = true;
        request.params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        request.params.extended_key_usages = vec![if serving {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let cert = request
            .signed_by(&self.issuer)
            .map_err(SetupError::crypto("sign the request"))?;
        Ok(cert.pem())
    }
}

/// Sets the validity of a certificate to come. (A function on the parameters, because rcgen's date type belongs to a
/// crate that it does not re-export.)
fn set_validity(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) {
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(BACKDATE);
    params.not_after = epoch + since_epoch.saturating_add(lifetime);
}

const ORGANIZATION_OID: &[u64] = &[2, 5, 4, 10];

fn params(
    common_name: &str,
    groups: &[&str],
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, SetupError> {
    let mut params = CertificateParams::default();
    set_validity(&mut params, now, lifetime);
    let mut name = DistinguishedName::new();
    // rcgen keeps one value per attribute type. The same type under its number is another key to it, hence two.
    for (i, group) in groups.iter().enumerate() {
        match i {
            0 => name.push(DnType::OrganizationName, *group),
            1 => name.push(DnType::CustomDnType(ORGANIZATION_OID.to_vec()), *group),
            _ => {
                return Err(SetupError::Crypto {
                    action: "put more than two groups into one certificate",
                    source: format!("groups of {common_name}: {}", groups.join(", ")).into(),
                });
            }
        }
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    Ok(params)
}

/// What a certificate on disk says, for deciding if it still suffices.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) not_after: Timestamp,
    names: ServingNames,
    der: CertificateDer<'static>,
}

impl Facts {
    pub(super) fn covers(&self, wanted: &ServingNames) -> bool {
        wanted.dns.iter().all(|n| self.names.dns.contains(n))
            && wanted.ips.iter().all(|ip| self.names.ips.contains(ip))
    }

    /// Whether `key_pem` is its private key. A crash between the renames of a renewal leaves a pair that differs.
    pub(super) fn belongs_to(&self, key_pem: &str) -> bool {
        let Ok((_, cert)) = X509Certificate::from_der(&self.der) else {
            return false;
        };
        KeyPair::from_pem(key_pem)
            .is_ok_and(|key| key.public_key_raw() == cert.public_key().subject_public_key.data.as_ref())
    }

    /// Whether `ca` signed it, by its key and not only by its name.
    pub(super) fn issuer_key_matches(&self, ca: &CertificateAuthority) -> bool {
        let (Ok((_, cert)), Ok((_, issuer))) = (
            X509Certificate::from_der(&self.der),
            X509Certificate::from_der(&ca.cert_der),
        ) else {
            return false;
        };
        if ca.issuer.key().algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            // An operator's own CA with another kind of key: its name must do.
            return cert.issuer() == issuer.subject();
        }
        let signed = cert.tbs_certificate.as_ref();
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            issuer.public_key().subject_public_key.data.as_ref(),
        );
        key.verify(signed, cert.signature_value.data.as_ref()).is_ok()
    }
}

impl KeyAndCert {
    /// The certificate chain, DER.
    ///
    /// # Errors
    /// Says what does not parse.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| format!("not a PEM certificate: {e}"))?;
        if chain.is_empty() {
            Err("holds no certificate".into())
        } else {
            Ok(chain)
        }
    }

    /// The private key, DER.
    ///
    /// # Errors
    /// Says what does not parse.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|e| format!("not a PEM private key: {e}"))
    }

    pub(super) fn facts(&self) -> Result<Facts, String> {
        let der = self.chain()?.swap_remove(0);
        let (_, cert) =
            X509Certificate::from_der(&der).map_err(|e| format!("not an X.509 certificate: {e}"))?;
        let mut names = ServingNames::default();
        if let Ok(Some(san)) = cert.subject_alternative_name() {
            for name in &san.value.general_names {
                match name {
                    GeneralName::DNSName(n) => names.dns.push((*n).to_owned()),
                    GeneralName::IPAddress(b) => names.ips.extend(ip_of(b)),
                    _ => {}
                }
            }
        }
        let not_after =
            Timestamp::from_second(cert.validity().not_after.timestamp()).map_err(|e| e.to_string())?;
        Ok(Facts {
            not_after,
            names,
            der: der.clone(),
        })
    }
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A new signing key: its PKCS#8 PEM and its public half's PEM.
pub(super) fn new_signing_key() -> Result<(String, String), SetupError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(SetupError::crypto("make the service-account signing key"))?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// The public half of a signing key.
pub(super) fn public_key_pem(pem: &str) -> Result<String, String> {
    let key = KeyPair::from_pem(pem).map_err(|e| format!("not a private key: {e}"))?;
    if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err("not an ECDSA P-256 key".into());
    }
    Ok(key.public_key_pem())
}
