//! The region view: who is in a region, with what key, weight and price, and which partner may hold what. The control
//! plane signs it; nodes go by the newest one they have and need nobody to go on.
//!
//! ```text
//! weir-region 1 <key id, 16 hex digits> <base64 signature>\n
//! <JSON>
//! ```
//!
//! The Ed25519 signature covers `weir-region 1\n` and the JSON, byte for byte. The text is parsed only after the signature
//! was checked. A view with an older epoch than the one in force is refused, so that nobody can bring back a node that was
//! taken out by replaying yesterday.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use media::index::{PublicKey, SigningKey};
use media::{RenditionId, TitleId};
use serde::{Deserialize, Serialize};

use crate::name::{NodeId, PartnerId, RegionId};

/// The longest view that is read, in bytes: 64 nodes take about 20 KB.
pub const MAX_VIEW_LEN: usize = 1 << 20;

/// The most nodes of a region.
pub const MAX_NODES: usize = 256;

const PREFIX: &str = "weir-region 1";

/// Everything nodes know about their region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionView {
    /// Which region.
    pub region: RegionId,
    /// Grows with each change.
    pub epoch: u64,
    /// When it was made, in Unix seconds.
    pub made: u64,
    /// Until when it may be used, in Unix seconds.
    pub not_after: u64,
    /// The nodes, no name, key or address twice.
    pub nodes: Vec<Node>,
    /// Keys that were taken out before their time; whoever holds a connection with one is cut off.
    #[serde(default)]
    pub revoked: Vec<KeyPin>,
    /// What partners may hold and fetch.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Where its neighbours reach it: `host:port`.
    pub address: String,
    /// The key it proves to hold.
    pub key: KeyPin,
    /// Its share of the region's titles; 0 for a node that owns nothing, such as one that is being drained.
    pub weight: u32,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner: Option<PartnerId>,
    /// What a byte from it costs, in picodollars; 85 are 8.5 cents for 10^9 bytes.
    #[serde(default)]
    pub picodollars_per_byte: u64,
    /// Most bits per second it serves to neighbours; 0 when that is not limited.
    #[serde(default)]
    pub max_bits_per_second: u64,
}

/// What a partner may hold and fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Whose nodes.
    pub partner: PartnerId,
    /// Which title.
    pub title: TitleId,
    /// Which renditions of it; all when there is none.
    #[serde(default)]
    pub renditions: Vec<RenditionId>,
    /// Until when, in Unix seconds.
    pub not_after: u64,
}

/// The SHA-256 of a public key (its SubjectPublicKeyInfo): 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPin(pub [u8; 32]);

/// The text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key pin is 64 lower-case hex digits")]
pub struct KeyPinError;

impl FromStr for KeyPin {
    type Err = KeyPinError;

    fn from_str(text: &str) -> Result<Self, KeyPinError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| KeyPinError)?;
        bytes.try_into().map(Self).map_err(|_| KeyPinError)
    }
}

impl TryFrom<String> for KeyPin {
    type Error = KeyPinError;

    fn try_from(text: String) -> Result<Self, KeyPinError> {
        text.parse()
    }
}

impl From<KeyPin> for String {
    fn from(pin: KeyPin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Why a view is not taken. The one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Longer than [`MAX_VIEW_LEN`].
    #[error("the region view is longer than {MAX_VIEW_LEN} bytes")]
    TooLong,
    /// Not of the form above.
    #[error("this is no region view: it does not begin with `{PREFIX} <key id> <signature>`")]
    Shape,
    /// Signed by nobody we trust.
    #[error("no trusted key signed the region view; its key id is {0}")]
    UnknownKey(String),
    /// The signature is wrong.
    #[error("the signature of the region view is wrong")]
    Signature,
    /// Signed, but not readable.
    #[error("the region view is signed but cannot be read: {0}")]
    Json(String),
    /// Signed, but contradictory.
    #[error("the region view is signed but makes no sense: {0}")]
    Sense(String),
    /// Its time is over.
    #[error("the region view ended at {not_after}, it is {now}")]
    Ended {
        /// When it ended, in Unix seconds.
        not_after: u64,
        /// When it was looked at.
        now: u64,
    },
    /// For other nodes.
    #[error("the region view is for {found}, this node is in {wanted}")]
    Region {
        /// Whose it is.
        found: RegionId,
        /// Where this node is.
        wanted: RegionId,
    },
    /// Older than the one in force.
    #[error("the region view has epoch {found}, in force is {current}")]
    Older {
        /// Its epoch.
        found: u64,
        /// The epoch in force.
        current: u64,
    },
}

/// Why a node may not have a segment from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denied {
    /// The view is too old to go by.
    ViewEnded,
    /// Nobody of the region holds that key.
    Unknown,
    /// The key was taken out.
    Revoked,
    /// Nodes of different partners do not speak with each other.
    OtherPartner,
    /// The partner was not granted that title or rendition.
    NoGrant,
    /// It was, until a moment ago.
    GrantEnded,
}

impl Denied {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::ViewEnded, Self::Unknown, Self::Revoked, Self::OtherPartner, Self::NoGrant, Self::GrantEnded];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ViewEnded => "view-ended",
            Self::Unknown => "unknown-key",
            Self::Revoked => "revoked",
            Self::OtherPartner => "other-partner",
            Self::NoGrant => "no-grant",
            Self::GrantEnded => "grant-ended",
        }
    }
}

impl RegionView {
    /// The signed text.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        // Every field of a view is representable in JSON.
        let json = serde_json::to_string(self).unwrap_or_default();
        let signature = key.sign(signed(&json).as_bytes());
        format!("{PREFIX} {} {}\n{json}", key.public().id(), BASE64.encode(&signature))
    }

    /// Reads a view and decides whether it takes the place of the one in force. The same view again is taken.
    ///
    /// # Errors
    /// [`ViewError`] says why the one in force stays.
    pub fn accept(
        text: &[u8],
        trusted: &[PublicKey],
        region: &RegionId,
        current: Option<&Self>,
        now: u64,
    ) -> Result<Self, ViewError> {
        let view = Self::open(text, trusted)?;
        if view.region != *region {
            return Err(ViewError::Region { found: view.region, wanted: region.clone() });
        }
        if let Some(current) = current.filter(|current| current.epoch > view.epoch) {
            return Err(ViewError::Older { found: view.epoch, current: current.epoch });
        }
        if view.not_after <= now {
            return Err(ViewError::Ended { not_after: view.not_after, now });
        }
        Ok(view)
    }

    /// The view, if a trusted key signed it.
    fn open(text: &[u8], trusted: &[PublicKey]) -> Result<Self, ViewError> {
        if text.len() > MAX_VIEW_LEN {
            return Err(ViewError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| ViewError::Shape)?;
        let (head, json) = text.split_once('\n').ok_or(ViewError::Shape)?;
        let words = head.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(' '));
        let (id, signature) = words.and_then(|words| words.split_once(' ')).ok_or(ViewError::Shape)?;
        let signature = BASE64.decode(signature.as_bytes()).map_err(|_| ViewError::Shape)?;
        let mut keys = trusted.iter().filter(|key| key.id().to_string() == id).peekable();
        if keys.peek().is_none() {
            return Err(ViewError::UnknownKey(id.chars().take(32).collect()));
        }
        if !keys.any(|key| key.verifies(signed(json).as_bytes(), &signature)) {
            return Err(ViewError::Signature);
        }
        let view: Self = serde_json::from_str(json).map_err(|error| ViewError::Json(error.to_string()))?;
        view.problem().map_or(Ok(view), |problem| Err(ViewError::Sense(problem)))
    }

    /// What is contradictory about it.
    fn problem(&self) -> Option<String> {
        if self.nodes.len() > MAX_NODES {
            return Some(format!("{} nodes are more than {MAX_NODES}", self.nodes.len()));
        }
        let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
        for node in &self.nodes {
            if !ids.insert(&node.id) {
                return Some(format!("the node {} stands there twice", node.id));
            }
            if !keys.insert(node.key) {
                return Some(format!("the key of {} belongs to another node, too", node.id));
            }
            if !node.address.contains(':') {
                return Some(format!("the address of {} is not host:port", node.id));
            }
        }
        None
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == *id)
    }

    /// The node that holds a key, unless the key was taken out.
    ///
    /// # Errors
    /// [`Denied::Revoked`] and [`Denied::Unknown`].
    pub fn holder(&self, key: &KeyPin) -> Result<&Node, Denied> {
        if self.revoked.contains(key) {
            return Err(Denied::Revoked);
        }
        self.nodes.iter().find(|node| node.key == *key).ok_or(Denied::Unknown)
    }

    /// Whether `asker` may have segments of this rendition from `provider`: a node of ours from any; a partner's from ours
    /// and its own, and only what it was granted; and nobody from a partner what that partner may not hold.
    ///
    /// # Errors
    /// [`Denied`] says why not.
    pub fn allows(
        &self,
        provider: &Node,
        asker: &Node,
        (title, rendition): (&TitleId, &RenditionId),
        now: u64,
    ) -> Result<(), Denied> {
        if self.not_after <= now {
            return Err(Denied::ViewEnded);
        }
        if let (Some(one), Some(other)) = (&provider.partner, &asker.partner)
            && one != other
        {
            return Err(Denied::OtherPartner);
        }
        let partners = [&provider.partner, &asker.partner].into_iter().flatten();
        partners
            .map(|partner| self.granted(partner, title, rendition, now))
            .find(Result::is_err)
            .unwrap_or(Ok(()))
    }

    fn granted(
        &self,
        partner: &PartnerId,
        title: &TitleId,
        rendition: &RenditionId,
        now: u64,
    ) -> Result<(), Denied> {
        let fits = |grant: &&Grant| {
            let rendition = grant.renditions.is_empty() || grant.renditions.contains(rendition);
            grant.partner == *partner && grant.title == *title && rendition
        };
        match self.grants.iter().filter(fits).map(|grant| grant.not_after).max() {
            None => Err(Denied::NoGrant),
            Some(end) if end <= now => Err(Denied::GrantEnded),
            Some(_) => Ok(()),
        }
    }
}

fn signed(json: &str) -> String {
    format!("{PREFIX}\n{json}")
}

#[cfg(test)]
mod tests;
