//! `/confirm-email-change`: the target of the link mailed to a new address. Opening it changes
//! nothing, since mail scanners open links too; its button does.

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

/// The token, in the link and in the form.
#[derive(Debug, Deserialize, utoipa::IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
// Both forms of mailed links are published under one name.
#[schema(as = Link)]
pub(crate) struct EmailChangeLink {
    /// The token of the mail.
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    token: Option<Secret>,
}

/// The page of a mail to a new address
///
/// Opening it changes nothing: mail scanners open links, too.
#[utoipa::path(
    get,
    path = "/confirm-email-change",
    operation_id = "confirm_email_change_page",
    tag = "pages",
    params(EmailChangeLink),
    responses((status = 200, body = String, content_type = "text/html", description = "The page with the button"))
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    ApiQuery(link): ApiQuery<EmailChangeLink>,
) -> Response {
    let token = link.token.as_ref().map_or("", Secret::expose);
    state.pages.render(StatusCode::OK, "email_change.html", context! { token }, None)
}

/// The button of that page
///
/// Confirms the new address that the page names.
#[utoipa::path(
    post,
    path = "/confirm-email-change",
    operation_id = "confirm_email_change_form",
    tag = "pages",
    request_body(content = EmailChangeLink, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "It is done"),
        (status = 400, body = String, content_type = "text/html", description = "The link is not valid any more"),
    )
)]
pub(crate) async fn confirm(
    State(state): State<ApiState>,
    ApiForm(link): ApiForm<EmailChangeLink>,
) -> Result<Response, ApiError> {
    let pages = &state.pages;
    let token = link.token.as_ref().map_or("", Secret::expose);
    match accounts::confirm_email_change(&state.services, token).await {
        Ok(()) => Ok(pages.message(
            StatusCode::OK,
            "Your email address is changed",
            "Use the new address to log in from now on.",
        )),
        Err(AccountError::SpentLink) => Ok(pages.message(
            StatusCode::BAD_REQUEST,
            "This link is not valid any more",
            &format!(
                "It was used already, is older than {ACCOUNT_CHANGE}, or was replaced. Ask for a new \
                 mail."
            ),
        )),
        Err(AccountError::Invalid(_)) => Ok(pages.message(
            StatusCode::CONFLICT,
            "This address has an account already",
            "Log in to that account, or use another address.",
        )),
        Err(error) => Err(error.into()),
    }
}
