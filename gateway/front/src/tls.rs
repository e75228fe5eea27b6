//! The TLS side of a listener.
//!
//! TLS 1.2 and 1.3 with the provider's safe suites. Session tickets are on: a player that comes back after a
//! pause skips the certificate and half the CPU. Early data is off, because a replayed request would be
//! counted and logged twice for nothing. Serve the shortest chain to a public root: Roku's path building has
//! failed on expired cross-signed chains that browsers accepted.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The protocols offered, the preferred one first. Roku's media player takes HTTP/1.1 whatever is offered.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a certificate and key cannot be served with. The text never shows key material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file is not PEM or holds no certificate.
    #[error("the certificate file holds no readable PEM certificate: {0}")]
    Certificate(String),
    /// The key file is not PEM or holds no private key.
    #[error("the key file holds no readable PEM private key: {0}")]
    Key(String),
    /// They do not belong together, or the library refuses them.
    #[error("the certificate and key cannot be used: {0}")]
    Rejected(#[from] rustls::Error),
}

/// A server configuration from a PEM certificate chain (leaf first) and its PEM private key.
///
/// # Errors
/// [`TlsError`] says which of the two files is wrong.
pub fn server_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem).collect();
    let chain = chain.map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    config.ticketer = Ticketer::new()?;
    // One ticket is enough for a player with one or two connections; the default of two doubles that flight.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("generated");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn the_wrong_file_is_named() {
        let ((cert, key), (_, other_key)) = (pair(), pair());
        let config = server_config(cert.as_bytes(), key.as_bytes()).expect("they belong together");
        assert_eq!(config.alpn_protocols, ALPN);
        assert_eq!(config.max_early_data_size, 0);
        let fails =
            |cert: &str, key: &str| server_config(cert.as_bytes(), key.as_bytes()).expect_err("refused");
        assert!(matches!(fails("", &key), TlsError::Certificate(_)));
        assert!(matches!(fails(&key, &key), TlsError::Certificate(_)));
        assert!(matches!(fails(&cert, ""), TlsError::Key(_)));
        assert!(matches!(fails(&cert, &cert), TlsError::Key(_)));
        assert!(matches!(fails(&cert, &other_key), TlsError::Rejected(_)));
    }
}
