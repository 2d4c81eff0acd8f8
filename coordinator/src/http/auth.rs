//! `/api/auth/*`, and the page that a verification mail links to.

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use buddo_shared::api::auth::{LoggedIn, Login, Me, Message, Register, Registered, VerifyEmail};
use buddo_shared::secret::Secret;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};

use super::caller::CallerOf;
use super::json::ApiJson;
use super::pages::verify;
use super::principal::LoginPrincipal;
use super::problem::ApiError;
use super::rate_limit::{Key, Limit, by_address};
use crate::service::accounts::{self, Offered};
use crate::state::AppState;

/// The account endpoints.
pub fn routes(state: &AppState) -> Router<AppState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    let page = get(verify::show).post(verify::confirm);
    Router::new()
        .route("/api/auth/register", post(register).route_layer(limit(Limit::Register)))
        .route("/api/auth/login", post(log_in).route_layer(limit(Limit::Login)))
        .route("/api/auth/verify-email", post(verify_email).route_layer(limit(Limit::Public)))
        .route("/api/auth/send-verification", post(send_verification))
        .route("/api/auth/me", get(me))
        .route("/verify-email", page.route_layer(limit(Limit::Public)))
}

/// Answers that hold a secret are kept by nobody on the way.
pub(super) const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];

async fn register(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<Register>,
) -> Result<(StatusCode, Json<Registered>), ApiError> {
    let registered = accounts::register(&state, request).await?;
    Ok((StatusCode::CREATED, Json(registered)))
}

async fn log_in(
    State(state): State<AppState>,
    CallerOf(caller): CallerOf,
    ApiJson(request): ApiJson<Login>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<LoggedIn>), ApiError> {
    let Login { email, password, totp_code } = request;
    let totp_code = totp_code.map(Secret::new);
    let offered = Offered { email, password, totp_code, caller };
    let answer = accounts::log_in(&state, offered).await?;
    Ok((NO_STORE, Json(answer)))
}

async fn me(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
) -> Result<Json<Me>, ApiError> {
    Ok(Json(accounts::me(&state, account).await?))
}

async fn verify_email(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<VerifyEmail>,
) -> Result<Json<Message>, ApiError> {
    accounts::verify_email(&state, request.token.expose()).await?;
    Ok(Json(Message { message: "Email verified".to_owned() }))
}

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
    state.door.limiters.limited(Limit::SendVerification, Key::Account(account.id), send).await
}

fn message(text: &str) -> Response {
    Json(Message { message: text.to_owned() }).into_response()
}
