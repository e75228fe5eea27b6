//! The claims of a playback token and their CBOR.

use coset::cbor::{de, ser, value::Value};
use media::TitleId;

use super::{CLOCK_SKEW, TokenError};
use crate::name::SessionId;

const ISS: i64 = 1;
const EXP: i64 = 4;
const NBF: i64 = 5;
const IAT: i64 = 6;
const CTI: i64 = 7;
const CATV: i64 = 310;
const CATU: i64 = 312;
const CATM: i64 = 313;

const VERSION: i64 = 1;
const CATU_PATH: i64 = 3;
const MATCH_PREFIX: i64 = 1;
const METHODS: [&str; 2] = ["GET", "HEAD"];

/// The claims map holds a map of a map; nothing we understand is deeper.
const MAX_DEPTH: usize = 8;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who signed: the operator's name for this platform, 1 to [`Claims::MAX_ISSUER_LEN`] bytes.
    pub issuer: String,
    /// Which playback session.
    pub session: SessionId,
    /// The one title it opens.
    pub title: TitleId,
    /// When it was signed, in Unix seconds; not valid earlier.
    pub issued: u64,
    /// When it ends, in Unix seconds; not valid from then on.
    pub expires: u64,
}

impl Claims {
    /// The most bytes an issuer's name may have.
    pub const MAX_ISSUER_LEN: usize = 32;

    /// Whether the token opens this title.
    #[must_use]
    pub fn allows(&self, title: &TitleId) -> bool {
        self.title == *title
    }

    /// [`Claims::allows`] as a step in a chain of checks.
    ///
    /// # Errors
    /// [`TokenError::WrongTitle`].
    pub fn require(&self, title: &TitleId) -> Result<(), TokenError> {
        if self.allows(title) { Ok(()) } else { Err(TokenError::WrongTitle) }
    }

    /// Whether the claims' time has come and is not over, [`CLOCK_SKEW`] allowed either way. For callers
    /// that keep verified claims and ask again later.
    ///
    /// # Errors
    /// [`TokenError::NotYetValid`] or [`TokenError::Expired`].
    pub fn check_time(&self, now_unix: u64) -> Result<(), TokenError> {
        if now_unix.saturating_add(CLOCK_SKEW) < self.issued {
            return Err(TokenError::NotYetValid);
        }
        if now_unix >= self.expires.saturating_add(CLOCK_SKEW) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// What must hold for any claims, whatever the time.
    pub(super) fn check(&self) -> Result<(), TokenError> {
        let named = (1..=Self::MAX_ISSUER_LEN).contains(&self.issuer.len());
        if named && self.issued < self.expires { Ok(()) } else { Err(TokenError::Malformed) }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, TokenError> {
        let prefix = Value::Text(format!("/{}/", self.title));
        let catu = map([(CATU_PATH, map([(MATCH_PREFIX, prefix)]))]);
        let claims = map([
            (ISS, Value::Text(self.issuer.clone())),
            (EXP, self.expires.into()),
            (NBF, self.issued.into()),
            (IAT, self.issued.into()),
            (CTI, Value::Bytes(self.session.as_str().as_bytes().to_vec())),
            (CATV, VERSION.into()),
            (CATU, catu),
            (CATM, methods()),
        ]);
        let mut bytes = Vec::new();
        ser::into_writer(&claims, &mut bytes).map_err(|_| TokenError::Malformed)?;
        Ok(bytes)
    }

    /// Reads claims. It may be lenient about how they are spelled: the caller compares the spelling.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let read = de::from_reader_with_recursion_limit(bytes, MAX_DEPTH);
        let Ok(Value::Map(entries)) = read else { return Err(TokenError::Malformed) };
        let mut found = Found::default();
        for (key, value) in entries {
            let key = key.as_integer().and_then(|key| i64::try_from(key).ok());
            found.take(key.ok_or(TokenError::UnknownClaim)?, &value)?;
        }
        found.complete().ok_or(TokenError::Malformed)
    }
}

#[derive(Default)]
struct Found {
    issuer: Option<String>,
    session: Option<SessionId>,
    title: Option<TitleId>,
    issued: Option<u64>,
    expires: Option<u64>,
}

impl Found {
    fn take(&mut self, key: i64, value: &Value) -> Result<(), TokenError> {
        match key {
            ISS => self.issuer = value.as_text().map(ToOwned::to_owned),
            EXP => self.expires = seconds(value),
            // Always written equal; the comparison of spellings holds them to it.
            NBF | IAT => self.issued = seconds(value),
            CTI => self.session = session(value),
            CATU => self.title = title(value),
            CATV if *value != Value::from(VERSION) => return Err(TokenError::UnknownClaim),
            CATM if *value != methods() => return Err(TokenError::WrongMethod),
            CATV | CATM => {}
            _ => return Err(TokenError::UnknownClaim),
        }
        Ok(())
    }

    fn complete(self) -> Option<Claims> {
        Some(Claims {
            issuer: self.issuer?,
            session: self.session?,
            title: self.title?,
            issued: self.issued?,
            expires: self.expires?,
        })
    }
}

fn map<const N: usize>(entries: [(i64, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn methods() -> Value {
    Value::Array(METHODS.map(|method| Value::Text(method.to_owned())).to_vec())
}

fn seconds(value: &Value) -> Option<u64> {
    value.as_integer()?.try_into().ok()
}

fn session(value: &Value) -> Option<SessionId> {
    std::str::from_utf8(value.as_bytes()?).ok()?.parse().ok()
}

/// The title out of `{3: {1: "/<title>/"}}`, the only form in which a token names one.
fn title(value: &Value) -> Option<TitleId> {
    let prefix = only(only(value, CATU_PATH)?, MATCH_PREFIX)?;
    prefix.as_text()?.strip_prefix('/')?.strip_suffix('/')?.parse().ok()
}

/// The value of a map that has this one key and no other.
fn only(value: &Value, key: i64) -> Option<&Value> {
    match value.as_map()?.as_slice() {
        [(found, value)] if *found == Value::from(key) => Some(value),
        _ => None,
    }
}
