//! Key files: one line of text each, so that they survive mail, copy and paste and `cat`.
//!
//! ```text
//! weir-token-private es256 <kid> <base64 PKCS#8>
//! weir-token-public es256 <kid> <base64 point>
//! weir-index-private ed25519 <base64 seed>
//! weir-index-public ed25519 <base64 key>
//! weir-operator-key <base64url, 32 bytes>
//! ```
//!
//! No I/O here: programs read and write the files, and see to their modes. Types that hold a secret cannot
//! be displayed and show nothing of it in `Debug`; [`TokenPrivateKey::to_line`] and its like are the one way
//! out, to be used on the way to a file.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::name::{IdError, KeyId};
use crate::token::{TokenKey, TokenSigner};

const TOKEN_PRIVATE: &str = "weir-token-private";
const TOKEN_PUBLIC: &str = "weir-token-public";
const INDEX_PRIVATE: &str = "weir-index-private";
const INDEX_PUBLIC: &str = "weir-index-public";
const OPERATOR: &str = "weir-operator-key";

/// The longest line that can be a key file; all are far shorter.
pub const MAX_KEY_FILE_LEN: usize = 1024;

/// Why a text is no key file of the kind that was wanted. Never quotes the text: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Longer than [`MAX_KEY_FILE_LEN`], or more than one line.
    #[error("a key file is one line of at most {MAX_KEY_FILE_LEN} bytes")]
    NotOneLine,
    /// The line begins with another word: the wrong file was named.
    #[error("the key file does not begin with `{wanted}`; is this the right file?")]
    Kind {
        /// The word it should begin with.
        wanted: &'static str,
    },
    /// The line has another number of words.
    #[error("a `{kind}` line has the form `{form}`")]
    Shape {
        /// The kind of key.
        kind: &'static str,
        /// How the line should look.
        form: &'static str,
    },
    /// The key's name is malformed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The last word is not base64, or of the wrong length.
    #[error("the last word of a `{0}` line is not the base64 of such a key")]
    Encoding(&'static str),
    /// The bytes are no such key.
    #[error("these bytes are no {0}")]
    Rejected(&'static str),
    /// The cryptographic library could not make a key.
    #[error("the cryptographic library could not make a key")]
    Generate,
}

/// The secret that mints tokens. Only the control plane's machine has it.
pub struct TokenPrivateKey {
    id: KeyId,
    pkcs8: Vec<u8>,
}

impl TokenPrivateKey {
    /// Makes a new key.
    ///
    /// Randomness is an input elsewhere; here it is not, because the library generates ECDSA keys from its
    /// own generator and accepts no other. Nothing but a key file ever depends on the outcome.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the library has no randomness to give.
    pub fn generate(id: KeyId) -> Result<Self, KeyError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Generate)?;
        let document = key.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        Ok(Self { id, pkcs8: document.as_ref().to_vec() })
    }

    /// Reads a `weir-token-private` line.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (id, pkcs8) = token_line(text, TOKEN_PRIVATE, "weir-token-private es256 <kid> <base64 PKCS#8>")?;
        let key = Self { id, pkcs8 };
        key.signer()?;
        Ok(key)
    }

    /// The line for the key file, with its newline. This is the secret.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{TOKEN_PRIVATE} es256 {} {}\n", self.id, BASE64.encode(&self.pkcs8))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The signer that uses it.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] if the bytes are no such key.
    pub fn signer(&self) -> Result<TokenSigner, KeyError> {
        TokenSigner::from_pkcs8(self.id.clone(), &self.pkcs8)
    }

    /// The public half, for the nodes.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] if the bytes are no such key.
    pub fn public(&self) -> Result<TokenKey, KeyError> {
        self.signer()?.public()
    }
}

impl fmt::Debug for TokenPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenPrivateKey({}, ..)", self.id)
    }
}

impl FromStr for TokenKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (id, point) = token_line(text, TOKEN_PUBLIC, "weir-token-public es256 <kid> <base64 point>")?;
        Self::new(id, &point)
    }
}

/// The line of the key file, without a newline.
impl fmt::Display for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TOKEN_PUBLIC} es256 {} {}", self.id(), BASE64.encode(self.point()))
    }
}

/// The secret that signs segment indexes, as the seed that `media::index` makes its key of.
#[derive(Clone)]
pub struct IndexPrivateKey([u8; 32]);

impl IndexPrivateKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// Reads a `weir-index-private` line.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        index_line(text, INDEX_PRIVATE, "weir-index-private ed25519 <base64 seed>").map(Self)
    }

    /// The line for the key file, with its newline. This is the secret.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{INDEX_PRIVATE} ed25519 {}\n", BASE64.encode(&self.0))
    }

    /// The seed. This is the secret.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for IndexPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexPrivateKey(..)")
    }
}

/// Reads a `weir-index-public` line into the bytes of an Ed25519 public key.
///
/// # Errors
/// [`KeyError`] says what is wrong with it.
pub fn parse_index_public(text: &str) -> Result<[u8; 32], KeyError> {
    index_line(text, INDEX_PUBLIC, "weir-index-public ed25519 <base64 key>")
}

/// The `weir-index-public` line of an Ed25519 public key, with its newline.
#[must_use]
pub fn format_index_public(key: &[u8; 32]) -> String {
    format!("{INDEX_PUBLIC} ed25519 {}\n", BASE64.encode(key))
}

/// What an operator shows as `Authorization: Bearer <key>`.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads a `weir-operator-key` line.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let [_, key] = words(text, OPERATOR, "weir-operator-key <base64url, 32 bytes>")?;
        let bytes = BASE64URL_NOPAD.decode(key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(KeyError::Encoding(OPERATOR))
    }

    /// The line for the key file, with its newline. This is the secret.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{OPERATOR} {}\n", self.bearer())
    }

    /// What follows `Bearer ` in the header. This is the secret.
    #[must_use]
    pub fn bearer(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// Whether a request's `Authorization` value carries this key. Takes the same time wherever the two
    /// first differ.
    #[must_use]
    pub fn opens(&self, authorization: &str) -> bool {
        let Some((scheme, shown)) = authorization.split_once(' ') else { return false };
        let same = constant_time::verify_slices_are_equal(shown.trim().as_bytes(), self.bearer().as_bytes());
        scheme.eq_ignore_ascii_case("bearer") && same.is_ok()
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorKey(..)")
    }
}

fn token_line(text: &str, kind: &'static str, form: &'static str) -> Result<(KeyId, Vec<u8>), KeyError> {
    let [_, algorithm, id, key] = words(text, kind, form)?;
    if algorithm != "es256" {
        return Err(KeyError::Shape { kind, form });
    }
    let key = BASE64.decode(key.as_bytes()).map_err(|_| KeyError::Encoding(kind))?;
    Ok((id.parse()?, key))
}

fn index_line(text: &str, kind: &'static str, form: &'static str) -> Result<[u8; 32], KeyError> {
    let [_, algorithm, key] = words(text, kind, form)?;
    if algorithm != "ed25519" {
        return Err(KeyError::Shape { kind, form });
    }
    let bytes = BASE64.decode(key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(KeyError::Encoding(kind))
}

/// The words of a key file's one line, of which the first must be `kind`.
fn words<'a, const N: usize>(
    text: &'a str,
    kind: &'static str,
    form: &'static str,
) -> Result<[&'a str; N], KeyError> {
    let line = text.trim();
    if line.len() > MAX_KEY_FILE_LEN || line.contains(['\n', '\r']) {
        return Err(KeyError::NotOneLine);
    }
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.first() != Some(&kind) {
        return Err(KeyError::Kind { wanted: kind });
    }
    words.try_into().map_err(|_| KeyError::Shape { kind, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private() -> TokenPrivateKey {
        TokenPrivateKey::generate("k1".parse().expect("valid")).expect("randomness")
    }

    #[test]
    fn token_keys_survive_their_files() {
        let key = private();
        let again = TokenPrivateKey::parse(&key.to_line()).expect("our own line");
        assert_eq!(again.to_line(), key.to_line());
        let public = key.public().expect("public half");
        assert_eq!(again.public(), Ok(public.clone()));
        assert_eq!(format!("{public}\n").parse::<TokenKey>(), Ok(public));
    }

    #[test]
    fn index_and_operator_keys_survive_their_files() {
        let line = IndexPrivateKey::from_seed([7; 32]).to_line();
        assert_eq!(line, "weir-index-private ed25519 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
        assert_eq!(IndexPrivateKey::parse(&line).expect("our own line").seed(), [7; 32]);
        assert_eq!(parse_index_public(&format_index_public(&[9; 32])), Ok([9; 32]));
        let operator = OperatorKey::from_bytes([1; 32]);
        let again = OperatorKey::parse(&operator.to_line()).expect("our own line");
        assert!(again.opens(&format!("Bearer {}", operator.bearer())));
        assert!(again.opens(&format!("bearer {}", operator.bearer())));
        let basic = format!("Basic {}", operator.bearer());
        for wrong in ["", "Bearer", "Bearer ", &basic, &operator.bearer(), "Bearer AQEB"] {
            assert!(!again.opens(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = private();
        let secret = key.to_line();
        let secret = secret.split_whitespace().next_back().expect("the last word");
        assert!(!format!("{key:?} {:?}", key.signer()).contains(secret));
        assert_eq!(format!("{:?}", IndexPrivateKey::from_seed([7; 32])), "IndexPrivateKey(..)");
        assert_eq!(format!("{:?}", OperatorKey::from_bytes([7; 32])), "OperatorKey(..)");
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let public = private().public().expect("public half").to_string();
        let check = |text: &str, expected: &str| {
            let error = text.parse::<TokenKey>().expect_err(text).to_string();
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        };
        check("", "does not begin with `weir-token-public`");
        check("weir-token-private es256 k1 AAAA", "is this the right file?");
        check("weir-token-public es256 k1", "has the form");
        check("weir-token-public es256 k1 AAAA x", "has the form");
        check("weir-token-public rs256 k1 AAAA", "has the form");
        check("weir-token-public es256 k/1 AAAA", "key id holds a character");
        check("weir-token-public es256 k1 AAA", "not the base64");
        check("weir-token-public es256 k1 AAAA", "no es256 public key");
        check(&format!("{public}\n{public}"), "one line");
        check(&"x".repeat(2000), "one line");
        let off_curve = format!("weir-token-public es256 k1 {}", BASE64.encode(&[4; 65]));
        check(&off_curve, "no es256 public key");
        assert!(matches!(
            TokenPrivateKey::parse("weir-token-private es256 k1 AAAA"),
            Err(KeyError::Rejected("es256 private key"))
        ));
        assert!(matches!(parse_index_public("weir-index-public ed25519 AAAA"), Err(KeyError::Encoding(_))));
        assert!(matches!(OperatorKey::parse("weir-operator-key AAAA"), Err(KeyError::Encoding(_))));
    }
}
