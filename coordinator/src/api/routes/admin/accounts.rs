//! `/api/admin/accounts`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use buddo_shared::api::admin::{AdminAccount, AdminAccountEnvelope, AdminAccountList, Suspend};
use http::HeaderMap;
use serde::Deserialize;

use super::{AdminPrincipal, REFUSED, after_number};
use crate::api::extract::form::ApiQuery;
use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::Listing;
use crate::api::problem::ApiError;
use crate::service::admin::{self, AdminError, Changed};
use crate::state::AppState;
use crate::store::contract::Account;

type Answer = Result<Json<AdminAccountEnvelope>, ApiError>;
type Name = Result<Path<String>, PathRejection>;

pub(super) fn view(account: Account) -> AdminAccount {
    let (suspended_at, suspended_for) = match account.suspended {
        Some(suspension) => (Some(suspension.since), suspension.reason),
        None => (None, None),
    };
    AdminAccount {
        id: account.id.to_string(),
        registration_number: account.registration_number,
        email: account.email.to_string(),
        username: account.username.to_string(),
        tier: account.tier,
        points: account.points,
        is_admin: account.is_admin,
        email_verified: account.email_verified_at.is_some(),
        totp_enabled: account.totp_enabled,
        suspended_at,
        suspended_for,
        inserted_at: account.created_at,
        deployments: None,
    }
}

fn name(path: Name) -> Result<String, ApiError> {
    let Path(name) = path.map_err(|_| AdminError::NoAccount(String::new()))?;
    Ok(name)
}

fn changed(state: &AppState, done: Result<(Account, Changed), AdminError>) -> Answer {
    let (account, changed) = done?;
    admin::announce(state, &changed);
    state.mail_due.notify_one();
    Ok(Json(AdminAccountEnvelope { account: view(account) }))
}

/// Which accounts are meant.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// A part of the mail address or the username, in any case; all accounts if absent.
    #[param(nullable = false, example = "example.com")]
    q: Option<String>,
}

/// Accounts
///
/// All of them, whoever they are, page by page. `?limit=` and the `Link` of the answer lead on.
#[utoipa::path(
    get,
    path = "/api/admin/accounts",
    operation_id = "admin_accounts",
    tag = "admin",
    security(("login" = [])),
    params(Search, Listing),
    responses(
        (status = 200, body = AdminAccountList, description = "By registration number"),
        (status = 403, description = REFUSED),
    )
)]
pub(super) async fn list(
    AdminPrincipal(context): AdminPrincipal,
    ApiQuery(Search { q }): ApiQuery<Search>,
    listing: Listing,
) -> Result<(HeaderMap, Json<AdminAccountList>), ApiError> {
    let listing = listing.keeping("q", q.clone());
    let (limit, after) = (listing.limit()?, after_number(&listing)?.unwrap_or(0));
    let (found, more) = admin::accounts(&context, after, limit, q).await?;
    let headers = match found.last() {
        Some(last) if more => listing.next(&last.registration_number.to_string())?,
        _ => HeaderMap::new(),
    };
    Ok((headers, Json(AdminAccountList { accounts: found.into_iter().map(view).collect() })))
}

/// One account
///
/// By its id or its mail address.
#[utoipa::path(
    get,
    path = "/api/admin/accounts/{id}",
    operation_id = "admin_account",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Account id or mail address")),
    responses(
        (status = 200, body = AdminAccountEnvelope, description = "The account"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn show(AdminPrincipal(context): AdminPrincipal, id: Name) -> Answer {
    let shown = admin::account(&context, &name(id)?).await?;
    let account = AdminAccount { deployments: Some(shown.deployments), ..view(shown.account) };
    Ok(Json(AdminAccountEnvelope { account }))
}

/// Suspend an account
///
/// Nobody suspends themselves. Logins, tokens and keys are refused until it is resumed, and then good again.
#[utoipa::path(
    post,
    path = "/api/admin/accounts/{id}/suspend",
    operation_id = "suspend_account",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Account id or mail address")),
    request_body = Option<Suspend>,
    responses(
        (status = 200, body = AdminAccountEnvelope, description = "The account; its deployments are parked"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`conflict`"),
    )
)]
pub(super) async fn suspend(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    id: Name,
    request: Option<ApiJson<Suspend>>,
) -> Answer {
    let ApiJson(Suspend { reason }) = request.unwrap_or_default();
    changed(&state, admin::suspend(&context, &name(id)?, reason).await)
}

/// Resume a suspended account
///
/// Ends a suspension: what the account has works again as it did before.
#[utoipa::path(
    post,
    path = "/api/admin/accounts/{id}/resume",
    operation_id = "resume_account",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Account id or mail address")),
    responses(
        (status = 200, body = AdminAccountEnvelope, description = "The account; its deployments run again"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`conflict`"),
    )
)]
pub(super) async fn resume(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    id: Name,
) -> Answer {
    changed(&state, admin::resume(&context, &name(id)?).await)
}

/// Let an account administer the platform
///
/// It administers once it logs in with a one-time code.
#[utoipa::path(
    post,
    path = "/api/admin/accounts/{id}/promote",
    operation_id = "promote_account",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Account id or mail address")),
    responses(
        (status = 200, body = AdminAccountEnvelope, description = "The account"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`conflict`"),
    )
)]
pub(super) async fn promote(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    id: Name,
) -> Answer {
    changed(&state, admin::promote(&context, &name(id)?).await)
}

/// Let an account administer no longer
///
/// It keeps what is its own. The last administrator cannot be demoted.
#[utoipa::path(
    post,
    path = "/api/admin/accounts/{id}/demote",
    operation_id = "demote_account",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Account id or mail address")),
    responses(
        (status = 200, body = AdminAccountEnvelope, description = "The account"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`conflict`"),
    )
)]
pub(super) async fn demote(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    id: Name,
) -> Answer {
    changed(&state, admin::demote(&context, &name(id)?).await)
}

/// Take one-time codes from an account that lost them
///
/// Not from an administrator's.
#[utoipa::path(
    post,
    path = "/api/admin/accounts/{id}/clear-second-factor",
    operation_id = "clear_second_factor",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Account id or mail address")),
    responses(
        (status = 200, body = AdminAccountEnvelope, description = "The account; its sessions, tokens and keys have ended"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`conflict`"),
    )
)]
pub(super) async fn clear(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    id: Name,
) -> Answer {
    changed(&state, admin::clear_second_factor(&context, &name(id)?).await)
}
