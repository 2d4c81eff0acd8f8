//! Logins in a browser: authorization code with PKCE (RFC 6749, 4.1; RFC 7636), and devices
//! (RFC 8628).

use buddo_shared::api::oauth::{
    DEPLOY_MANAGE, DEVICE_CODE, DeviceAuthorization, PROFILE_READ, TEAMS_MANAGE, TokenRequest,
    Tokens,
};
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::secret::Secret;
use reqwest::{Method, Url};
use serde::Deserialize;

use super::transport::Retry;
use super::{Api, ClientError};
use crate::pkce::Pkce;

/// The API's metadata (RFC 8414), as far as needed.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
}

/// The answer to a device's poll (RFC 8628, 3.5).
#[derive(Debug)]
pub(crate) enum Polled {
    Tokens(Box<Tokens>),
    Pending,
    /// Nobody has decided, and polls come too fast: add 5 seconds between two.
    SlowDown,
}

impl Api {
    /// The page where somebody decides whether this program may act for them.
    pub(crate) fn authorization_url(&self, redirect_uri: &str, state: &str, pkce: &Pkce) -> String {
        let base = self.url().join("/api/oauth/authorize");
        let challenge = pkce.challenge();
        let scope = scopes();
        let pairs = [
            ("response_type", "code"),
            ("client_id", CLI_CLIENT_ID),
            ("redirect_uri", redirect_uri),
            ("scope", scope.as_str()),
            ("state", state),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        // The API's address has been parsed already, and the path is ours.
        Url::parse_with_params(&base, pairs).map_or(base, String::from)
    }

    /// The API's issuer: its answers through a browser name the same (RFC 9207, 2.4).
    pub(crate) async fn issuer(&self) -> Result<String, ClientError> {
        let path = "/.well-known/oauth-authorization-server";
        let make = || self.transport.request(Method::GET, path);
        let Metadata { issuer } = self.transport.send(Retry::Harmless, make).await?.json()?;
        Ok(issuer)
    }

    /// Redeems a code delivered by a browser.
    pub(crate) async fn redeem(
        &self,
        code: Secret,
        redirect_uri: &str,
        pkce: Pkce,
    ) -> Result<Tokens, ClientError> {
        let request = TokenRequest {
            grant_type: Some("authorization_code".to_owned()),
            client_id: Some(CLI_CLIENT_ID.to_owned()),
            code: Some(code),
            redirect_uri: Some(redirect_uri.to_owned()),
            code_verifier: Some(pkce.into_verifier()),
            ..TokenRequest::default()
        };
        self.token(&request).await
    }

    /// Requests a code to be typed in a browser.
    pub(crate) async fn start_device(&self) -> Result<DeviceAuthorization, ClientError> {
        let scope = scopes();
        let form = [("client_id", CLI_CLIENT_ID), ("scope", scope.as_str())];
        let path = "/api/oauth/device_authorization";
        let make = || self.transport.request(Method::POST, path).form(&form);
        self.transport.send(Retry::BeforeSending, make).await?.json()
    }

    /// Polls for the decision.
    pub(crate) async fn poll_device(&self, code: &Secret) -> Result<Polled, ClientError> {
        let request = TokenRequest {
            grant_type: Some(DEVICE_CODE.to_owned()),
            client_id: Some(CLI_CLIENT_ID.to_owned()),
            device_code: Some(code.clone()),
            ..TokenRequest::default()
        };
        match self.token(&request).await {
            Ok(tokens) => Ok(Polled::Tokens(Box::new(tokens))),
            Err(ClientError::OAuth { error, .. }) if error.error == "authorization_pending" => {
                Ok(Polled::Pending)
            }
            Err(ClientError::OAuth { error, .. }) if error.error == "slow_down" => {
                Ok(Polled::SlowDown)
            }
            Err(error) => Err(error),
        }
    }
}

/// What the commands need: the deployments, and for `whoami` the name of the account.
fn scopes() -> String {
    format!("{PROFILE_READ} {DEPLOY_MANAGE} {TEAMS_MANAGE}")
}
