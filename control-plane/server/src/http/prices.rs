//! What films cost.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use control_api::problem::ProblemCode;
use control_api::rest::{EntitlementKind, Price, PriceView};
use media::TitleId;
use serde::Deserialize;

use super::{Fault, Json, Platform, json};
use crate::seams::StateError;
use crate::state::{keys, write};

/// What a path names.
#[derive(Deserialize)]
pub(super) struct Named {
    title: TitleId,
    kind: EntitlementKind,
}

type NamedPath = Result<Path<Named>, axum::extract::rejection::PathRejection>;

/// `PUT /v1/titles/{title}/prices/{kind}`: the price of orders from now on.
pub(super) async fn set(
    State(platform): State<Arc<Platform>>,
    named: NamedPath,
    Json(price): Json<Price>,
) -> Result<Response, Fault> {
    let Path(Named { title, kind }) = named.map_err(|e| Fault::invalid(e.body_text()))?;
    if platform.catalog.get(&title).await?.is_none() {
        return Err(Fault::new(ProblemCode::NoSuchTitle, format!("title {title}")));
    }
    let key = keys::price(&title, kind);
    let version = platform.state.read::<Price>(&key).await?.map_or(0, |held| held.version);
    match platform.state.commit(&[write(key, version, &price)?]).await {
        Ok(()) => {}
        Err(StateError::Conflict(_)) => {
            return Err(Fault::new(ProblemCode::Unavailable, "somebody else sets this price now; try again"));
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(%title, kind = kind.as_str(), minor = price.minor, currency = %price.currency, "price set");
    Ok(json(StatusCode::OK, &PriceView { title, kind, price }))
}

/// `GET /v1/titles/{title}/prices/{kind}`.
pub(super) async fn show(State(platform): State<Arc<Platform>>, named: NamedPath) -> Result<Response, Fault> {
    let Path(Named { title, kind }) = named.map_err(|e| Fault::invalid(e.body_text()))?;
    match of(&platform, &title, kind).await? {
        Some(price) => Ok(json(StatusCode::OK, &PriceView { title, kind, price })),
        None => Err(Fault::new(ProblemCode::NotForSale, format!("title {title}, {}", kind.as_str()))),
    }
}

/// The price of a title, if it has one.
pub(super) async fn of(
    platform: &Platform,
    title: &TitleId,
    kind: EntitlementKind,
) -> Result<Option<Price>, Fault> {
    Ok(platform.state.read(&keys::price(title, kind)).await?.map(|held| held.value))
}
