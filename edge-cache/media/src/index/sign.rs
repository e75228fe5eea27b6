//! Who vouches for an index: Ed25519 keys and the sealed envelope.
//!
//! The signing key never leaves the control plane; nodes hold public keys only.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::IndexError;
use super::codec::{HEADER_LEN, MAGIC, MAX_INDEX_LEN, SIGNATURE_LEN, VERSION};
use crate::digest::Digest;

/// The operator's private key. Its `Debug` shows the public half only.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key that belongs to a secret seed. Any 32 bytes are a seed; whoever calls drew them.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are an Ed25519 seed"))
    }

    /// The key that nodes check with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref().try_into();
        PublicKey(bytes.expect("an Ed25519 public key has 32 bytes"))
    }

    /// The Ed25519 signature of a message, 64 bytes. A message of another kind than an index begins with words that no
    /// index begins with.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// Puts a body into the signed envelope. [`Index::sign`](super::Index::sign) calls this with a body that
    /// is an index; tests call it with bodies that are not.
    #[must_use]
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + body.len() + SIGNATURE_LEN);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.public().id().0);
        out.extend(body);
        let signature = self.0.sign(&out);
        out.extend(signature.as_ref());
        out
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", self.public())
    }
}

/// A key to check with: 64 lower-case hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The short name under which an index refers to this key: the first 8 bytes of its BLAKE3 hash. It only
    /// selects the key to try, nothing rests on it.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = Digest::of(&self.0).0;
        KeyId([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
    }

    /// Whether this key's private half signed the message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 lower-case hex digits")]
pub struct KeyTextError;

impl FromStr for PublicKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let mut key = [0; 32];
        if text.len() != 64 {
            return Err(KeyTextError);
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0]).ok_or(KeyTextError)? << 4 | digit(pair[1]).ok_or(KeyTextError)?;
        }
        Ok(Self(key))
    }
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

/// The short name of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The body of a sealed index, if a trusted key signed it. The cheap refusals come first.
pub(super) fn unseal<'a>(bytes: &'a [u8], trusted: &[PublicKey]) -> Result<&'a [u8], IndexError> {
    if bytes.len() > MAX_INDEX_LEN {
        return Err(IndexError::TooLong { len: bytes.len() });
    }
    let rest = bytes.strip_prefix(&MAGIC).ok_or(IndexError::Magic)?;
    let (version, rest) = rest.split_first_chunk().ok_or(IndexError::Truncated("version"))?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(IndexError::Version(version));
    }
    let (id, rest) = rest.split_first_chunk().ok_or(IndexError::Truncated("key id"))?;
    let (body, signature) =
        rest.split_last_chunk::<SIGNATURE_LEN>().ok_or(IndexError::Truncated("signature"))?;
    let signed = &bytes[..bytes.len() - SIGNATURE_LEN];
    let id = KeyId(*id);
    let mut candidates = trusted.iter().filter(|key| key.id() == id).peekable();
    if candidates.peek().is_none() {
        return Err(IndexError::UnknownKey(id));
    }
    if candidates.any(|key| key.verifies(signed, signature)) { Ok(body) } else { Err(IndexError::Signature) }
}
