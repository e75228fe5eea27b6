//! The JSON of the HTTP API under `/v1`. Golden files in `tests/golden` hold every type's exact form.
//!
//! Requests refuse fields they do not know, so that a misspelt field is an error and not a silent default.
//! Answers may gain fields: whoever reads them skips what it does not know. Times are Unix seconds.

use media::{PackageId, RenditionId, RenditionKind, Tag, TitleId};
use serde::{Deserialize, Serialize};

use crate::name::{Currency, DeviceId, EntitlementId, KeyName, Language, SessionId, ViewerId};

/// The header that makes a purchase safe to send twice.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// `POST /v1/titles`: take a film in. Answered with 202 and a [`TitleView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTitle {
    /// How URLs and objects will name it.
    pub title: TitleId,
    /// How people name it.
    pub name: String,
    /// The mezzanine's path within the mezzanine store.
    pub source: String,
    /// Caption files, if any.
    #[serde(default)]
    pub captions: Vec<CaptionSource>,
    /// Whom to credit, as the licence asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// What purges can name besides the title: none twice, at most [`media::index::MAX_TAGS`]. Other tags
    /// make another package.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// One caption file of a new title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionSource {
    /// Its language.
    pub language: Language,
    /// The WebVTT file's path within the mezzanine store.
    pub source: String,
}

/// `GET /v1/titles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TitleList {
    /// All titles, by name.
    pub titles: Vec<TitleView>,
}

/// `GET /v1/titles/{title}`: a title and how far its ingest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TitleView {
    /// How URLs and objects name it.
    pub title: TitleId,
    /// How people name it.
    pub name: String,
    /// How far its ingest is.
    pub stage: Stage,
    /// How much of the whole ingest is done, 0 to 100.
    pub progress_percent: u8,
    /// The package, once there is one.
    pub package: Option<PackageId>,
    /// Why it failed, or what it waits for.
    pub reason: Option<String>,
    /// Whom to credit.
    pub attribution: Option<String>,
    /// What purges can name besides the title, sorted.
    pub tags: Vec<Tag>,
    /// What the package holds; empty until indexed.
    pub renditions: Vec<RenditionView>,
    /// What the package's check found worth saying.
    pub lint: Vec<String>,
    /// How long it plays, in milliseconds; 0 until probed.
    pub duration_ms: u64,
}

/// How far an ingest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Written down, nothing done yet.
    Received,
    /// The mezzanine was measured.
    Probed,
    /// The ladder is being encoded.
    Transcoding,
    /// The encodings are being packaged.
    Packaging,
    /// The package is being checked.
    Verifying,
    /// The signed index stands.
    Indexed,
    /// Viewers can watch it.
    Published,
    /// It will not be published; the reason says why.
    Failed,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Probed,
        Self::Transcoding,
        Self::Packaging,
        Self::Verifying,
        Self::Indexed,
        Self::Published,
        Self::Failed,
    ];

    /// The word used in JSON, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Probed => "probed",
            Self::Transcoding => "transcoding",
            Self::Packaging => "packaging",
            Self::Verifying => "verifying",
            Self::Indexed => "indexed",
            Self::Published => "published",
            Self::Failed => "failed",
        }
    }
}

/// One rendition of a published package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionView {
    /// Its name.
    pub id: RenditionId,
    /// What it carries.
    #[serde(with = "kind")]
    pub kind: RenditionKind,
    /// Its declared peak, in bits per second; 0 where that means nothing.
    pub bandwidth: u32,
    /// How many media segments it has.
    pub segments: u32,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Rendition kinds speak in `media` with `as_str`; JSON uses the same words.
mod kind {
    use media::RenditionKind;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const ALL: [RenditionKind; 7] = [
        RenditionKind::Video,
        RenditionKind::Audio,
        RenditionKind::Subtitles,
        RenditionKind::Images,
        RenditionKind::TrickPlay,
        RenditionKind::Main,
        RenditionKind::TransportStream,
    ];

    pub(super) fn serialize<S: Serializer>(kind: &RenditionKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(kind.as_str())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<RenditionKind, D::Error> {
        let word = String::deserialize(from)?;
        let known = ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or_else(|| D::Error::custom(format!("{word:?} is no kind of rendition")))
    }
}

/// Which sort of right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntitlementKind {
    /// For a while: a window to start, a window to finish.
    Rental,
    /// For good.
    Purchase,
}

impl EntitlementKind {
    /// The word used in JSON, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rental => "rental",
            Self::Purchase => "purchase",
        }
    }
}

/// `POST /v1/purchases`, with an [`IDEMPOTENCY_KEY`] header. Answered with 201 and an [`Entitlement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPurchase {
    /// Who buys.
    pub viewer: ViewerId,
    /// What.
    pub title: TitleId,
    /// For how long.
    pub kind: EntitlementKind,
    /// The transaction by which the viewer's device has paid, where devices pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
}

/// What something costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// In the currency's smallest unit: cents, yen.
    pub minor: u64,
    /// The currency.
    pub currency: Currency,
}

/// `PUT /v1/titles/{title}/prices/{kind}`, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceView {
    /// Of what.
    pub title: TitleId,
    /// For how long.
    pub kind: EntitlementKind,
    /// How much.
    pub price: Price,
}

/// What a key of the API is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything, keys included. The operator's key file has it.
    Admin,
    /// Takes films in and sets prices.
    Publisher,
    /// Sells, opens sessions and hears players: the platform's backend.
    Storefront,
    /// Looks at what viewers bought, and pays back.
    Support,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Publisher, Self::Storefront, Self::Support];

    /// The word used in JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Publisher => "publisher",
            Self::Storefront => "storefront",
            Self::Support => "support",
        }
    }
}

/// `POST /v1/keys`: a new key of the API. Answered with 201 and a [`MadeKey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What the trail calls whoever uses it.
    pub name: KeyName,
    /// What it is for.
    pub role: Role,
    /// From when on it opens nothing, in Unix seconds; never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// A new key and its secret, which is shown this once and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// What is kept.
    #[serde(flatten)]
    pub key: KeyView,
    /// What follows `Bearer ` in the header. This is the secret.
    pub secret: String,
}

/// A key as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its name for [`NewKey`]'s opposite, `DELETE /v1/keys/{id}`: the digest of its secret.
    pub id: String,
    /// What the trail calls whoever uses it.
    pub name: KeyName,
    /// What it is for.
    pub role: Role,
    /// When it was made, in Unix seconds.
    pub created_at: u64,
    /// From when on it opens nothing.
    pub expires_at: Option<u64>,
}

/// `GET /v1/keys[?after=<id>&limit=<n>]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// The keys, by id.
    pub keys: Vec<KeyView>,
}

/// Why a right ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withdrawal {
    /// It was, or is being, paid back.
    Refunded,
    /// The viewer's bank took the money back.
    ChargedBack,
    /// The operator took it away.
    Revoked,
}

/// `POST /v1/viewers/{viewer}/entitlements/{entitlement}/refund`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRefund {
    /// Why, for the audit trail and the payment service: 1 to 200 printable characters.
    pub reason: String,
}

/// One right of one viewer to one title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entitlement {
    /// Its name.
    pub id: EntitlementId,
    /// Whose.
    pub viewer: ViewerId,
    /// To what.
    pub title: TitleId,
    /// Which sort.
    pub kind: EntitlementKind,
    /// When it was bought.
    pub bought_at: u64,
    /// Until when a rental may be started; purchases have none.
    pub start_by: Option<u64>,
    /// When it was first played.
    pub first_played_at: Option<u64>,
    /// Until when a started rental may be watched.
    pub finish_by: Option<u64>,
    /// Why it ended before its time, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawal>,
}

/// `GET /v1/viewers/{viewer}/entitlements`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntitlementList {
    /// The viewer's rights, newest first.
    pub entitlements: Vec<Entitlement>,
}

/// `POST /v1/sessions`: this viewer wants to watch this title now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Who.
    pub viewer: ViewerId,
    /// What.
    pub title: TitleId,
    /// On which screen. The same screen again takes no further place; without a name every session is a screen of
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// If all places are taken: end the session that began first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
}

/// The answer to [`NewSession`], with 201: where to play.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaybackSession {
    /// The session's name: the token's `cti`.
    pub session: SessionId,
    /// The multivariant playlist's URL, token included.
    pub url: String,
    /// When the token ends.
    pub expires_at: u64,
    /// The film.
    pub title: TitleId,
    /// Which ingest of it.
    pub package: PackageId,
    /// Where the viewer stopped the last time, in milliseconds; 0 for the beginning.
    #[serde(default)]
    pub resume_at_ms: u64,
    /// How often the player is to say where it is, in seconds.
    #[serde(default)]
    pub beacon_every_s: u64,
}

/// `POST /v1/sessions/{session}/beacons`: the player says where it is. Answered with a [`BeaconAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beacon {
    /// Who watches.
    pub viewer: ViewerId,
    /// How far, in milliseconds from the beginning.
    pub position_ms: u64,
    /// Whether this is the last one: the screen's place is free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// What a [`Beacon`] is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconAnswer {
    /// Until when the screen keeps its place without a further beacon.
    pub lease_until: u64,
}

/// Where a viewer stopped watching a title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The film.
    pub title: TitleId,
    /// How far, in milliseconds from the beginning.
    pub position_ms: u64,
    /// When that was, in Unix seconds.
    pub at: u64,
}

/// `GET /v1/viewers/{viewer}/bookmarks[?after=<title>&limit=<n>]`, by title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookmarkList {
    /// The bookmarks.
    pub bookmarks: Vec<Bookmark>,
}
