//! `/reset-password`: the target of the link in a password reset mail.

use axum::extract::State;
use axum::response::Response;
use buddo_shared::model::secret::Secret;
use http::StatusCode;
use minijinja::context;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::extract::form::{ApiForm, ApiQuery};
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::domain::mailed_link::ACCOUNT_CHANGE;
use crate::service::accounts::{self, AccountError};

/// The token in the link.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ResetLink {
    /// The token of the mail.
    #[param(value_type = Option<String>)]
    token: Option<Secret>,
}

/// The form: the token, which only who has the mail knows, and the new password.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PasswordForm)]
pub(crate) struct Choice {
    /// The token of the mail.
    #[schema(value_type = String)]
    token: Secret,
    /// The new password.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128)]
    password: Secret,
}

/// The page of a mail to who forgot the password
///
/// Opening it changes nothing: mail scanners open links, too.
#[utoipa::path(
    get,
    path = "/reset-password",
    operation_id = "reset_password_page",
    tag = "pages",
    params(ResetLink),
    responses((status = 200, body = String, content_type = "text/html", description = "The page with the form"))
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    ApiQuery(link): ApiQuery<ResetLink>,
) -> Response {
    form(&state, StatusCode::OK, link.token.as_ref().map_or("", Secret::expose), None)
}

/// The form of that page
///
/// Chooses the new password. The link works once.
#[utoipa::path(
    post,
    path = "/reset-password",
    operation_id = "reset_password_form",
    tag = "pages",
    request_body(content = Choice, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The password is changed"),
        (status = 400, body = String, content_type = "text/html", description = "The link is not valid any more"),
        (status = 422, body = String, content_type = "text/html", description = "The form again, with what is wrong with the password"),
    )
)]
pub(crate) async fn choose(
    State(state): State<ApiState>,
    ApiForm(Choice { token, password }): ApiForm<Choice>,
) -> Result<Response, ApiError> {
    let pages = &state.pages;
    match accounts::reset_password(&state.services, token.expose(), password).await {
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
            &format!("It was used already or is older than {ACCOUNT_CHANGE}. Ask for a new mail."),
        )),
        Err(error) => Err(error.into()),
    }
}

fn form(state: &ApiState, status: StatusCode, token: &str, error: Option<String>) -> Response {
    state.pages.render(status, "reset.html", context! { token, error }, None)
}
