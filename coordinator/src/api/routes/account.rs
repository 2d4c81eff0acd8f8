//! Self-service for an account's owner: `/api/auth/*` beyond the published endpoints.
//!
//! Anything that an intruder with a stolen token must not do requires the password again, and a
//! one-time code if the account has them enabled.

mod wire;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Json, middleware};
use buddo_shared::api::account::{
    Activity, ChangeEmail, ChangePassword, ConfirmEmailChange, ConfirmTotp, ForgotPassword,
    Reauthentication, RecoveryCodes, ResetPassword, SessionList, TotpEnrolment,
};
use buddo_shared::api::auth::Message;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::{Listing, MOST};
use crate::api::extract::principal::SessionPrincipal;
use crate::api::middleware::rate_limit::by_address;
use crate::api::pages::{email_change, reset};
use crate::api::problem::{self, ApiError};
use crate::api::routes::auth::NO_STORE;
use crate::api::state::ApiState;
use crate::limits::Limit;
use crate::service::accounts::{self, Others, Repeated};
use crate::state::AppState;

/// The endpoints, and the pages that mails link to.
pub fn routes(state: &AppState) -> OpenApiRouter<ApiState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    let public = || limit(Limit::Public);
    let own = OpenApiRouter::new()
        .routes(routes!(change_password))
        .routes(routes!(change_email))
        .routes(routes!(enroll))
        .routes(routes!(confirm_totp))
        .routes(routes!(disable))
        .routes(routes!(renew_codes))
        .routes(routes!(sessions, revoke_others))
        .routes(routes!(revoke))
        .routes(routes!(log_out))
        .routes(routes!(activity))
        .routes(routes!(delete_account));
    OpenApiRouter::new()
        .routes(routes!(forgot_password).map(|r| r.route_layer(limit(Limit::ForgotPassword))))
        .routes(routes!(reset_password).map(|r| r.route_layer(public())))
        .routes(routes!(confirm_email_change).map(|r| r.route_layer(public())))
        .routes(routes!(reset::show, reset::choose).map(|r| r.route_layer(public())))
        .routes(routes!(email_change::show, email_change::confirm).map(|r| r.route_layer(public())))
        .merge(own)
}

type Answer<T> = Result<Json<T>, ApiError>;
/// An answer that holds a secret.
type Shown<T> = Result<([(HeaderName, HeaderValue); 1], Json<T>), ApiError>;

fn message(text: impl Into<String>) -> Json<Message> {
    Json(Message { message: text.into() })
}

fn repeated(request: Reauthentication) -> Repeated {
    let Reauthentication { password, totp_code } = request;
    Repeated { password, totp_code }
}

/// Ask for a mail by which a new password can be chosen
///
/// The answer is the same for an address that nobody has. The link in the mail works once, for one
/// hour.
#[utoipa::path(
    post,
    path = "/api/auth/forgot-password",
    tag = "accounts",
    request_body = ForgotPassword,
    responses((status = 200, body = Message, description = "Whether anybody has the address or not"))
)]
async fn forgot_password(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ForgotPassword>,
) -> Answer<Message> {
    accounts::forgot_password(&state, &request.email).await?;
    Ok(message("If an account has this address, a mail with a link is on its way to it"))
}

/// Choose a new password by the token of a mail
///
/// The token is the one that was mailed. One-time codes stay enabled.
#[utoipa::path(
    post,
    path = "/api/auth/reset-password",
    tag = "accounts",
    request_body = ResetPassword,
    responses(
        (status = 200, body = Message, description = "Every session and token has ended"),
        (status = 400, description = "`invalid_link`"),
    )
)]
async fn reset_password(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ResetPassword>,
) -> Answer<Message> {
    accounts::reset_password(&state, request.token.expose(), request.password).await?;
    Ok(message("Password changed; every session and token has ended"))
}

/// Change the password
///
/// It takes the password of now, and a one-time code where the account has them.
#[utoipa::path(
    post,
    path = "/api/auth/change-password",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = ChangePassword,
    responses(
        (status = 200, body = Message, description = "Every other session has ended, and so have API keys and what apps were allowed, unless they are to be kept"),
        (status = 403, description = "`reauthentication_failed`"),
    )
)]
async fn change_password(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<ChangePassword>,
) -> Answer<Message> {
    let ChangePassword { current_password: password, new_password, totp_code, keep_keys_and_apps } =
        request;
    let repeated = Repeated { password, totp_code };
    let others = if keep_keys_and_apps { Others::Stay } else { Others::End };
    accounts::change_password(&state, session, repeated, new_password, others).await?;
    Ok(message(match others {
        Others::Stay => "Password changed; every other session has ended",
        Others::End => "Password changed; every other session, API key and app's access has ended",
    }))
}

/// Change the mail address
///
/// Nothing changes until the link in the mail to the new address is opened.
#[utoipa::path(
    post,
    path = "/api/auth/change-email",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = ChangeEmail,
    responses(
        (status = 200, body = Message, description = "A mail with a link is on its way to the new address"),
        (status = 403, description = "`reauthentication_failed`"),
    )
)]
async fn change_email(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<ChangeEmail>,
) -> Answer<Message> {
    let ChangeEmail { email, password, totp_code } = request;
    let repeated = Repeated { password, totp_code };
    accounts::change_email(&state, session, repeated, &email).await?;
    Ok(message("A mail with a link is on its way to the new address"))
}

/// Confirm a new mail address by the token of its mail
///
/// The token is the one that was mailed to the new address; it works once.
#[utoipa::path(
    post,
    path = "/api/auth/confirm-email-change",
    tag = "accounts",
    request_body = ConfirmEmailChange,
    responses(
        (status = 200, body = Message, description = "The new address is the account's"),
        (status = 400, description = "`invalid_link`"),
    )
)]
async fn confirm_email_change(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ConfirmEmailChange>,
) -> Answer<Message> {
    accounts::confirm_email_change(&state, request.token.expose()).await?;
    Ok(message("Email address changed"))
}

/// Begin with one-time codes
///
/// The secret counts for nothing until a code of it is confirmed.
#[utoipa::path(
    post,
    path = "/api/auth/totp/enroll",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = Reauthentication,
    responses(
        (status = 200, body = TotpEnrolment, description = "The secret, shown this once"),
        (status = 403, description = "`reauthentication_failed`, `email_unverified`"),
        (status = 409, description = "`totp_already_enabled`"),
    )
)]
async fn enroll(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Shown<TotpEnrolment> {
    let enrolment = accounts::enroll_totp(&state, session, repeated(request)).await?;
    Ok((NO_STORE, Json(wire::enrolment(enrolment))))
}

/// Enable one-time codes by one of them
///
/// From then on a login takes a code, or one of the recovery codes in the answer.
#[utoipa::path(
    post,
    path = "/api/auth/totp/confirm",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = ConfirmTotp,
    responses(
        (status = 200, body = RecoveryCodes, description = "Recovery codes, shown this once"),
        (status = 409, description = "`totp_already_enabled`, `totp_not_enabled`"),
    )
)]
async fn confirm_totp(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<ConfirmTotp>,
) -> Shown<RecoveryCodes> {
    let codes = accounts::confirm_totp(&state, session, request.code).await?;
    Ok((NO_STORE, Json(wire::recovery_codes(codes))))
}

/// Disable one-time codes
///
/// It takes the password and a code, or a recovery code.
#[utoipa::path(
    post,
    path = "/api/auth/totp/disable",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = Reauthentication,
    responses(
        (status = 200, body = Message, description = "Logins no longer ask for a code"),
        (status = 403, description = "`reauthentication_failed`"),
        (status = 409, description = "`totp_not_enabled`"),
    )
)]
async fn disable(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Answer<Message> {
    accounts::disable_totp(&state, session, repeated(request)).await?;
    Ok(message("One-time codes are disabled"))
}

/// Make new recovery codes
///
/// It takes the password and a code. Each recovery code works once.
#[utoipa::path(
    post,
    path = "/api/auth/totp/recovery-codes",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = Reauthentication,
    responses(
        (status = 200, body = RecoveryCodes, description = "Ten new codes, shown this once; the old ones are void"),
        (status = 403, description = "`reauthentication_failed`"),
        (status = 409, description = "`totp_not_enabled`"),
    )
)]
async fn renew_codes(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Shown<RecoveryCodes> {
    let codes = accounts::renew_recovery_codes(&state, session, repeated(request)).await?;
    Ok((NO_STORE, Json(wire::recovery_codes(codes))))
}

/// The logins of the account
///
/// Where each came from, when it was last used, and which one asks.
#[utoipa::path(
    get,
    path = "/api/auth/sessions",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    params(Listing),
    responses((status = 200, body = SessionList, description = "Last used first"))
)]
async fn sessions(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    listing: Listing,
) -> Result<(HeaderMap, Json<SessionList>), ApiError> {
    let sessions = accounts::sessions(&state, &session).await?;
    let (headers, sessions) = listing.cut(sessions, MOST, |row| row.id.to_string())?;
    let sessions = sessions.into_iter().map(|row| wire::session(row, session.id)).collect();
    Ok((headers, Json(SessionList { sessions })))
}

/// End one session
///
/// With what the command line was given for it.
#[utoipa::path(
    delete,
    path = "/api/auth/sessions/{id}",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "Session id")),
    responses(
        (status = 200, body = Message, description = "The session has ended"),
        (status = 404, description = "`not_found`"),
    )
)]
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

/// End every other session
///
/// With what the command line was given for them.
#[utoipa::path(
    delete,
    path = "/api/auth/sessions",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    responses((status = 200, body = Message, description = "All sessions but this one have ended"))
)]
async fn revoke_others(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<Message> {
    let ended = accounts::revoke_other_sessions(&state, &session).await?;
    Ok(message(format!("{ended} other sessions ended")))
}

/// End this session
///
/// The token of this request is no longer valid. Other logins go on.
#[utoipa::path(
    post,
    path = "/api/auth/logout",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    responses((status = 200, body = Message, description = "The session has ended"))
)]
async fn log_out(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<Message> {
    accounts::revoke_session(&state, &session, session.id).await?;
    Ok(message("Logged out"))
}

/// What was done to the account
///
/// Logins, changes of credentials and the like, so that an owner notices what was not their doing.
#[utoipa::path(
    get,
    path = "/api/auth/activity",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    responses((status = 200, body = Activity, description = "The newest hundred, newest first"))
)]
async fn activity(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
) -> Answer<Activity> {
    let acts = accounts::activity(&state, session.account.id).await?;
    Ok(Json(Activity { activity: acts.into_iter().map(wire::activity).collect() }))
}

/// Delete the account
///
/// It cannot be undone.
#[utoipa::path(
    post,
    path = "/api/auth/delete-account",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    request_body = Reauthentication,
    responses(
        (status = 200, body = Message, description = "The account is gone; its deployments are destroyed"),
        (status = 403, description = "`reauthentication_failed`"),
        (status = 409, description = "`in_use`"),
    )
)]
async fn delete_account(
    State(state): State<AppState>,
    SessionPrincipal(session): SessionPrincipal,
    ApiJson(request): ApiJson<Reauthentication>,
) -> Answer<Message> {
    accounts::delete_account(&state, session, repeated(request)).await?;
    Ok(message("Account deleted; its deployments are destroyed"))
}
