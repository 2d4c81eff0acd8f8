//! `/api/auth/*`, and the page that a verification mail links to.

mod wire;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, middleware};
use buddo_shared::api::auth::{LoggedIn, Login, Me, Message, Register, Registered, VerifyEmail};
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::api::extract::caller::CallerOf;
use crate::api::extract::json::ApiJson;
use crate::api::extract::principal::LoginPrincipal;
use crate::api::middleware::rate_limit::{by_address, limited};
use crate::api::pages::{cookie, verify};
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::domain::identity::Email;
use crate::limits::{Key, Limit};
use crate::service::accounts::{self, Offered};
use crate::state::AppState;

/// The account endpoints.
pub fn routes(state: &AppState) -> OpenApiRouter<ApiState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    OpenApiRouter::new()
        .routes(routes!(register).map(|r| r.route_layer(limit(Limit::Register))))
        .routes(routes!(log_in).map(|r| r.route_layer(limit(Limit::Login))))
        .routes(routes!(verify_email).map(|r| r.route_layer(limit(Limit::Public))))
        .routes(routes!(send_verification))
        .routes(routes!(me))
        .routes(routes!(verify::show, verify::confirm).map(|r| r.route_layer(limit(Limit::Public))))
}

/// Answers that hold a secret must not be cached.
pub(in crate::api) const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// Make an account
///
/// A mail with a link follows; some of what an account may do waits for that link.
#[utoipa::path(
    post,
    path = "/api/auth/register",
    tag = "accounts",
    request_body = Register,
    responses((status = 201, body = Registered, description = "The account, and a mail is on its way"))
)]
async fn register(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<Register>,
) -> Result<(StatusCode, Json<Registered>), ApiError> {
    let registered = accounts::register(&state, wire::registration(request)?).await?;
    Ok((StatusCode::CREATED, Json(wire::registered(registered))))
}

/// Log in
///
/// The JWT serves `/api/auth/*`, `/api/oauth/apps`, `/api/oauth/my-apps`, `/api/user/*`, `/api/orgs`, `/api/teams`,
/// `/api/invitations` and `/api/admin/*`.
#[utoipa::path(
    post,
    path = "/api/auth/login",
    tag = "accounts",
    request_body = Login,
    responses(
        (status = 200, body = LoggedIn, description = "A JWT for the account's own endpoints"),
        (status = 401, description = "`invalid_credentials`, `totp_required`, `invalid_totp_code`"),
        (status = 403, description = "`account_suspended`"),
    )
)]
async fn log_in(
    State(state): State<AppState>,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<Login>,
) -> Result<(HeaderMap, Json<LoggedIn>), ApiError> {
    let Login { email, password, totp_code } = request;
    let whose = Email::parse(&email).ok();
    let offered = Offered { email, password, totp_code, caller };
    let logged_in = accounts::log_in(&state, offered).await?;
    let mut headers = HeaderMap::from_iter(NO_STORE);
    if let Some(whose) = whose {
        headers.append(SET_COOKIE, cookie::known(&state, &whose));
    }
    Ok((headers, Json(wire::logged_in(logged_in))))
}

/// The account that is logged in
///
/// With its mail address, its state and whether it has one-time codes.
#[utoipa::path(
    get,
    path = "/api/auth/me",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    responses((status = 200, body = Me, description = "The account"))
)]
async fn me(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
) -> Result<Json<Me>, ApiError> {
    Ok(Json(wire::me(accounts::me(&state, account).await?)))
}

/// Confirm a mail address by the token of its mail
///
/// The token is the one that was mailed; it works once, for as long as the mail says.
#[utoipa::path(
    post,
    path = "/api/auth/verify-email",
    tag = "accounts",
    request_body = VerifyEmail,
    responses(
        (status = 200, body = Message, description = "The address is confirmed"),
        (status = 400, description = "`invalid_verification_token`"),
    )
)]
async fn verify_email(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<VerifyEmail>,
) -> Result<Json<Message>, ApiError> {
    accounts::verify_email(&state, request.token.expose()).await?;
    Ok(Json(Message { message: "Email verified".to_owned() }))
}

/// Send the verification mail again
///
/// The newest link replaces those before; it works once, for as long as the mail says.
#[utoipa::path(
    post,
    path = "/api/auth/send-verification",
    tag = "accounts",
    security(("login" = []), ("session" = [])),
    responses((status = 200, body = Message, description = "A mail is on its way, or none is needed"))
)]
async fn send_verification(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
) -> Response {
    let send = async {
        match accounts::send_verification(&state, account.id).await {
            Ok(true) => message("A verification mail is on its way"),
            Ok(false) => message("Your email address is verified already"),
            Err(error) => ApiError::from(error).into_response(),
        }
    };
    limited(&state.limiters, Limit::SendVerification, Key::Account(account.id), send).await
}

fn message(text: &str) -> Response {
    Json(Message { message: text.to_owned() }).into_response()
}
