//! `/api/admin/tiers`, `hosts`, `apps` and `audit`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use buddo_shared::api::admin::{
    AddTier, AdminAct, AdminActList, AdminApp, AdminAppEnvelope, AdminAppList, AdminHost,
    AdminHostEnvelope, AdminHostList, AdminTierEnvelope, AdminTierList, ChangeTier,
};
use buddo_shared::api::auth::Message;
use http::{HeaderMap, StatusCode};

use super::{AtDesk, Listing, page};
use crate::http::json::ApiJson;
use crate::http::problem::{self, ApiError};
use crate::service::admin;
use crate::store::StoreError;
use crate::store::contract::{AdminActRow, Client, Host, Load};

type Answer<T> = Result<Json<T>, ApiError>;
type Name = Result<Path<String>, PathRejection>;

fn name(path: Name) -> Result<String, ApiError> {
    let absent = "there is nothing of this name; list what there is";
    let Path(name) = path.map_err(|_| ApiError::new(problem::NOT_FOUND, absent))?;
    Ok(name)
}

pub(super) async fn tiers(AtDesk(desk): AtDesk) -> Answer<AdminTierList> {
    let tiers = admin::tiers(&desk).await?;
    Ok(Json(AdminTierList { tiers: tiers.iter().map(admin::tier_view).collect() }))
}

pub(super) async fn add_tier(
    AtDesk(desk): AtDesk,
    ApiJson(request): ApiJson<AddTier>,
) -> Result<(StatusCode, Json<AdminTierEnvelope>), ApiError> {
    let tier = admin::tier_view(&admin::add_tier(&desk, request).await?);
    Ok((StatusCode::CREATED, Json(AdminTierEnvelope { tier })))
}

pub(super) async fn change_tier(
    AtDesk(desk): AtDesk,
    slug: Name,
    ApiJson(request): ApiJson<ChangeTier>,
) -> Answer<AdminTierEnvelope> {
    let tier = admin::change_tier(&desk, &name(slug)?, request).await?;
    Ok(Json(AdminTierEnvelope { tier: admin::tier_view(&tier) }))
}

fn host_view(host: Host, load: Load) -> AdminHost {
    AdminHost {
        id: host.id.to_string(),
        name: host.name,
        address: host.address,
        unreachable_since: host.unreachable_since,
        last_seen: host.last_seen,
        refusal: host.refusal,
        locked_at: host.bond.locked_at,
        drained_at: host.bond.drained_at,
        reserved_mb: load.reserved_mb,
        memory_mb: host.status.map(|status| status.memory_mb),
    }
}

pub(super) async fn hosts(AtDesk(desk): AtDesk) -> Answer<AdminHostList> {
    let hosts = admin::hosts(&desk).await?.into_iter();
    Ok(Json(AdminHostList { hosts: hosts.map(|(host, load)| host_view(host, load)).collect() }))
}

pub(super) async fn drain(AtDesk(desk): AtDesk, host: Name) -> Answer<AdminHostEnvelope> {
    let host = admin::drain(&desk, &name(host)?).await?;
    Ok(Json(AdminHostEnvelope { host: with_load(&desk, host).await? }))
}

pub(super) async fn undrain(AtDesk(desk): AtDesk, host: Name) -> Answer<AdminHostEnvelope> {
    let host = admin::undrain(&desk, &name(host)?).await?;
    Ok(Json(AdminHostEnvelope { host: with_load(&desk, host).await? }))
}

async fn with_load(desk: &admin::Desk, host: Host) -> Result<AdminHost, StoreError> {
    let id = host.id;
    let load = desk.store.read(move |tables| tables.load(id)).await?;
    Ok(host_view(host, load))
}

pub(super) async fn remove_host(AtDesk(desk): AtDesk, host: Name) -> Answer<Message> {
    let host = name(host)?;
    admin::remove_host(&desk, &host).await?;
    let message = format!("{host} is no host of this platform any more; switch its agent off");
    Ok(Json(Message { message }))
}

fn app_view(app: Client) -> AdminApp {
    AdminApp {
        client_id: app.client_id,
        app_name: app.name,
        owner_id: app.owner.map(|owner| owner.to_string()),
        is_approved: app.is_approved,
        scopes: app.scopes.words(),
        redirect_uris: app.redirect_uris.iter().map(|uri| uri.as_str().to_owned()).collect(),
        website_url: app.website_url,
        inserted_at: app.created_at,
    }
}

pub(super) async fn apps(
    AtDesk(desk): AtDesk,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<(HeaderMap, Json<AdminAppList>), ApiError> {
    let listing = Listing::of(query)?;
    let limit = listing.limit()?;
    let (found, more) = admin::apps(&desk, listing.after.unwrap_or_default(), limit).await?;
    let next = found.last().filter(|_| more);
    let next = next.map(|last| format!("/api/admin/apps?limit={limit}&after={}", last.client_id));
    Ok(page(next, AdminAppList { apps: found.into_iter().map(app_view).collect() }))
}

pub(super) async fn approve(AtDesk(desk): AtDesk, app: Name) -> Answer<AdminAppEnvelope> {
    let app = admin::approve_app(&desk, &name(app)?).await?;
    Ok(Json(AdminAppEnvelope { app: app_view(app) }))
}

pub(super) async fn reject(AtDesk(desk): AtDesk, app: Name) -> Answer<AdminAppEnvelope> {
    let app = admin::reject_app(&desk, &name(app)?).await?;
    Ok(Json(AdminAppEnvelope { app: app_view(app) }))
}

pub(super) async fn audit(
    AtDesk(desk): AtDesk,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<(HeaderMap, Json<AdminActList>), ApiError> {
    let listing = Listing::of(query)?;
    let (limit, before) = (listing.limit()?, listing.after_number()?);
    let rows: Result<Vec<AdminActRow>, StoreError> =
        desk.store.read(move |tables| tables.admin_acts(before, limit.saturating_add(1))).await;
    let mut rows = rows?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more);
    let next = next.map(|last| format!("/api/admin/audit?limit={limit}&after={}", last.seq));
    let act = |AdminActRow { seq, action, actor, at, details }| AdminAct {
        number: seq,
        action,
        actor,
        inserted_at: at,
        details,
    };
    Ok(page(next, AdminActList { acts: rows.into_iter().map(act).collect() }))
}
