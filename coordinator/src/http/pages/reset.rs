//! `/reset-password`: where the mail to who forgot the password leads.

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

/// The token in the link.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    token: Option<Secret>,
}

/// The form: the token, which only who has the mail knows, and the new password.
#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    token: Secret,
    password: Secret,
}

/// The page with the form.
pub(crate) async fn show(State(state): State<AppState>, Query(link): Query<Link>) -> Response {
    form(&state, StatusCode::OK, link.token.as_ref().map_or("", Secret::expose), None)
}

/// The form's button.
pub(crate) async fn choose(
    State(state): State<AppState>,
    Form(Choice { token, password }): Form<Choice>,
) -> Result<Response, ApiError> {
    let pages = &state.door.pages;
    match accounts::reset_password(&state, token.expose(), password).await {
        Ok(()) => Ok(pages.message(
            StatusCode::OK,
            "Your password is changed",
            "Every session and token of your account has ended. Log in with the new password.",
        )),
        Err(AccountError::Invalid(errors)) => {
            let words: Vec<&str> = errors.iter().map(|error| error.detail.as_str()).collect();
            let text = format!("The password {}.", words.join("; it "));
            Ok(form(&state, StatusCode::UNPROCESSABLE_ENTITY, token.expose(), Some(text)))
        }
        Err(AccountError::SpentLink) => Ok(pages.message(
            StatusCode::BAD_REQUEST,
            "This link is not valid any more",
            "It was used already or is older than an hour. Ask for a new mail.",
        )),
        Err(error) => Err(error.into()),
    }
}

fn form(state: &AppState, status: StatusCode, token: &str, error: Option<String>) -> Response {
    state.door.pages.render(status, "reset.html", context! { token, error }, None)
}
