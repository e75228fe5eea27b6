//! What bytes cost. Exact integers: 1 US dollar is 10^12 picodollars, so that a byte of a 0.1 cent gigabyte
//! still has a price and sums never drift.

use serde::{Deserialize, Serialize};

/// The marginal price of one source, in picodollars. The default is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Picodollars for each byte delivered; 85 is 8.5 cents for 10^9 bytes.
    pub picodollars_per_byte: u64,
    /// Picodollars for each request, successful or not; 400,000 is 40 cents for a million.
    pub picodollars_per_request: u64,
}

impl Price {
    /// What one request for `len` bytes costs, in picodollars.
    #[must_use]
    pub fn of(self, len: u64) -> u64 {
        self.picodollars_per_byte.saturating_mul(len).saturating_add(self.picodollars_per_request)
    }
}
