//! What a node says of a path on `GET /explain`: what its tiers have, and where the rest would come from.

use serde::{Deserialize, Serialize};

/// The answer to `GET /explain?path=...` on a node's admin address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which node.
    pub node: String,
    /// The segment's key, or the object's name.
    pub path: String,
    /// The object that holds the bytes.
    pub object: String,
    /// How many bytes; nothing where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What the node has of it; nothing for an object, which no tier keeps under its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiers: Option<TierView>,
    /// How many bytes the prices below are for: what is lacking, or all of it when nothing is.
    pub priced_bytes: u64,
    /// Everybody who could be asked, in the order in which they would be.
    pub sources: Vec<SourceView>,
}

/// How much of a segment each tier has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierView {
    /// Groups of 16 KiB that the segment has.
    pub groups: u64,
    /// Those in memory.
    pub memory: u64,
    /// Those on disk.
    pub disk: u64,
    /// Bytes that neither has.
    pub lacking_bytes: u64,
    /// Whether a fill is under way.
    pub filling: bool,
}

/// One source, as the planner sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name.
    pub source: String,
    /// What it is: `s3`, `http`.
    pub kind: String,
    /// Its price now for 10^9 bytes, in dollars as decimal text.
    pub usd_per_gb: String,
    /// And for a request.
    pub usd_per_request: String,
    /// And for these bytes with one request.
    pub usd: String,
    /// Where its breaker stands: `closed`, `open`, `half-open`.
    pub standing: String,
    /// When its rest ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_ends_in_ms: Option<u64>,
    /// Its average time to the first byte; nothing before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// What half of its first bytes of late did not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_p50_ms: Option<u64>,
    /// What 95 of 100 did not exceed; a second source is asked after one and a half times as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_p95_ms: Option<u64>,
    /// What 99 of 100 did not exceed; another is asked instead after four times as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_p99_ms: Option<u64>,
    /// Bytes per second while it delivers, averaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Of its transfers of the last 10 s, how many failed, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_percent: Option<u32>,
    /// How many transfers it may have at the same time now.
    #[serde(default)]
    pub permits: u64,
    /// Why it stands here; nothing if it would not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
