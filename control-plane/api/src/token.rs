//! The playback token: a Common Access Token (CTA-5007) in the path of every URL of a session.
//!
//! The control plane signs it; every node checks it offline with a public key, so that a node in somebody
//! else's rack holds nothing that could mint one. What it says is small: this session may `GET` and `HEAD`
//! this one title until then.
//!
//! ```text
//! text     base64url without padding (RFC 4648 section 5) of
//! 18([                         COSE_Sign1, tagged (RFC 9052 section 4.2); no CWT tag 61 around it
//!   << { 1: -7, 4: kid } >>,   protected: alg ES256, key id
//!   {},                        unprotected: empty
//!   << {                       claims (RFC 8392, CTA-5007), keys in ascending order
//!     1: iss,                  text
//!     4: exp, 5: nbf, 6: iat,  Unix seconds; nbf = iat
//!     7: cti,                  the session id, bytes
//!     310: 1,                  catv
//!     312: {3: {1: "/<title>/"}},   catu: the path (3) has this prefix (1)
//!     313: ["GET", "HEAD"]     catm
//!   } >>,
//!   signature                  64 bytes r || s
//! ])
//! ```
//!
//! The numbers of the `catu` parts (path is 3) and of the matches (prefix is 1) are those that two
//! independent implementations of CTA-5007 agree on: the crate `common-access-token` 0.2.7 (module
//! `constants`) and the npm package `@eyevinn/cat` 0.16.4 (`catu.js`, `cattypes/match.js`).
//!
//! **One spelling.** Nodes cache verdicts by token text and logs count by it, so a token must not have a
//! second text that is also accepted. After the signature holds, the verifier builds the token again from
//! what it understood and compares every byte: longer integers, indefinite lengths, another map order,
//! additional headers, a missing tag all differ. Text with padding or loose trailing bits is refused, and
//! so is the twin that every ECDSA signature has (`n - s` in place of `s`).
//!
//! **Nothing is ignored.** Claims of CTA-5007 only ever narrow what a token permits; ignoring one that we do
//! not know would widen it. So an unknown claim makes the token invalid, and nodes are upgraded before the
//! control plane begins to send a new claim.
//!
//! **Other implementations.** Tokens made here are plain COSE: OpenSSL and the Python package `cwt` verify and
//! read them, and the golden token of the tests was made without this code. The other way round this verifier
//! takes only tokens in its one spelling. And the token cannot contain its own text, so the `catu` prefix is
//! matched against the path below `/p/<token>`: a verifier elsewhere (a CDN's edge function) strips that first.
//!
//! **Randomness.** Elsewhere in this project randomness is an input. ECDSA's nonce is the exception: who can
//! foresee or repeat one can compute the private key, and the library offers no way to pass one in. The
//! signature is the only output that differs between two runs, and nothing decides by it.

mod claims;

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, EcdsaKeyPair, ParsedPublicKey};
use coset::iana::Algorithm;
use coset::{
    CoseSign1, CoseSign1Builder, Header, HeaderBuilder, RegisteredLabelWithPrivate, TaggedCborSerializable,
};
use data_encoding::BASE64URL_NOPAD;

pub use claims::Claims;

use crate::keys::KeyError;
use crate::name::KeyId;

/// The most characters a token may have. The longest one that can be signed has 427.
pub const MAX_TOKEN_LEN: usize = 512;

/// How far two clocks may differ, in seconds, before a token is early or late. Nodes and control plane keep
/// time by NTP; this allows for one that has lost it for a while, and is nothing against a film's length.
pub const CLOCK_SKEW: u64 = 30;

/// Why a token was refused. Closed: the log, the metric and the problem document use [`TokenError::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// More than [`MAX_TOKEN_LEN`] characters.
    #[error("the token is too long")]
    TooLong,
    /// Not a token in its one spelling.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with something other than ES256.
    #[error("the token is not signed with ES256")]
    Algorithm,
    /// Signed with a key this verifier does not have.
    #[error("the token's key is not known here")]
    UnknownKey,
    /// The signature is not of these bytes by that key.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Properly signed, but says something that we do not understand and therefore must not ignore.
    #[error("the token holds a claim that is not known here")]
    UnknownClaim,
    /// For other methods than `GET` and `HEAD`.
    #[error("the token is for other methods")]
    WrongMethod,
    /// Its time is over: the viewer needs a new session.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come: somebody's clock is wrong.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// For another title.
    #[error("the token is for another title")]
    WrongTitle,
    /// The library refused to sign.
    #[error("the token could not be signed")]
    Signing,
}

impl TokenError {
    /// Every reason, for tables and metrics.
    pub const ALL: [Self; 11] = [
        Self::TooLong,
        Self::Malformed,
        Self::Algorithm,
        Self::UnknownKey,
        Self::BadSignature,
        Self::UnknownClaim,
        Self::WrongMethod,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongTitle,
        Self::Signing,
    ];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown-key",
            Self::BadSignature => "bad-signature",
            Self::UnknownClaim => "unknown-claim",
            Self::WrongMethod => "wrong-method",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::WrongTitle => "wrong-title",
            Self::Signing => "signing",
        }
    }
}

/// The public half of a token key: what nodes hold.
#[derive(Clone)]
pub struct TokenKey {
    id: KeyId,
    key: ParsedPublicKey,
}

impl TokenKey {
    /// A key from its point on P-256, uncompressed (65 bytes, SEC 1 section 2.3.3).
    ///
    /// # Errors
    /// [`KeyError::Rejected`] if that is no point of the curve.
    pub fn new(id: KeyId, point: &[u8]) -> Result<Self, KeyError> {
        // The library would also read DER and compressed points; a key file has one spelling.
        if point.len() != 65 || point[0] != 4 {
            return Err(KeyError::Rejected("es256 public key"));
        }
        let key = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
        Ok(Self { id, key: key.map_err(|_| KeyError::Rejected("es256 public key"))? })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Its point, uncompressed.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        self.key.as_ref()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.id)
    }
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.point() == other.point()
    }
}

impl Eq for TokenKey {}

/// Mints tokens. The control plane has one; nothing else does.
pub struct TokenSigner {
    id: KeyId,
    key: EcdsaKeyPair,
}

impl TokenSigner {
    /// A signer from a PKCS#8 document of a P-256 key.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] if the document is something else.
    pub fn from_pkcs8(id: KeyId, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let key = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
        Ok(Self { id, key: key.map_err(|_| KeyError::Rejected("es256 private key"))? })
    }

    /// The public half.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] if the library cannot read back the key it holds.
    pub fn public(&self) -> Result<TokenKey, KeyError> {
        let point = signature::KeyPair::public_key(&self.key);
        TokenKey::new(self.id.clone(), point.as_ref())
    }

    /// Signs claims into a token's text.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] for claims that no verifier would accept (a nameless issuer, an end before
    /// the beginning), [`TokenError::Signing`] if the library refuses.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        claims.check()?;
        let unsigned = envelope(&self.id, claims, Vec::new())?;
        let digest = digest::digest(&digest::SHA256, &unsigned.tbs_data(&[]));
        let signature = self.key.sign_digest(&digest).map_err(|_| TokenError::Signing)?;
        let signature = low_s(signature.as_ref()).ok_or(TokenError::Signing)?;
        let bytes = encode(envelope(&self.id, claims, signature.to_vec())?)?;
        let text = BASE64URL_NOPAD.encode(&bytes);
        if text.len() > MAX_TOKEN_LEN { Err(TokenError::TooLong) } else { Ok(text) }
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigner({}, ..)", self.id)
    }
}

/// Checks tokens: a pure function of the keys, the text and the time.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    keys: Vec<TokenKey>,
}

impl TokenVerifier {
    /// A verifier that trusts these keys. While keys are being changed there are two.
    #[must_use]
    pub fn new(keys: Vec<TokenKey>) -> Self {
        Self { keys }
    }

    /// Checks a token's text at `now_unix` (seconds). Costs one ECDSA verification; callers that see the
    /// same token often remember the answer until the claims expire.
    ///
    /// # Errors
    /// The first reason to refuse, see [`TokenError`].
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Claims, TokenError> {
        let claims = self.read(token)?;
        claims.check_time(now_unix)?;
        Ok(claims)
    }

    /// The session that a token speaks of, without checking anything: a made-up token may claim any. For
    /// choosing whom to serve first, never for whether.
    #[must_use]
    pub fn claimed_session(token: &str) -> Option<crate::SessionId> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let sign1 = CoseSign1::from_tagged_slice(&bytes).ok()?;
        Claims::decode(sign1.payload.as_deref()?).ok().map(|claims| claims.session)
    }

    /// Everything but the time.
    fn read(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong);
        }
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| TokenError::Malformed)?;
        let sign1 = CoseSign1::from_tagged_slice(&bytes).map_err(|_| TokenError::Malformed)?;
        let key = self.key_of(&sign1.protected.header)?;
        if low_s(&sign1.signature).is_none_or(|low| low[..] != sign1.signature[..]) {
            return Err(TokenError::BadSignature);
        }
        let signed = sign1.tbs_data(&[]);
        key.key.verify_sig(&signed, &sign1.signature).map_err(|_| TokenError::BadSignature)?;
        let claims = Claims::decode(sign1.payload.as_deref().ok_or(TokenError::Malformed)?)?;
        claims.check()?;
        let only_spelling = encode(envelope(&key.id, &claims, sign1.signature)?)?;
        if only_spelling == bytes { Ok(claims) } else { Err(TokenError::Malformed) }
    }

    fn key_of(&self, header: &Header) -> Result<&TokenKey, TokenError> {
        if header.alg != Some(RegisteredLabelWithPrivate::Assigned(Algorithm::ES256)) {
            return Err(TokenError::Algorithm);
        }
        let named = |key: &&TokenKey| key.id.as_str().as_bytes() == header.key_id;
        self.keys.iter().find(named).ok_or(TokenError::UnknownKey)
    }
}

/// The COSE structure around claims, in the one form we write and accept.
fn envelope(id: &KeyId, claims: &Claims, signature: Vec<u8>) -> Result<CoseSign1, TokenError> {
    let key_id = id.as_str().as_bytes().to_vec();
    let header = HeaderBuilder::new().algorithm(Algorithm::ES256).key_id(key_id).build();
    let payload = claims.encode()?;
    Ok(CoseSign1Builder::new().protected(header).payload(payload).signature(signature).build())
}

fn encode(sign1: CoseSign1) -> Result<Vec<u8>, TokenError> {
    sign1.to_tagged_vec().map_err(|_| TokenError::Malformed)
}

/// The order `n` of P-256 (SEC 2 section 2.4.2), big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Of the two signatures `(r, s)` and `(r, n - s)`, both valid for the same message, the one with the
/// smaller `s`. `None` unless these are 64 bytes with `s <= n`.
fn low_s(signature: &[u8]) -> Option<[u8; 64]> {
    let mut low: [u8; 64] = signature.try_into().ok()?;
    let mut twin = [0; 32];
    let mut borrow = false;
    for at in (0..32).rev() {
        let (difference, first) = ORDER[at].overflowing_sub(low[32 + at]);
        let (difference, second) = difference.overflowing_sub(u8::from(borrow));
        twin[at] = difference;
        borrow = first || second;
    }
    if borrow {
        return None;
    }
    if twin[..] < low[32..] {
        low[32..].copy_from_slice(&twin);
    }
    Some(low)
}

#[cfg(test)]
mod tests;
