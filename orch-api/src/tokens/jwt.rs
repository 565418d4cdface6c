//! JSON Web Tokens with ES256 (RFC 7515, 7518, 7519) over ring; nothing else is accepted.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

/// DER in front of the 65 bytes of an uncompressed P-256 point: SubjectPublicKeyInfo of id-ecPublicKey, prime256v1.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Longer than any token that this or another issuer makes; what is longer is not looked at.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A key pair that signs tokens, and its identifier.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtError {
    /// Not three base64url parts of JSON, or too long.
    Malformed,
    /// Signed with another algorithm or key, or not at all.
    UnknownKey,
    /// The signature does not fit the content.
    BadSignature,
}

impl SigningKey {
    /// From a PKCS#8 PEM of an ECDSA P-256 key.
    ///
    /// # Errors
    /// Says what is wrong with the key.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
                .map_err(|e| e.to_string())?;
        // The identifier is, as upstream, the digest of the public key's DER form.
        let mut spki = SPKI_P256.to_vec();
        spki.extend_from_slice(pair.public_key().as_ref());
        let key_id = B64.encode(ring::digest::digest(&ring::digest::SHA256, &spki));
        Ok(Self { pair, random, key_id })
    }

    /// Identifier of the key, as it stands in the `kid` header and in the key set.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// A signed token with `claims`.
    ///
    /// # Errors
    /// If `claims` is not JSON or the random source fails.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let claims = serde_json::to_vec(claims).map_err(|e| e.to_string())?;
        let mut token = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims));
        let signature = self
            .pair
            .sign(&self.random, token.as_bytes())
            .map_err(|e| e.to_string())?;
        token.push('.');
        B64.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token that this key signed. Times and audiences are not looked at.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != "ES256"
            || header.crit.is_some()
            || (!header.kid.is_empty() && header.kid != self.key_id)
        {
            return Err(JwtError::UnknownKey);
        }
        let signature = B64.decode(signature).map_err(|_| JwtError::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| JwtError::BadSignature)?;
        decode(claims)
    }

    /// The public key as a JSON Web Key (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> serde_json::Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..65]),
        })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.key_id)
    }
}

/// The claims of a token whose signature was not checked: only for telling whose it may be.
pub(super) fn peek<C: DeserializeOwned>(token: &str) -> Option<C> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        None
    } else {
        decode(claims).ok()
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, JwtError> {
    let bytes = B64.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}

#[cfg(test)]
pub(super) fn test_key() -> SigningKey {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    SigningKey::from_pem(&key.serialize_pem()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn only_own_untampered_tokens_verify() {
        let key = test_key();
        let token = key.sign(&json!({"sub": "a"})).unwrap();
        assert_eq!(key.verify::<Value>(&token).unwrap()["sub"], "a");
        assert_eq!(test_key().verify::<Value>(&token), Err(JwtError::UnknownKey));

        let parts: Vec<&str> = token.split('.').collect();
        let forged = format!("{}.{}.{}", parts[0], B64.encode(r#"{"sub":"b"}"#), parts[2]);
        assert_eq!(key.verify::<Value>(&forged), Err(JwtError::BadSignature));
        let none = format!("{}.{}.", B64.encode(r#"{"alg":"none"}"#), parts[1]);
        assert_eq!(key.verify::<Value>(&none), Err(JwtError::UnknownKey));
        // HMAC with the public key as secret, the classic confusion.
        let hmac = format!("{}.{}.{}", B64.encode(r#"{"alg":"HS256"}"#), parts[1], parts[2]);
        assert_eq!(key.verify::<Value>(&hmac), Err(JwtError::UnknownKey));
        let without_kid = format!("{}.{}.{}", B64.encode(r#"{"alg":"ES256"}"#), parts[1], parts[2]);
        assert_eq!(key.verify::<Value>(&without_kid), Err(JwtError::BadSignature));
        for bad in ["", ".", "..", "a.b.c", "a.b.c.d", &"x".repeat(100_000)] {
            assert_eq!(key.verify::<Value>(bad), Err(JwtError::Malformed), "{bad:.20}");
        }
    }
}
