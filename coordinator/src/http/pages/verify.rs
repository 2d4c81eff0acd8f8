//! `/verify-email`: where the link of a verification mail leads. Opening it changes nothing, since
//! mail scanners open links too; its button does.

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

impl Link {
    fn token(&self) -> &str {
        self.token.as_ref().map_or("", Secret::expose)
    }
}

/// The page with the button.
pub(crate) async fn show(State(state): State<AppState>, Query(link): Query<Link>) -> Response {
    let values = context! { token => link.token() };
    state.door.pages.render(StatusCode::OK, "verify.html", values, None)
}

/// The button.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Form(link): Form<Link>,
) -> Result<Response, ApiError> {
    let pages = &state.door.pages;
    match accounts::verify_email(&state, link.token()).await {
        Ok(()) => Ok(pages.message(
            StatusCode::OK,
            "Your email address is confirmed",
            "You can close this page and go on where you were.",
        )),
        Err(AccountError::Link) => Ok(pages.message(
            StatusCode::BAD_REQUEST,
            "This link is not valid any more",
            "It was used already or is older than 24 hours. Log in and ask for a new mail.",
        )),
        Err(error) => Err(ApiError::internal(&error)),
    }
}
