//! Every route of the API: its method and path, who may use it, and whether its use is written down. The router, the
//! guard, the metrics' labels and the authorisation test are all made from this table.

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post, put};
use control_api::rest::Role;
use std::sync::Arc;

use super::{Platform, beacons, keyring, ops, orders, prices, rights, titles, watch};

/// A route.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, as the router writes it.
    pub path: &'static str,
    /// Who may, besides an admin. Of paths outside of `/v1` everybody.
    pub roles: &'static [Role],
    /// Whether its use is written down before it is done.
    pub noted: bool,
    /// What does it.
    pub handler: MethodRouter<Arc<Platform>>,
}

const ADMIN: &[Role] = &[];
const ANY: &[Role] = &[Role::Publisher, Role::Storefront, Role::Support];
const PUBLISHER: &[Role] = &[Role::Publisher];
const STOREFRONT: &[Role] = &[Role::Storefront];
const SUPPORT: &[Role] = &[Role::Support];
const VIEWERS: &[Role] = &[Role::Storefront, Role::Support];

/// All of them.
#[must_use]
pub fn table() -> Vec<Route> {
    const READ: bool = false;
    const NOTED: bool = true;
    let route = |method, path, roles, noted, handler| Route { method, path, roles, noted, handler };
    let (reads, sends, sets) = (Method::GET, Method::POST, Method::PUT);
    vec![
        route(sends.clone(), "/v1/titles", PUBLISHER, NOTED, post(titles::create)),
        route(reads.clone(), "/v1/titles", ANY, READ, get(titles::list)),
        route(reads.clone(), "/v1/titles/{title}", ANY, READ, get(titles::show)),
        route(sets, "/v1/titles/{title}/prices/{kind}", PUBLISHER, NOTED, put(prices::set)),
        route(reads.clone(), "/v1/titles/{title}/prices/{kind}", ANY, READ, get(prices::show)),
        route(sends.clone(), "/v1/purchases", STOREFRONT, READ, post(rights::purchase)),
        route(reads.clone(), "/v1/viewers/{viewer}/entitlements", VIEWERS, READ, get(rights::entitlements)),
        route(sends.clone(), REFUND, SUPPORT, NOTED, post(orders::refund)),
        route(sends.clone(), EVENTS, SUPPORT, NOTED, post(orders::tell)),
        route(reads.clone(), "/v1/viewers/{viewer}/audit", SUPPORT, READ, get(orders::audit)),
        route(reads.clone(), "/v1/viewers/{viewer}/bookmarks", VIEWERS, READ, get(beacons::bookmarks)),
        route(sends.clone(), "/v1/sessions", STOREFRONT, READ, post(rights::session)),
        route(sends.clone(), "/v1/sessions/{session}/beacons", STOREFRONT, READ, post(beacons::beacon)),
        route(sends, "/v1/keys", ADMIN, NOTED, post(keyring::make)),
        route(reads.clone(), "/v1/keys", ADMIN, READ, get(keyring::list)),
        route(Method::DELETE, "/v1/keys/{id}", ADMIN, NOTED, delete(keyring::remove)),
        route(reads.clone(), "/v1/deeds/{day}", ADMIN, READ, get(keyring::deeds)),
        route(reads.clone(), "/watch", ADMIN, READ, get(watch::page)),
        route(reads.clone(), "/watch/hls.js", ADMIN, READ, get(watch::player)),
        route(reads.clone(), "/healthz", ADMIN, READ, get(ops::healthz)),
        route(reads.clone(), "/readyz", ADMIN, READ, get(ops::readyz)),
        route(reads, "/metrics", ADMIN, READ, get(ops::metrics)),
    ]
}

const REFUND: &str = "/v1/viewers/{viewer}/entitlements/{entitlement}/refund";
const EVENTS: &str = "/v1/viewers/{viewer}/entitlements/{entitlement}/events";

/// What the guard needs of a route.
struct Rule {
    method: Method,
    path: &'static str,
    roles: &'static [Role],
    noted: bool,
}

/// The table without its handlers, made once.
static RULES: std::sync::LazyLock<Vec<Rule>> = std::sync::LazyLock::new(|| {
    let rule = |Route { method, path, roles, noted, .. }| Rule { method, path, roles, noted };
    table().into_iter().map(rule).collect()
});

/// Who may use a route, and whether that is written down; `None` if there is none. HEAD is GET without the body.
pub(super) fn find(method: &Method, path: &str) -> Option<(&'static [Role], bool)> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let rule = RULES.iter().find(|rule| rule.method == *method && rule.path == path)?;
    Some((rule.roles, rule.noted))
}

/// The closed list of label values.
pub(super) fn label(matched: Option<&str>) -> &'static str {
    RULES.iter().find(|rule| Some(rule.path) == matched).map_or("none", |rule| rule.path)
}
