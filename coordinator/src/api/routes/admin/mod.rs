//! `/api/admin/*`: for platform administrators, by a recent login with a one-time code. See
//! `service/admin`.

mod accounts;
mod deployments;
mod platform;
mod wire;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::paging::Listing;
use crate::api::extract::principal::AdmittedAdmin;
use crate::api::problem::{self, ApiError};
use crate::api::state::ApiState;
use crate::service::admin::{self, AdminContext, AdminError};
use crate::service::hosts::join::HostError;
use crate::service::oauth::ApprovalError;
use crate::state::AppState;

/// The endpoints.
pub fn routes(state: &AppState) -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show))
        .routes(routes!(accounts::suspend))
        .routes(routes!(accounts::resume))
        .routes(routes!(accounts::promote))
        .routes(routes!(accounts::demote))
        .routes(routes!(accounts::clear))
        .routes(routes!(platform::tiers, platform::add_tier))
        .routes(routes!(platform::change_tier))
        .routes(routes!(platform::tier_accounts))
        .routes(routes!(platform::allow_tier, platform::deny_tier))
        .routes(routes!(platform::hosts))
        .routes(routes!(platform::remove_host))
        .routes(routes!(platform::drain))
        .routes(routes!(platform::undrain))
        .routes(routes!(deployments::evacuate))
        .routes(routes!(deployments::destroy))
        .routes(routes!(platform::apps))
        .routes(routes!(platform::approve))
        .routes(routes!(platform::reject))
        .routes(routes!(platform::audit))
        .route_layer(middleware::from_fn_with_state(state.clone(), guard))
}

/// For the document: how every operation here answers unauthorized callers.
const REFUSED: &str = "`admin_required`: the account does not administer; \
                       `admin_login_required`: the last login is older than 12 hours, or was \
                       made without a one-time code";

/// An administrator, who may do all of it. Only the guard makes it: a handler that takes it does
/// not run without.
#[derive(Clone)]
struct AdminPrincipal(AdminContext);

impl<S: Send + Sync> FromRequestParts<S> for AdminPrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing = || ApiError::new(problem::ADMIN_REQUIRED, AdminError::NotAdmin.to_string());
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

/// Requires a recent login with a one-time code from an administrator whom the gate let in, and
/// leaves the admin context for the handler.
async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let check = match AdmittedAdmin::from_request_parts(&mut parts, &state).await {
        Ok(AdmittedAdmin(check)) => check,
        Err(refusal) => return refusal.into_response(),
    };
    match admin::authorise(&state, check).await {
        Ok(account) => {
            parts.extensions.insert(AdminPrincipal(admin::admin_context(&state, &account)));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        let kind = match error {
            AdminError::Invalid(errors) => return Self::invalid(errors),
            AdminError::Store(error) => return error.into(),
            AdminError::Host(HostError::Store(error))
            | AdminError::Client(ApprovalError::Store(error)) => {
                return error.into();
            }
            AdminError::NotAdmin => problem::ADMIN_REQUIRED,
            AdminError::Login => problem::ADMIN_LOGIN_REQUIRED,
            AdminError::Deployment(error) => return error.into(),
            AdminError::NoAccount(_)
            | AdminError::NoDeployment(_)
            | AdminError::Client(_)
            | AdminError::Host(HostError::Unknown(_)) => problem::NOT_FOUND,
            AdminError::NoTier(_) => problem::TIER_NOT_FOUND,
            AdminError::Conflict(_) | AdminError::Host(_) => problem::CONFLICT,
        };
        Self::new(kind, error.to_string())
    }
}

/// The row after which the page begins; the cursor is a number here.
fn after_number(listing: &Listing) -> Result<Option<i64>, ApiError> {
    let refused = |_| ApiError::field("/after", "is not a cursor; follow the Link header");
    listing.after().map_err(refused)
}
