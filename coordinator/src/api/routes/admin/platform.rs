//! `/api/admin/tiers`, `hosts`, `apps` and `audit`.

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use buddo_shared::api::admin::{
    AddTier, AdminAccountList, AdminAct, AdminActList, AdminApp, AdminAppEnvelope, AdminAppList,
    AdminHost, AdminHostEnvelope, AdminHostList, AdminTierEnvelope, AdminTierList, ChangeTier,
};
use buddo_shared::api::auth::Message;
use http::{HeaderMap, StatusCode};

use super::{AdminPrincipal, REFUSED, accounts, after_number, wire};
use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::Listing;
use crate::api::problem::{self, ApiError};
use crate::service::admin;
use crate::service::hosts::join;
use crate::store::StoreError;
use crate::store::contract::{AdminActRow, Client, Host, Load};

pub(super) type Answer<T> = Result<Json<T>, ApiError>;
pub(super) type Name = Result<Path<String>, PathRejection>;

pub(super) fn name(path: Name) -> Result<String, ApiError> {
    let absent = "nothing has this name; list what exists";
    let Path(name) = path.map_err(|_| ApiError::new(problem::NOT_FOUND, absent))?;
    Ok(name)
}

/// The tiers, whole
///
/// With what operators are not shown, such as tiers that are offered no more.
#[utoipa::path(
    get,
    path = "/api/admin/tiers",
    operation_id = "admin_tiers",
    tag = "admin",
    security(("login" = [])),
    responses(
        (status = 200, body = AdminTierList, description = "Cheapest first"),
        (status = 403, description = REFUSED),
    )
)]
pub(super) async fn tiers(AdminPrincipal(context): AdminPrincipal) -> Answer<AdminTierList> {
    let tiers = admin::tiers(&context).await?;
    Ok(Json(AdminTierList { tiers: tiers.into_iter().map(wire::tier).collect() }))
}

/// Add a tier
///
/// `monthly_cost_points` or `monthly_cost_sats` is wanted, by what it is paid in.
#[utoipa::path(
    post,
    path = "/api/admin/tiers",
    operation_id = "add_tier",
    tag = "admin",
    security(("login" = [])),
    request_body = AddTier,
    responses(
        (status = 201, body = AdminTierEnvelope, description = "The tier"),
        (status = 403, description = REFUSED),
    )
)]
pub(super) async fn add_tier(
    AdminPrincipal(context): AdminPrincipal,
    ApiJson(request): ApiJson<AddTier>,
) -> Result<(StatusCode, Json<AdminTierEnvelope>), ApiError> {
    let tier = wire::tier(admin::add_tier(&context, wire::new_tier(request)?).await?);
    Ok((StatusCode::CREATED, Json(AdminTierEnvelope { tier })))
}

/// Change a tier
///
/// Fields that are absent stay as they are.
#[utoipa::path(
    patch,
    path = "/api/admin/tiers/{slug}",
    operation_id = "change_tier",
    tag = "admin",
    security(("login" = [])),
    params(("slug" = String, Path, description = "Tier slug")),
    request_body = ChangeTier,
    responses(
        (status = 200, body = AdminTierEnvelope, description = "The tier; deployments that are there keep their limits"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`tier_not_found`"),
    )
)]
pub(super) async fn change_tier(
    AdminPrincipal(context): AdminPrincipal,
    slug: Name,
    ApiJson(request): ApiJson<ChangeTier>,
) -> Answer<AdminTierEnvelope> {
    let change = wire::tier_change(request);
    let tier = admin::change_tier(&context, &name(slug)?, change).await?;
    Ok(Json(AdminTierEnvelope { tier: wire::tier(tier) }))
}

/// The accounts that are allowed a tier
///
/// Where it is not open to all.
#[utoipa::path(
    get,
    path = "/api/admin/tiers/{slug}/accounts",
    operation_id = "tier_accounts",
    tag = "admin",
    security(("login" = [])),
    params(("slug" = String, Path, description = "Tier slug"), Listing),
    responses(
        (status = 200, body = AdminAccountList, description = "By registration number"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`tier_not_found`"),
    )
)]
pub(super) async fn tier_accounts(
    AdminPrincipal(context): AdminPrincipal,
    slug: Name,
    listing: Listing,
) -> Result<(HeaderMap, Json<AdminAccountList>), ApiError> {
    let (limit, after) = (listing.limit()?, after_number(&listing)?.unwrap_or(0));
    let (found, more) = admin::tier_accounts(&context, &name(slug)?, after, limit).await?;
    let headers = match found.last() {
        Some(last) if more => listing.next(&last.registration_number.to_string())?,
        _ => HeaderMap::new(),
    };
    let accounts = found.into_iter().map(accounts::view).collect();
    Ok((headers, Json(AdminAccountList { accounts })))
}

type TierAndAccount = Result<Path<(String, String)>, PathRejection>;

fn tier_and_account(path: TierAndAccount) -> Result<(String, String), ApiError> {
    let absent = "nothing has this name; list what exists";
    let Path(names) = path.map_err(|_| ApiError::new(problem::NOT_FOUND, absent))?;
    Ok(names)
}

/// Let an account deploy on a tier that is not open to all
///
/// By the account's id or mail address. It may already.
#[utoipa::path(
    put,
    path = "/api/admin/tiers/{slug}/accounts/{id}",
    operation_id = "allow_tier",
    tag = "admin",
    security(("login" = [])),
    params(
        ("slug" = String, Path, description = "Tier slug"),
        ("id" = String, Path, description = "Account id or mail address"),
    ),
    responses(
        (status = 200, body = Message, description = "It may, and so may those who deploy for its organisations"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`tier_not_found`, `not_found`"),
        (status = 409, description = "`conflict`: it may already"),
    )
)]
pub(super) async fn allow_tier(
    AdminPrincipal(context): AdminPrincipal,
    path: TierAndAccount,
) -> Answer<Message> {
    let (slug, account) = tier_and_account(path)?;
    let account = admin::allow_tier(&context, &slug, &account).await?;
    Ok(Json(Message { message: format!("{} may deploy on {slug}", account.username) }))
}

/// Let an account no longer deploy on a tier that is not open to all
///
/// What runs goes on; it can be stopped, but not restarted.
#[utoipa::path(
    delete,
    path = "/api/admin/tiers/{slug}/accounts/{id}",
    operation_id = "deny_tier",
    tag = "admin",
    security(("login" = [])),
    params(
        ("slug" = String, Path, description = "Tier slug"),
        ("id" = String, Path, description = "Account id or mail address"),
    ),
    responses(
        (status = 200, body = Message, description = "It may not"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`tier_not_found`, `not_found`"),
        (status = 409, description = "`conflict`: it may not already"),
    )
)]
pub(super) async fn deny_tier(
    AdminPrincipal(context): AdminPrincipal,
    path: TierAndAccount,
) -> Answer<Message> {
    let (slug, account) = tier_and_account(path)?;
    let account = admin::deny_tier(&context, &slug, &account).await?;
    Ok(Json(Message {
        message: format!("{} may not deploy on {slug} any longer", account.username),
    }))
}

pub(super) fn host_view(host: Host, load: Load) -> AdminHost {
    let mut warnings = join::doubts(&host);
    warnings.extend(host.status.iter().flat_map(|status| status.warnings.iter().cloned()));
    AdminHost {
        id: host.id.to_string(),
        name: host.name,
        address: host.address,
        unreachable_since: host.unreachable_since,
        last_seen: host.last_seen,
        refusal: host.refusal,
        locked_at: host.identity.locked_at,
        drained_at: host.identity.drained_at,
        reserved_mb: load.reserved_mb,
        memory_mb: host.status.map(|status| status.memory_mb),
        max_memory_mb: host.max_memory_mb,
        warnings,
    }
}

/// The hosts
///
/// With what each reported last: versions, room, warnings, and since when it cannot be reached.
#[utoipa::path(
    get,
    path = "/api/admin/hosts",
    operation_id = "admin_hosts",
    tag = "admin",
    security(("login" = [])),
    responses(
        (status = 200, body = AdminHostList, description = "By name"),
        (status = 403, description = REFUSED),
    )
)]
pub(super) async fn hosts(AdminPrincipal(context): AdminPrincipal) -> Answer<AdminHostList> {
    let hosts = admin::hosts(&context).await?.into_iter();
    Ok(Json(AdminHostList { hosts: hosts.map(|(host, load)| host_view(host, load)).collect() }))
}

/// Let a host get no further deployments
///
/// What runs there runs on, and is restarted there.
#[utoipa::path(
    post,
    path = "/api/admin/hosts/{name}/drain",
    operation_id = "drain_host",
    tag = "admin",
    security(("login" = [])),
    params(("name" = String, Path, description = "Name of the host")),
    responses(
        (status = 200, body = AdminHostEnvelope, description = "The host; the deployments that it has stay"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn drain(
    AdminPrincipal(context): AdminPrincipal,
    host: Name,
) -> Answer<AdminHostEnvelope> {
    let host = admin::drain(&context, &name(host)?).await?;
    Ok(Json(AdminHostEnvelope { host: with_load(&context, host).await? }))
}

/// Let a host get deployments again
///
/// Takes a drain back.
#[utoipa::path(
    post,
    path = "/api/admin/hosts/{name}/undrain",
    operation_id = "undrain_host",
    tag = "admin",
    security(("login" = [])),
    params(("name" = String, Path, description = "Name of the host")),
    responses(
        (status = 200, body = AdminHostEnvelope, description = "The host"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn undrain(
    AdminPrincipal(context): AdminPrincipal,
    host: Name,
) -> Answer<AdminHostEnvelope> {
    let host = admin::undrain(&context, &name(host)?).await?;
    Ok(Json(AdminHostEnvelope { host: with_load(&context, host).await? }))
}

pub(super) async fn with_load(
    context: &admin::AdminContext,
    host: Host,
) -> Result<AdminHost, StoreError> {
    let id = host.id;
    let load = context.store.read(move |tables| tables.load(id)).await?;
    Ok(host_view(host, load))
}

/// Take a host off the platform
///
/// It can connect no more. Its deployments have to be gone first.
#[utoipa::path(
    delete,
    path = "/api/admin/hosts/{name}",
    operation_id = "remove_host",
    tag = "admin",
    security(("login" = [])),
    params(("name" = String, Path, description = "Name of the host")),
    responses(
        (status = 200, body = Message, description = "It is no longer a host"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`conflict`: it has deployments"),
    )
)]
pub(super) async fn remove_host(
    AdminPrincipal(context): AdminPrincipal,
    host: Name,
) -> Answer<Message> {
    let host = name(host)?;
    admin::remove_host(&context, &host).await?;
    let message = format!("{host} is no longer a host of this platform; switch its agent off");
    Ok(Json(Message { message }))
}

fn app_view(client: Client) -> AdminApp {
    AdminApp {
        client_id: client.client_id,
        app_name: client.name,
        owner_id: client.owner.map(|owner| owner.to_string()),
        is_approved: client.is_approved,
        scopes: client.scopes.words(),
        redirect_uris: client.redirect_uris.iter().map(|uri| uri.as_str().to_owned()).collect(),
        website_url: client.website_url,
        inserted_at: client.created_at,
    }
}

/// OAuth apps
///
/// All registered apps with their state, whose they are and what they may ask for.
#[utoipa::path(
    get,
    path = "/api/admin/apps",
    operation_id = "admin_apps",
    tag = "admin",
    security(("login" = [])),
    params(Listing),
    responses(
        (status = 200, body = AdminAppList, description = "By client id"),
        (status = 403, description = REFUSED),
    )
)]
pub(super) async fn apps(
    AdminPrincipal(context): AdminPrincipal,
    listing: Listing,
) -> Result<(HeaderMap, Json<AdminAppList>), ApiError> {
    let (limit, after) = (listing.limit()?, listing.after()?.unwrap_or_default());
    let (found, more) = admin::clients(&context, after, limit).await?;
    let headers = match found.last() {
        Some(last) if more => listing.next(&last.client_id)?,
        _ => HeaderMap::new(),
    };
    Ok((headers, Json(AdminAppList { apps: found.into_iter().map(app_view).collect() })))
}

/// Let an app serve others than its owner
///
/// Until then nobody but its owner can allow it anything.
#[utoipa::path(
    post,
    path = "/api/admin/apps/{client_id}/approve",
    operation_id = "approve_app",
    tag = "admin",
    security(("login" = [])),
    params(("client_id" = String, Path, description = "The app's client id")),
    responses(
        (status = 200, body = AdminAppEnvelope, description = "The app"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn approve(
    AdminPrincipal(context): AdminPrincipal,
    app: Name,
) -> Answer<AdminAppEnvelope> {
    let client = admin::approve_client(&context, &name(app)?).await?;
    Ok(Json(AdminAppEnvelope { app: app_view(client) }))
}

/// Let an app serve its owner alone
///
/// What others allowed to it ends at once; its owner can go on with it.
#[utoipa::path(
    post,
    path = "/api/admin/apps/{client_id}/reject",
    operation_id = "reject_app",
    tag = "admin",
    security(("login" = [])),
    params(("client_id" = String, Path, description = "The app's client id")),
    responses(
        (status = 200, body = AdminAppEnvelope, description = "The app; what others than its owner allowed to it has ended"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn reject(
    AdminPrincipal(context): AdminPrincipal,
    app: Name,
) -> Answer<AdminAppEnvelope> {
    let client = admin::reject_client(&context, &name(app)?).await?;
    Ok(Json(AdminAppEnvelope { app: app_view(client) }))
}

/// What administrators and the platform did
///
/// From the audit log of administration, page by page. No secret stands in it.
#[utoipa::path(
    get,
    path = "/api/admin/audit",
    operation_id = "admin_audit",
    tag = "admin",
    security(("login" = [])),
    params(Listing),
    responses(
        (status = 200, body = AdminActList, description = "Newest first"),
        (status = 403, description = REFUSED),
    )
)]
pub(super) async fn audit(
    AdminPrincipal(context): AdminPrincipal,
    listing: Listing,
) -> Result<(HeaderMap, Json<AdminActList>), ApiError> {
    let (limit, before) = (listing.limit()?, after_number(&listing)?);
    let rows: Result<Vec<AdminActRow>, StoreError> =
        context.store.read(move |tables| tables.admin_acts(before, limit.saturating_add(1))).await;
    let mut rows = rows?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let headers = match rows.last() {
        Some(last) if more => listing.next(&last.seq.to_string())?,
        _ => HeaderMap::new(),
    };
    let act = |AdminActRow { seq, action, actor, at, details }| AdminAct {
        number: seq,
        action,
        actor,
        inserted_at: at,
        details,
    };
    Ok((headers, Json(AdminActList { acts: rows.into_iter().map(act).collect() })))
}
