//! The API's keys, and the list of what was done with them. Of a key only the digest of its secret is kept: 256 random
//! bits need no slow hash. A lookup is one read by the digest, so it takes no longer for a secret that is nearly right.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use control_api::problem::ProblemCode;
use control_api::rest::{KeyList, KeyView, MadeKey, NewKey};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::{Fault, Json, Platform, json};
use crate::records::{Stretch, Write};
use crate::state::{keys, write};

/// What the secrets of keys begin with, so that one that leaked is recognised.
const PREFIX: &str = "weir_";
/// How many keys or deeds one list shows at most.
const LIST_LIMIT: usize = 500;

/// The key that the header shows, if it is one and its time is not over.
pub(super) async fn find(platform: &Platform, shown: &str) -> Result<Option<KeyView>, Fault> {
    let secret = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
    let Some(secret) = secret.map(|(_, secret)| secret.trim()).filter(|secret| secret.starts_with(PREFIX))
    else {
        return Ok(None);
    };
    let held = platform.state.read::<KeyView>(&keys::api_key(&id_of(secret))).await?;
    let now = platform.clock.now_unix();
    Ok(held.map(|held| held.value).filter(|key| key.expires_at.is_none_or(|ends| now < ends)))
}

fn id_of(secret: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// `POST /v1/keys`: the secret is in the answer and nowhere else.
pub(super) async fn make(
    State(platform): State<Arc<Platform>>,
    Json(new): Json<NewKey>,
) -> Result<Response, Fault> {
    let now = platform.clock.now_unix();
    if new.expires_at.is_some_and(|ends| ends <= now) {
        return Err(Fault::invalid("expires_at lies in the past"));
    }
    let mut bytes = [0; 32];
    platform.entropy.fill(&mut bytes).map_err(|e| Fault::internal(&e))?;
    let secret = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes));
    let key = KeyView {
        id: id_of(&secret),
        name: new.name,
        role: new.role,
        created_at: now,
        expires_at: new.expires_at,
    };
    platform.state.commit(&[write(keys::api_key(&key.id), 0, &key)?]).await?;
    tracing::info!(key = key.id, name = %key.name, role = key.role.as_str(), "key made");
    Ok(json(StatusCode::CREATED, &MadeKey { key, secret }))
}

/// Where a list begins and how long it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIST_LIMIT).clamp(1, LIST_LIMIT)
    }
}

/// `GET /v1/keys[?after=<id>&limit=<n>]`.
pub(super) async fn list(
    State(platform): State<Arc<Platform>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(page) = page.map_err(|e| Fault::invalid(e.body_text()))?;
    let stretch = Stretch { after: page.after.as_deref(), ..Stretch::new(keys::API_KEYS, "", page.limit()) };
    let held = platform.state.read_stretch::<KeyView>(stretch).await?;
    Ok(json(StatusCode::OK, &KeyList { keys: held.into_iter().map(|held| held.value).collect() }))
}

/// `DELETE /v1/keys/{id}`: from the next request on the key opens nothing.
pub(super) async fn remove(
    State(platform): State<Arc<Platform>>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let missing = || Fault::new(ProblemCode::NoSuchKey, format!("key {id:.80}"));
    if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(missing());
    }
    let key = keys::api_key(&id);
    let held = platform.state.read::<KeyView>(&key).await?.ok_or_else(missing)?;
    platform.state.commit(&[Write::Remove(key, held.version)]).await?;
    tracing::info!(key = id, name = %held.value.name, "key removed");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Something that was done, or tried: it is written down before.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Deed {
    at: u64,
    caller: String,
    method: String,
    path: String,
    request: String,
}

/// Writes down what is about to be done.
pub(super) async fn note(
    platform: &Platform,
    caller: &str,
    method: &Method,
    path: &str,
    request: &str,
) -> Result<(), Fault> {
    let at = platform.clock.now_unix();
    // The caller may choose the request's id, and choose one twice.
    let own = crate::seams::random_id(platform.entropy.as_ref()).map_err(|e| Fault::internal(&e))?;
    let deed = Deed {
        at,
        caller: caller.to_owned(),
        method: method.to_string(),
        path: path.to_owned(),
        request: request.to_owned(),
    };
    Ok(platform.state.commit(&[write(keys::deed(at, &own), 0, &deed)?]).await?)
}

/// `GET /v1/deeds/{day}[?after=<place>&limit=<n>]`: what was done on this day, counted from 1970, oldest first.
pub(super) async fn deeds(
    State(platform): State<Arc<Platform>>,
    day: Result<Path<u64>, PathRejection>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Fault> {
    let Path(day) = day.map_err(|e| Fault::invalid(e.body_text()))?;
    let Query(page) = page.map_err(|e| Fault::invalid(e.body_text()))?;
    let partition = keys::deeds(day);
    let stretch = Stretch { after: page.after.as_deref(), ..Stretch::new(&partition, "", page.limit()) };
    let held = platform.state.read_stretch::<Deed>(stretch).await?;
    let line = |held: &crate::state::Held<Deed>| {
        serde_json::json!({ "place": held.place, "at": held.value.at, "caller": held.value.caller,
            "method": held.value.method, "path": held.value.path, "request": held.value.request })
    };
    let deeds: Vec<_> = held.iter().map(line).collect();
    Ok(json(StatusCode::OK, &serde_json::json!({ "deeds": deeds })))
}
