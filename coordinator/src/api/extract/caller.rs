//! Where a request comes from, for the list of logins and for throttling guesses.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::header::USER_AGENT;
use http::request::Parts;

use crate::api::middleware::rate_limit::client_address;
use crate::api::pages::cookie;
use crate::api::state::ApiState;
use crate::service::accounts::Caller;

/// Characters of a `User-Agent` that are kept.
const SHOWN: usize = 200;

/// The request's address and its `User-Agent`: printable ASCII, cut short.
#[derive(Debug, Clone)]
pub struct CallerOf(pub Caller);

impl FromRequestParts<ApiState> for CallerOf {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let proxies = &state.services.config.api.trusted_proxies;
        let address = client_address(&parts.extensions, &parts.headers, proxies);
        // Only visible ASCII passes `to_str`, so that a list of logins is safe on a terminal.
        let user_agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = user_agent.map(|text| text.chars().take(SHOWN).collect());
        let device = cookie::text(&parts.headers, cookie::DEVICE).map(str::to_owned);
        Ok(Self(Caller { address, user_agent, device }))
    }
}
