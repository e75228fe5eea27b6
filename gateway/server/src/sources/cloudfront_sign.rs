//! Signed URLs for a private CloudFront distribution.
//!
//! Two kinds, both with SHA-256 (`Hash-Algorithm=SHA256`) and an RSA or ECDSA P-256 key:
//! - *canned*: one exact URL until one moment; signed anew for each request.
//! - *custom*: a URL with wildcards until one moment, optionally from one moment and for one client network;
//!   the same query string opens everything below a prefix, so one signature serves many requests.
//!
//! The policy of a canned URL is not sent: CloudFront puts it together again from the URL and the expiry, so
//! its bytes must match to the last one. SHA-1, CloudFront's older default, is not offered.

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use data_encoding::BASE64;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// Why a key cannot sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("no private key in PEM form: {0}")]
    Pem(String),
    #[error("the private key is neither RSA (2048 to 8192 bits) nor ECDSA P-256")]
    Kind,
}

/// The signature could not be made: the operating system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the URL could not be signed")]
pub(crate) struct SignError;

/// What a custom policy grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The URL, in which `*` stands for anything and `?` for one character.
    pub(crate) resource: String,
    /// Until when, in Unix seconds.
    pub(crate) expires: u64,
    /// From when.
    pub(crate) starts: Option<u64>,
    /// For which client network, in CIDR form.
    pub(crate) source_ip: Option<String>,
}

/// A key that a distribution's key group trusts.
pub(crate) struct Signer {
    key_pair_id: String,
    key: Key,
}

/// The keys of one distribution, each from a moment on: the newest that is valid signs. While keys are changed the
/// distribution's key group trusts both.
pub(crate) struct KeyRing {
    /// Used before any other is valid.
    first: Signer,
    /// With the Unix seconds from which they are used, in that order.
    later: Vec<(u64, Signer)>,
}

impl KeyRing {
    pub(crate) fn new(first: Signer, mut later: Vec<(u64, Signer)>) -> Self {
        later.sort_by_key(|(from, _)| *from);
        Self { first, later }
    }

    /// The key to sign with at a moment.
    pub(crate) fn at(&self, now: u64) -> &Signer {
        let valid = self.later.iter().rev().find(|(from, _)| *from <= now);
        valid.map_or(&self.first, |(_, signer)| signer)
    }

    /// When the next key takes over.
    pub(crate) fn next_change(&self, now: u64) -> Option<u64> {
        self.later.iter().map(|(from, _)| *from).find(|from| *from > now)
    }
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Signer {
    /// Reads the private key: PKCS#8, PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    pub(crate) fn from_pem(key_pair_id: &str, pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| KeyError::Pem(error.to_string()))?;
        let key = read_key(&der).ok_or(KeyError::Kind)?;
        Ok(Self { key_pair_id: key_pair_id.to_owned(), key })
    }

    /// The query parameters that open exactly `url` until `expires`.
    pub(crate) fn canned(
        &self,
        random: &dyn SecureRandom,
        url: &str,
        expires: u64,
    ) -> Result<String, SignError> {
        let signature = self.sign(random, canned_policy(url, expires).as_bytes())?;
        Ok(self.query(&format!("Expires={expires}"), &signature))
    }

    /// The query parameters that open everything the policy grants.
    pub(crate) fn custom(&self, random: &dyn SecureRandom, policy: &Policy) -> Result<String, SignError> {
        let policy = custom_policy(policy);
        let signature = self.sign(random, policy.as_bytes())?;
        Ok(self.query(&format!("Policy={}", encode(policy.as_bytes())), &signature))
    }

    fn query(&self, what: &str, signature: &[u8]) -> String {
        let signature = encode(signature);
        format!("{what}&Signature={signature}&Key-Pair-Id={}&Hash-Algorithm=SHA256", self.key_pair_id)
    }

    fn sign(&self, random: &dyn SecureRandom, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| SignError)
            }
            Key::Ecdsa(key) => {
                let signature = key.sign(random, message).map_err(|_| SignError)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

fn read_key(der: &PrivateKeyDer<'_>) -> Option<Key> {
    let rsa = |key: RsaKeyPair| Key::Rsa(Box::new(key));
    let ecdsa = |der: &[u8]| {
        let key = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der).ok()?;
        Some(Key::Ecdsa(Box::new(key)))
    };
    match der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(rsa),
        PrivateKeyDer::Sec1(der) => ecdsa(der.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            RsaKeyPair::from_pkcs8(der).ok().map(rsa).or_else(|| ecdsa(der))
        }
        _ => None,
    }
}

/// Key order and the absence of white space are CloudFront's: it rebuilds these very bytes.
fn canned_policy(url: &str, expires: u64) -> String {
    let url = quoted(url);
    format!(
        r#"{{"Statement":[{{"Resource":{url},"Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
    )
}

fn custom_policy(policy: &Policy) -> String {
    let Policy { resource, expires, starts, source_ip } = policy;
    let resource = quoted(resource);
    let ip = source_ip.as_ref().map_or_else(String::new, |network| {
        format!(r#","IpAddress":{{"AWS:SourceIp":{}}}"#, quoted(network))
    });
    let from =
        starts.map_or_else(String::new, |from| format!(r#","DateGreaterThan":{{"AWS:EpochTime":{from}}}"#));
    format!(
        r#"{{"Statement":[{{"Resource":{resource},"Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}{ip}{from}}}}}]}}"#
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Base64 as CloudFront wants it in a URL: padded, with `-_~` for `+=/`.
fn encode(bytes: &[u8]) -> String {
    let swapped = |c| match c {
        '+' => '-',
        '=' => '_',
        '/' => '~',
        other => other,
    };
    BASE64.encode(bytes).chars().map(swapped).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::entropy;

    const URL: &str = "https://d111111abcdef8.cloudfront.net/m/42/1080p/seg_00001.ts?v=1";
    const EXPIRES: u64 = 1_767_290_400;

    #[test]
    fn the_canned_policy_has_the_bytes_cloudfront_rebuilds() {
        let policy = canned_policy(URL, EXPIRES);
        assert_eq!(policy.len(), 154);
        let hex = |algorithm| HEXLOWER.encode(digest(algorithm, policy.as_bytes()).as_ref());
        assert_eq!(hex(&SHA256), "9c9b6d10191eed2b3d1968c52a9a60d1d9d198e2bd0b60f67bc133da9207b216");
        assert_eq!(hex(&SHA1_FOR_LEGACY_USE_ONLY), "9b9d0b560cbd72291ff95bbf635088327293a74d");
    }

    #[test]
    fn the_custom_policy_has_its_conditions_in_order() {
        let mut policy =
            Policy { resource: "https://d1/*".into(), expires: 20, starts: None, source_ip: None };
        let start =
            r#"{"Statement":[{"Resource":"https://d1/*","Condition":{"DateLessThan":{"AWS:EpochTime":20}"#;
        assert_eq!(custom_policy(&policy), format!("{start}}}}}]}}"));
        (policy.starts, policy.source_ip) = (Some(10), Some("192.0.2.0/24".into()));
        let rest =
            r#","IpAddress":{"AWS:SourceIp":"192.0.2.0/24"},"DateGreaterThan":{"AWS:EpochTime":10}}}]}"#;
        assert_eq!(custom_policy(&policy), format!("{start}{rest}"));
    }

    #[test]
    fn base64_is_safe_in_a_query() {
        assert_eq!(encode(&[0xfb, 0xff, 0xfe, 0]), "-~~-AA__");
    }

    /// Runs openssl in `dir`; the machine that tests has it.
    fn openssl(dir: &std::path::Path, args: &[&str]) -> String {
        let output = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "openssl {args:?}: {text}");
        text
    }

    fn parameter(query: &str, name: &str) -> String {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("{name} in {query}")).to_owned()
    }

    fn decode(text: &str) -> Vec<u8> {
        let base64: String = text.replace('-', "+").replace('_', "=").replace('~', "/");
        BASE64.decode(base64.as_bytes()).expect("base64")
    }

    /// Every key form, both kinds of policy: openssl, which shares no code with us, accepts the signature.
    #[test]
    fn openssl_verifies_what_we_sign() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        openssl(dir, &["genrsa", "-traditional", "-out", "pkcs1.pem", "2048"]);
        openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "pkcs1.pem", "-out", "rsa8.pem"]);
        openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sec1.pem"]);
        openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "sec1.pem", "-out", "ec8.pem"]);
        for file in ["pkcs1.pem", "rsa8.pem", "sec1.pem", "ec8.pem"] {
            let pem = std::fs::read(dir.join(file)).expect("the key");
            let signer = Signer::from_pem("K2JCJMDEHXQW5F", &pem).expect("a key");
            openssl(dir, &["pkey", "-in", file, "-pubout", "-out", "public.pem"]);
            let verify = |message: &[u8], signature: &str| {
                std::fs::write(dir.join("message"), message).expect("written");
                std::fs::write(dir.join("signature"), decode(signature)).expect("written");
                let verify =
                    ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"];
                assert!(openssl(dir, &verify).contains("Verified OK"), "{file}");
            };
            let query = signer.canned(&entropy::system(), URL, EXPIRES).expect("signed");
            assert!(query.starts_with(&format!("Expires={EXPIRES}&Signature=")), "{query}");
            assert!(query.ends_with("&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"), "{query}");
            verify(canned_policy(URL, EXPIRES).as_bytes(), &parameter(&query, "Signature"));

            let policy =
                Policy { resource: "https://d1/*".into(), expires: 20, starts: Some(10), source_ip: None };
            let query = signer.custom(&entropy::system(), &policy).expect("signed");
            verify(&decode(&parameter(&query, "Policy")), &parameter(&query, "Signature"));
            assert_eq!(decode(&parameter(&query, "Policy")), custom_policy(&policy).as_bytes());
        }
    }

    #[test]
    fn the_newest_key_that_is_valid_signs() {
        let dir = tempfile::tempdir().expect("a directory");
        openssl(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "k.pem"]);
        let pem = std::fs::read(dir.path().join("k.pem")).expect("the key");
        let signer = |id| Signer::from_pem(id, &pem).expect("a key");
        let ring = KeyRing::new(signer("OLD"), vec![(300, signer("NEWEST")), (200, signer("NEW"))]);
        let id = |now| ring.at(now).key_pair_id.clone();
        assert_eq!([0, 199, 200, 299, 300, 999].map(id), ["OLD", "OLD", "NEW", "NEW", "NEWEST", "NEWEST"]);
        assert_eq!([0, 200, 300].map(|now| ring.next_change(now)), [Some(200), Some(300), None]);
    }

    #[test]
    fn what_is_no_key_says_so() {
        let refused = |pem: &str| Signer::from_pem("K", pem.as_bytes()).err().map(|error| error.to_string());
        assert!(refused("").is_some_and(|text| text.starts_with("no private key")));
        let ed25519 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        assert!(refused(ed25519).is_some_and(|text| text.contains("neither RSA")));
    }
}
