//! What an account's owner does to it: `/api/auth/*` beside the published endpoints.
//!
//! Whatever an intruder with a stolen token must not do wants the password once more, and a
//! one-time code where the account has them.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use buddo_shared::api::account::{
    Activity, ChangeEmail, ChangePassword, ConfirmEmailChange, ConfirmTotp, ForgotPassword,
    Reauthentication, RecoveryCodes, ResetPassword, SessionList, TotpEnrolment,
};
use buddo_shared::api::auth::Message;
use http::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::auth::NO_STORE;
use super::caller::CallerOf;
use super::json::ApiJson;
use super::pages::{email_change, reset};
use super::principal::SessionPrincipal;
use super::problem::{self, ApiError};
use super::rate_limit::{Limit, by_address};
use crate::service::accounts::{self, Caller, Repeated};
use crate::state::AppState;

/// The endpoints, and the pages that mails link to.
pub fn routes(state: &AppState) -> Router<AppState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    let public = || limit(Limit::Public);
    let own = Router::new()
        .route("/api/auth/change-password", post(change_password))
        .route("/api/auth/change-email", post(change_email))
        .route("/api/auth/totp/enroll", post(enroll))
        .route("/api/auth/totp/confirm", post(confirm_totp))
        .route("/api/auth/totp/disable", post(disable))
        .route("/api/auth/totp/recovery-codes", post(renew_codes))
        .route("/api/auth/sessions", get(sessions).delete(revoke_others))
        .route("/api/auth/sessions/{id}", delete(revoke))
        .route("/api/auth/logout", post(log_out))
        .route("/api/auth/activity", get(activity))
        .route("/api/auth/delete-account", post(delete_account));
    let reset_page = get(reset::show).post(reset::choose).route_layer(public());
    let email_page = get(email_change::show).post(email_change::confirm).route_layer(public());
    let forgot = post(forgot_password).route_layer(limit(Limit::ForgotPassword));
    let confirm = post(confirm_email_change).route_layer(public());
    Router::new()
        .route("/api/auth/forgot-password", forgot)
        .route("/api/auth/reset-password", post(reset_password).route_layer(public()))
        .route("/api/auth/confirm-email-change", confirm)
        .route("/reset-password", reset_page)
        .route("/confirm-email-change", email_page)
        .merge(own)
}

type Answer<T> = Result<Json<T>, ApiError>;
/// An answer that holds a secret.
type Shown<T> = Result<([(HeaderName, HeaderValue); 1], Json<T>), ApiError>;

fn message(text: impl Into<String>) -> Json<Message> {
    Json(Message { message: text.into() })
}

fn repeated(request: Reauthentication, caller: Caller) -> Repeated {
    let Reauthentication { password, totp_code } = request;
    Repeated { password, totp_code, caller }
}

async fn forgot_password(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ForgotPassword>,
) -> Answer<Message> {
    accounts::forgot_password(&state, &request.email).await?;
    Ok(message("If an account has this address, a mail with a link is on its way to it"))
}

async fn reset_password(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ResetPassword>,
) -> Answer<Message> {
    accounts::reset_password(&state, request.token.expose(), request.password).await?;
    Ok(message("Password changed; every session and token has ended"))
}

async fn change_password(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<ChangePassword>,
) -> Answer<Message> {
    let ChangePassword { current_password: password, new_password, totp_code } = request;
    let repeated = Repeated { password, totp_code, caller };
    accounts::change_password(&state, session, repeated, new_password).await?;
    Ok(message("Password changed; every other session has ended"))
}

async fn change_email(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<ChangeEmail>,
) -> Answer<Message> {
    let ChangeEmail { email, password, totp_code } = request;
    let repeated = Repeated { password, totp_code, caller };
    accounts::change_email(&state, session, repeated, &email).await?;
    Ok(message("A mail with a link is on its way to the new address"))
}

async fn confirm_email_change(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ConfirmEmailChange>,
) -> Answer<Message> {
    accounts::confirm_email_change(&state, request.token.expose()).await?;
    Ok(message("Email address changed"))
}

async fn enroll(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Shown<TotpEnrolment> {
    let shown = accounts::enroll_totp(&state, session, repeated(request, caller)).await?;
    Ok((NO_STORE, Json(shown)))
}

async fn confirm_totp(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<ConfirmTotp>,
) -> Shown<RecoveryCodes> {
    let codes = accounts::confirm_totp(&state, session, request.code).await?;
    Ok((NO_STORE, Json(codes)))
}

async fn disable(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Answer<Message> {
    accounts::disable_totp(&state, session, repeated(request, caller)).await?;
    Ok(message("One-time codes are disabled"))
}

async fn renew_codes(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Shown<RecoveryCodes> {
    let codes = accounts::renew_recovery_codes(&state, session, repeated(request, caller)).await?;
    Ok((NO_STORE, Json(codes)))
}

async fn sessions(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<SessionList> {
    Ok(Json(accounts::sessions(&state, &session).await?))
}

async fn revoke(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    id: Result<Path<Uuid>, PathRejection>,
) -> Answer<Message> {
    let absent = || {
        let detail = "there is no such session; GET /api/auth/sessions lists them";
        ApiError::new(problem::NOT_FOUND, detail)
    };
    let Path(id) = id.map_err(|_| absent())?;
    accounts::revoke_session(&state, &session, id).await?;
    Ok(message("Session ended"))
}

async fn revoke_others(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<Message> {
    let ended = accounts::revoke_other_sessions(&state, &session).await?;
    Ok(message(format!("{ended} other sessions ended")))
}

async fn log_out(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<Message> {
    accounts::revoke_session(&state, &session, session.id).await?;
    Ok(message("Logged out"))
}

async fn activity(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<Activity> {
    Ok(Json(accounts::activity(&state, session.account.id).await?))
}

async fn delete_account(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Answer<Message> {
    accounts::delete_account(&state, session, repeated(request, caller)).await?;
    Ok(message("Account deleted; its deployments are destroyed"))
}
