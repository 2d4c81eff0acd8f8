//! Which token goes with a request, and how a spent one is replaced. An API key replaces the
//! login only for deployments: organisations, teams, keys and the account need a login.
//!
//! ```text
//! session ─► fresh? ── yes ─► request ─► 401? ─ no ─► answer
//!              │ no                        │ yes, once
//!              ▼                           ▼
//!           lock ─► read again ─► another command refreshed meanwhile? take its tokens
//!                        └─ no ─► refresh token ─► (refused) ─► exchange the login again ─► store
//! ```

use buddo_shared::api::oauth::{
    DEPLOY_MANAGE, TEAMS_MANAGE, TOKEN_EXCHANGE, TOKEN_TYPE_JWT, TokenRequest, Tokens,
};
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::secret::Secret;
use reqwest::{Method, RequestBuilder};

use super::transport::{Answer, Retry};
use super::{Api, ClientError};
use crate::session::{Account, Session};

impl Api {
    pub(crate) fn session(&self) -> Result<Session, ClientError> {
        let stored = self.sessions.load(self.url())?;
        stored.ok_or_else(|| {
            let url = self.url().as_str().to_owned();
            match self.key {
                None => ClientError::NotLoggedIn { url },
                Some(_) => ClientError::KeyAlone { url },
            }
        })
    }

    /// Whose the stored session is, if there is a readable one: a user with an API key need not
    /// have any.
    pub(crate) fn account(&self) -> Option<Account> {
        Some(self.sessions.load(self.url()).ok()??.account)
    }

    /// Sends what `make` builds with the API key, or else as [`Self::logged_in`] does.
    pub(super) async fn authorised(
        &self,
        retry: Retry,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, ClientError> {
        if let Some(key) = &self.key {
            let sent = self.transport.send(retry, || make().bearer_auth(key.expose())).await;
            return sent.map_err(of_key);
        }
        self.logged_in(retry, make).await
    }

    /// Sends what `make` builds with an access token, which is refreshed if necessary.
    pub(super) async fn logged_in(
        &self,
        retry: Retry,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, ClientError> {
        let token = self.session_token().await?;
        let first = self.transport.send(retry, || make().bearer_auth(token.expose())).await;
        match first {
            Err(error) if error.status() == Some(401) => {
                // A 401 means that nothing was done, so any request may be sent again.
                let token = self.refresh(&token).await?;
                let second = self.transport.send(retry, || make().bearer_auth(token.expose()));
                second.await.map_err(|error| self.ended_if_unauthorised(error))
            }
            other => other,
        }
    }

    /// The API key that was given, or an access token that is still valid for a while by this
    /// machine's clock.
    pub(super) async fn access_token(&self) -> Result<Secret, ClientError> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        self.session_token().await
    }

    async fn session_token(&self) -> Result<Secret, ClientError> {
        let session = self.session()?;
        if session.is_stale(self.clock.now()) {
            self.refresh(&session.access_token).await
        } else {
            Ok(session.access_token)
        }
    }

    /// Replaces `spent` by a new access token, unless another command has done so already.
    pub(super) async fn refresh(&self, spent: &Secret) -> Result<Secret, ClientError> {
        let lock = self.sessions.lock().await?;
        let session = self.session()?;
        if session.access_token != *spent && !session.is_stale(self.clock.now()) {
            return Ok(session.access_token);
        }
        let tokens = match self.refresh_grant(&session.refresh_token).await {
            // A rotated token that was never stored (a crash in between) ends the grant, but not
            // the login: it can be exchanged once more.
            Err(error @ ClientError::OAuth { .. }) => match &session.jwt {
                Some(jwt) => self.exchange(jwt).await,
                None => Err(error),
            },
            other => other,
        };
        let tokens = tokens.map_err(|error| self.ended_if_unauthorised(error))?;
        let session = session.refreshed(tokens, self.clock.now());
        self.sessions.store(&lock, self.url(), Some(session.clone()))?;
        Ok(session.access_token)
    }

    async fn refresh_grant(&self, refresh_token: &Secret) -> Result<Tokens, ClientError> {
        let request = TokenRequest {
            grant_type: Some("refresh_token".to_owned()),
            client_id: Some(CLI_CLIENT_ID.to_owned()),
            refresh_token: Some(refresh_token.clone()),
            ..TokenRequest::default()
        };
        self.token(&request).await
    }

    /// Exchanges a login JWT for access and refresh tokens (RFC 8693).
    pub(super) async fn exchange(&self, jwt: &Secret) -> Result<Tokens, ClientError> {
        let request = TokenRequest {
            grant_type: Some(TOKEN_EXCHANGE.to_owned()),
            client_id: Some(CLI_CLIENT_ID.to_owned()),
            scope: Some(format!("{DEPLOY_MANAGE} {TEAMS_MANAGE}")),
            subject_token: Some(jwt.clone()),
            subject_token_type: Some(TOKEN_TYPE_JWT.to_owned()),
            ..TokenRequest::default()
        };
        self.token(&request).await
    }

    pub(super) async fn token(&self, request: &TokenRequest) -> Result<Tokens, ClientError> {
        // Never repeated once sent: a refresh token that comes twice revokes the whole grant
        // (RFC 9700, 4.14.2).
        let make = || self.transport.request(Method::POST, "/api/oauth/token").form(request);
        self.transport.send(Retry::BeforeSending, make).await?.json()
    }

    fn ended_if_unauthorised(&self, error: ClientError) -> ClientError {
        let ended = match &error {
            ClientError::OAuth { error, .. } => {
                matches!(error.error.as_str(), "invalid_grant" | "invalid_request")
            }
            other => other.status() == Some(401),
        };
        if ended {
            ClientError::SessionEnded { url: self.url().as_str().to_owned() }
        } else {
            error
        }
    }
}

/// There is nothing to refresh, and no login would help: a rejected key is a matter of
/// the environment.
fn of_key(error: ClientError) -> ClientError {
    match error {
        ClientError::Problem { problem, .. } if problem.status == 401 => {
            ClientError::KeyRefused { problem }
        }
        other => other,
    }
}
