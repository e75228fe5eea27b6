//! Who an edge is: a key pair with a certificate around it, and the fingerprint by which others pin it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

/// The SHA-256 of a certificate's public key (its SubjectPublicKeyInfo), written as 64 hex digits.
///
/// The key is pinned rather than the certificate, so that a renewed certificate needs no new pin. The same
/// number comes from `openssl pkey -pubout -outform der | sha256sum`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has exactly 64 hex digits")]
pub struct FingerprintError;

impl Fingerprint {
    /// The fingerprint of a certificate in DER. `None` if it cannot be parsed.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        let hash = digest(&SHA256, parsed.subject_public_key_info().as_ref());
        hash.as_ref().try_into().ok().map(Self)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(FingerprintError);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(at * 2..at * 2 + 2).ok_or(FingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a certificate and a key do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate file holds no certificate, or a damaged one.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The key file holds no private key, or a damaged one.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// The key is of a kind TLS 1.3 cannot use, or belongs to another certificate.
    #[error("the private key does not fit the certificate: {0}")]
    Mismatch(rustls::Error),
}

/// This node's certificate and private key. Only the fingerprint can be seen from outside.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Reads a certificate and its private key, both in PEM.
    ///
    /// # Errors
    /// [`IdentityError`] when one of them cannot be read or they do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| IdentityError::Certificate("no certificate in it".into()))?;
        let unreadable = || IdentityError::Certificate("not an X.509 certificate".into());
        let fingerprint = Fingerprint::of(leaf).ok_or_else(unreadable)?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| IdentityError::Key(error.to_string()))?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(IdentityError::Mismatch)?;
        Ok(Self { key: Arc::new(key), fingerprint })
    }

    /// What neighbours pin.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The one cryptography provider, named so that nothing depends on a process-wide default.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_the_round_trip() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<Fingerprint>().map(|print| print.to_string()), Ok(text.clone()));
        assert_eq!(text.to_uppercase().parse::<Fingerprint>().map(|print| print.to_string()), Ok(text));
        for bad in
            ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"+0".repeat(32), &"é".repeat(32)]
        {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad:?}");
        }
    }

    #[test]
    fn a_renewed_certificate_keeps_its_fingerprint() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = |name: &str| {
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
            params.self_signed(&key).expect("a certificate").pem()
        };
        let print = |certificate: &str| {
            let identity = Identity::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes());
            identity.expect("an identity").fingerprint()
        };
        let (old, new) = (pem("old"), pem("new"));
        assert_ne!(old, new);
        assert_eq!(print(&old), print(&new));
        let hash = digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key));
        assert_eq!(print(&old).0, hash.as_ref(), "the hash of the public key, as openssl would print it");
    }

    #[test]
    fn what_is_no_identity_says_why() {
        let made =
            |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let (ours, other) = (made("ours"), made("other"));
        let (cert, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
        let refused = |cert: &str, key: &str| match Identity::from_pem(cert.as_bytes(), key.as_bytes()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(refused("", &key).starts_with("the certificate cannot be read"));
        assert!(refused(&key, &key).starts_with("the certificate cannot be read"));
        assert!(refused(&cert, &cert).starts_with("the private key cannot be read"));
        assert!(
            refused(&cert, &other.signing_key.serialize_pem()).starts_with("the private key does not fit")
        );
    }
}
