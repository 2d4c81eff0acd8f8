//! `/verify-email`: the target of the link in a verification mail. Opening it changes nothing,
//! since mail scanners open links too; its button does.

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
use crate::domain::mailed_link::VERIFICATION;
use crate::service::accounts::{self, AccountError};

/// The token, in the link and in the form.
#[derive(Debug, Deserialize, utoipa::IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
// Both forms of mailed links are published under one name.
#[schema(as = Link)]
pub(crate) struct VerificationLink {
    /// The token of the mail.
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    token: Option<Secret>,
}

impl VerificationLink {
    fn token(&self) -> &str {
        self.token.as_ref().map_or("", Secret::expose)
    }
}

/// The page of a verification mail
///
/// Opening it changes nothing: mail scanners open links, too.
#[utoipa::path(
    get,
    path = "/verify-email",
    operation_id = "verify_email_page",
    tag = "pages",
    params(VerificationLink),
    responses((status = 200, body = String, content_type = "text/html", description = "The page with the button"))
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    ApiQuery(link): ApiQuery<VerificationLink>,
) -> Response {
    let values = context! { token => link.token() };
    state.pages.render(StatusCode::OK, "verify.html", values, None)
}

/// The button of that page
///
/// Confirms the address that the page names.
#[utoipa::path(
    post,
    path = "/verify-email",
    operation_id = "verify_email_form",
    tag = "pages",
    request_body(content = VerificationLink, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "It is done"),
        (status = 400, body = String, content_type = "text/html", description = "The link is not valid any more"),
    )
)]
pub(crate) async fn confirm(
    State(state): State<ApiState>,
    ApiForm(link): ApiForm<VerificationLink>,
) -> Result<Response, ApiError> {
    let pages = &state.pages;
    match accounts::verify_email(&state.services, link.token()).await {
        Ok(()) => Ok(pages.message(
            StatusCode::OK,
            "Your email address is confirmed",
            "You can close this page and go on where you were.",
        )),
        Err(AccountError::Link) => Ok(pages.message(
            StatusCode::BAD_REQUEST,
            "This link is not valid any more",
            &format!(
                "It was used already or is older than {VERIFICATION}. Log in and ask for a new mail."
            ),
        )),
        Err(error) => Err(ApiError::internal(&error)),
    }
}
