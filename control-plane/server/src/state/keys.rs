//! Where what lies. Numbers are padded, so that the order of places is the order of numbers.

use aws_lc_rs::digest::{SHA256, digest};
use control_api::rest::EntitlementKind;
use control_api::{EntitlementId, ViewerId};
use data_encoding::HEXLOWER;
use media::{PackageId, TitleId};

use crate::records::Key;

/// Over how many partitions open orders are spread, so that none takes every purchase's writes.
pub const OPEN_SHARDS: u8 = 8;
/// The partition of the catalogue.
pub const TITLES: &str = "titles";
/// What the places of a viewer's bookmarks begin with.
pub const BOOKMARKS: &str = "bookmark/";
/// What the places of a viewer's orders begin with.
pub const ORDERS: &str = "order/";
/// What the places of a viewer's rights begin with.
pub const RIGHTS: &str = "right/";

/// A title.
#[must_use]
pub fn title(title: &TitleId) -> Key {
    Key::new(TITLES, title.as_str())
}

/// The partition of an ingest's journal.
#[must_use]
pub fn journal(package: PackageId) -> String {
    format!("ingest/{package}")
}

/// One event of an ingest's journal.
#[must_use]
pub fn event(package: PackageId, at: u64) -> Key {
    Key::new(journal(package), format!("{at:020}"))
}

/// The price of a title.
#[must_use]
pub fn price(title: &TitleId, kind: EntitlementKind) -> Key {
    Key::new("prices", format!("{title}/{}", kind.as_str()))
}

/// The partition of everything that is one viewer's.
#[must_use]
pub fn viewer(viewer: &ViewerId) -> String {
    format!("viewer/{viewer}")
}

/// An order.
#[must_use]
pub fn order(owner: &ViewerId, order: &EntitlementId) -> Key {
    Key::new(viewer(owner), format!("{ORDERS}{order}"))
}

/// A right: those to one title stand together.
#[must_use]
pub fn right(owner: &ViewerId, title: &TitleId, right: &EntitlementId) -> Key {
    Key::new(viewer(owner), format!("{RIGHTS}{title}/{right}"))
}

/// What a viewer does about a title.
#[must_use]
pub fn item(owner: &ViewerId, title: &TitleId) -> Key {
    Key::new(viewer(owner), format!("item/{title}"))
}

/// All leases of a viewer's screens.
#[must_use]
pub fn leases(owner: &ViewerId) -> Key {
    Key::new(viewer(owner), "leases")
}

/// Where a viewer stopped watching a title.
#[must_use]
pub fn bookmark(owner: &ViewerId, title: &TitleId) -> Key {
    Key::new(viewer(owner), format!("{BOOKMARKS}{title}"))
}

/// What an idempotency key of purchases was used for.
#[must_use]
pub fn purchase_key(key: &str) -> Key {
    Key::new(format!("key/purchase/{key}"), "used")
}

/// Which order a charge pays for. References may be longer than a key and hold anything: their digest is the key.
#[must_use]
pub fn payment(reference: &str) -> Key {
    let digest = digest(&SHA256, reference.as_bytes());
    Key::new(format!("payment/{}", HEXLOWER.encode(digest.as_ref())), "used")
}

/// The partition of one share of the open orders.
#[must_use]
pub fn open_shard(shard: u8) -> String {
    format!("open-orders/{shard}")
}

/// An order that waits for the payment service.
#[must_use]
pub fn open(order: &EntitlementId) -> Key {
    let sum = order.as_str().bytes().fold(0_u8, u8::wrapping_add);
    Key::new(open_shard(sum % OPEN_SHARDS), order.as_str())
}

/// The partition of the API's keys.
pub const API_KEYS: &str = "api-keys";

/// A key of the API, by the digest of its secret.
#[must_use]
pub fn api_key(digest: &str) -> Key {
    Key::new(API_KEYS, digest)
}

/// The partition of what was done with the API on one day.
#[must_use]
pub fn deeds(day: u64) -> String {
    format!("deeds/{day}")
}

/// One thing that was done: by time, then by request.
#[must_use]
pub fn deed(at: u64, request: &str) -> Key {
    Key::new(deeds(at / 86_400), format!("{at:012}/{request}"))
}

/// The partition of a viewer's audit trail.
#[must_use]
pub fn trail(viewer: &ViewerId) -> String {
    format!("audit/{viewer}")
}

/// One line of it: by time, then by order and the number of its event.
#[must_use]
pub fn audit(viewer: &ViewerId, at: u64, order: &EntitlementId, number: u32) -> Key {
    Key::new(trail(viewer), format!("{at:012}/{order}/{number:04}"))
}
