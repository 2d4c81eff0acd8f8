//! `/invitation`: the target of the link in an invitation. Opening it changes nothing, since mail
//! scanners open links too; its button does, for an account logged in with the invited address.

use axum::extract::State;
use axum::response::Response;
use buddo_shared::model::secret::Secret;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use serde::Deserialize;
use utoipa::ToSchema;

use super::account::{self, Browser};
use super::foreign_form;
use crate::api::extract::form::{ApiForm, ApiQuery};
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::auth::access::MemberCheck;
use crate::auth::session::Session;
use crate::domain::identity::TeamRole;
use crate::service::teams::{self, TeamError};

/// The token in the link.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct InvitationLink {
    /// The token of the mail.
    #[param(value_type = Option<String>)]
    token: Option<Secret>,
}

/// The page of an invitation
///
/// Opening it changes nothing: mail scanners open links, too.
#[utoipa::path(
    get,
    path = "/invitation",
    operation_id = "invitation_page",
    tag = "pages",
    security((), ("session" = [])),
    params(InvitationLink),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "What it offers, and the button"),
        (status = 303, description = "Nobody is logged in: to the login page first"),
        (status = 400, body = String, content_type = "text/html", description = "The invitation is not valid any more"),
        (status = 403, body = String, content_type = "text/html", description = "It is for another address, or the address is not confirmed"),
    )
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiQuery(link): ApiQuery<InvitationLink>,
) -> Result<Response, ApiError> {
    let token = link.token.unwrap_or_else(|| Secret::new(""));
    let Some(Browser { session, csrf }) = account::current(&state.services, &headers).await? else {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("token", token.expose()).finish();
        return Ok(account::login_first(&format!("/invitation?{query}")));
    };
    match teams::offered(&state.services, MemberCheck::by_login(&session), token.expose()).await {
        Ok(offer) => {
            let values = context! {
                org => offer.org.name,
                slug => offer.org.slug,
                role => offer.role.as_str(),
                team_role => offer.team_role.map(TeamRole::as_str),
                username => session.account.username.as_str(),
                csrf,
                token => token.expose(),
            };
            Ok(state.pages.render(StatusCode::OK, "invitation.html", values, None))
        }
        Err(error) => refused(&state, &session, error),
    }
}

/// The button.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AcceptForm {
    /// What the page gave this browser's form.
    csrf: String,
    /// The token of the mail.
    #[schema(value_type = String)]
    token: Secret,
}

/// The button of that page
///
/// Accepts the invitation that the page names.
#[utoipa::path(
    post,
    path = "/invitation",
    operation_id = "invitation_form",
    tag = "pages",
    security(("session" = [])),
    request_body(content = AcceptForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The account is in the organisation"),
        (status = 400, body = String, content_type = "text/html", description = "The invitation is not valid any more"),
        (
            status = 403,
            body = String, content_type = "text/html",
            description = "Nobody is logged in, the form was made for another browser, the invitation is for another address, or the address is not confirmed"
        ),
    )
)]
pub(crate) async fn accept(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiForm(form): ApiForm<AcceptForm>,
) -> Result<Response, ApiError> {
    let Some(Browser { session, .. }) =
        account::of_form(&state.services, &headers, &form.csrf).await?
    else {
        return Ok(foreign_form(&state));
    };
    match teams::accept(&state.services, MemberCheck::by_login(&session), form.token.expose()).await
    {
        Ok((org, _)) => {
            let title = format!("You are in {} now", org.name);
            let text = "You can close this page. On the command line, see: buddo teams list";
            Ok(state.pages.message(StatusCode::OK, &title, text))
        }
        Err(error) => refused(&state, &session, error),
    }
}

fn refused(state: &ApiState, session: &Session, error: TeamError) -> Result<Response, ApiError> {
    let (status, title) = match &error {
        TeamError::SpentInvitation => {
            (StatusCode::BAD_REQUEST, "This invitation is not valid any more")
        }
        TeamError::OtherAddress => (StatusCode::FORBIDDEN, "This invitation is not for you"),
        TeamError::EmailUnverified => (StatusCode::FORBIDDEN, "Confirm your email address first"),
        _ => return Err(error.into()),
    };
    let text = format!("You are logged in as {}: {error}.", session.account.username);
    Ok(state.pages.message(status, title, &text))
}
