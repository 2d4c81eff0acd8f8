//! `/api/admin/accounts`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use buddo_shared::api::admin::{AdminAccount, AdminAccountEnvelope, AdminAccountList, Suspend};
use http::HeaderMap;

use super::{AtDesk, Listing, page};
use crate::http::json::ApiJson;
use crate::http::problem::ApiError;
use crate::service::admin::{self, AdminError, Changed};
use crate::state::AppState;
use crate::store::contract::Account;

type Answer = Result<Json<AdminAccountEnvelope>, ApiError>;
type Name = Result<Path<String>, PathRejection>;

fn view(account: Account) -> AdminAccount {
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
    state.door.mail_due.notify_one();
    Ok(Json(AdminAccountEnvelope { account: view(account) }))
}

pub(super) async fn list(
    AtDesk(desk): AtDesk,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<(HeaderMap, Json<AdminAccountList>), ApiError> {
    let listing = Listing::of(query)?;
    let (limit, after) = (listing.limit()?, listing.after_number()?.unwrap_or(0));
    let (found, more) = admin::accounts(&desk, after, limit, listing.q.clone()).await?;
    let next = found.last().filter(|_| more).map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string());
        query.append_pair("after", &last.registration_number.to_string());
        if let Some(q) = &listing.q {
            query.append_pair("q", q);
        }
        format!("/api/admin/accounts?{}", query.finish())
    });
    Ok(page(next, AdminAccountList { accounts: found.into_iter().map(view).collect() }))
}

pub(super) async fn show(AtDesk(desk): AtDesk, id: Name) -> Answer {
    let shown = admin::account(&desk, &name(id)?).await?;
    let account = AdminAccount { deployments: Some(shown.deployments), ..view(shown.account) };
    Ok(Json(AdminAccountEnvelope { account }))
}

pub(super) async fn suspend(
    State(state): State<AppState>,
    AtDesk(desk): AtDesk,
    id: Name,
    request: Option<ApiJson<Suspend>>,
) -> Answer {
    let ApiJson(Suspend { reason }) = request.unwrap_or_default();
    changed(&state, admin::suspend(&desk, &name(id)?, reason).await)
}

pub(super) async fn resume(
    State(state): State<AppState>,
    AtDesk(desk): AtDesk,
    id: Name,
) -> Answer {
    changed(&state, admin::resume(&desk, &name(id)?).await)
}

pub(super) async fn promote(
    State(state): State<AppState>,
    AtDesk(desk): AtDesk,
    id: Name,
) -> Answer {
    changed(&state, admin::promote(&desk, &name(id)?).await)
}

pub(super) async fn demote(
    State(state): State<AppState>,
    AtDesk(desk): AtDesk,
    id: Name,
) -> Answer {
    changed(&state, admin::demote(&desk, &name(id)?).await)
}

pub(super) async fn clear(State(state): State<AppState>, AtDesk(desk): AtDesk, id: Name) -> Answer {
    changed(&state, admin::clear_second_factor(&desk, &name(id)?).await)
}
