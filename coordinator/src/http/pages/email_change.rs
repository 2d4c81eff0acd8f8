//! `/confirm-email-change`: where the mail to a new address leads. Opening it changes nothing,
//! since mail scanners open links too; its button does.

use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use buddo_shared::secret::Secret;
use http::StatusCode;
use minijinja::context;
use serde::Deserialize;

use crate::http::problem::ApiError;
use crate::service::accounts::{self, AccountError};
use crate::state::AppState;

/// The token, in the link and in the form.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    token: Option<Secret>,
}

/// The page with the button.
pub(crate) async fn show(State(state): State<AppState>, Query(link): Query<Link>) -> Response {
    let token = link.token.as_ref().map_or("", Secret::expose);
    state.door.pages.render(StatusCode::OK, "email_change.html", context! { token }, None)
}

/// The button.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Form(link): Form<Link>,
) -> Result<Response, ApiError> {
    let pages = &state.door.pages;
    let token = link.token.as_ref().map_or("", Secret::expose);
    match accounts::confirm_email_change(&state, token).await {
        Ok(()) => Ok(pages.message(
            StatusCode::OK,
            "Your email address is changed",
            "Use the new address to log in from now on.",
        )),
        Err(AccountError::SpentLink) => Ok(pages.message(
            StatusCode::BAD_REQUEST,
            "This link is not valid any more",
            "It was used already, is older than an hour, or was replaced. Ask for a new mail.",
        )),
        Err(AccountError::Invalid(_)) => Ok(pages.message(
            StatusCode::CONFLICT,
            "This address has an account already",
            "Log in to that account, or use another address.",
        )),
        Err(error) => Err(error.into()),
    }
}
