//! Login, logout and the account.

use buddo_shared::api::auth::{self, LoggedIn, Login, Profile};
use buddo_shared::api::connections::{ExternalProfile, ExternalUser};
use buddo_shared::api::oauth::Tokens;
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::secret::{Secret, exposed};
use reqwest::Method;
use serde::Serialize;

use super::transport::Retry;
use super::{Api, ClientError};
use crate::session::{Account, Current, Session};

/// `POST /api/oauth/revoke` (RFC 7009, 2.1).
#[derive(Serialize)]
struct Revoke<'a> {
    #[serde(serialize_with = "exposed")]
    token: &'a Secret,
    token_type_hint: &'static str,
    client_id: &'static str,
}

impl Api {
    /// Logs in and stores the session; later commands without `--api` use this one.
    pub(crate) async fn log_in(&self, credentials: &Login) -> Result<Account, ClientError> {
        let make = || self.transport.request(Method::POST, "/api/auth/login").json(credentials);
        let LoggedIn { token: jwt, user } =
            self.transport.send(Retry::BeforeSending, make).await?.json()?;
        let tokens = self.exchange(&jwt).await?;
        self.keep(Some(jwt), user.into(), tokens).await
    }

    /// Stores the session for tokens from a browser login, once the API has said whose they are.
    pub(crate) async fn log_in_with(&self, tokens: Tokens) -> Result<Account, ClientError> {
        let ExternalUser { user } = self.external_user(&tokens.access_token).await?;
        self.keep(None, user.into(), tokens).await
    }

    async fn keep(
        &self,
        jwt: Option<Secret>,
        account: Account,
        tokens: Tokens,
    ) -> Result<Account, ClientError> {
        let session = Session::new(jwt, account.clone(), tokens, self.clock.now());
        let lock = self.sessions.lock().await?;
        self.sessions.store(&lock, self.url(), Some(session))?;
        let current = Current { api: self.url().as_str().to_owned(), ca: self.ca_file.clone() };
        self.sessions.use_from_now_on(&lock, current)?;
        Ok(account)
    }

    /// Deletes the session here and ends it at the API. The second may fail and is reported
    /// separately, because the first has happened by then. `None` if nobody was logged in.
    pub(crate) async fn log_out(&self) -> Result<Option<Result<(), ClientError>>, ClientError> {
        let lock = self.sessions.lock().await?;
        let Some(session) = self.sessions.load(self.url())? else {
            return Ok(None);
        };
        self.sessions.store(&lock, self.url(), None)?;
        let form = Revoke {
            token: &session.refresh_token,
            token_type_hint: "refresh_token",
            client_id: CLI_CLIENT_ID,
        };
        let make = || self.transport.request(Method::POST, "/api/oauth/revoke").form(&form);
        Ok(Some(self.transport.send(Retry::Harmless, make).await.map(drop)))
    }

    /// The account, as the API knows it now: all of it if this program has seen the password,
    /// otherwise what an app with `profile:read` sees.
    pub(crate) async fn me(&self) -> Result<Me, ClientError> {
        let session = self.session()?;
        let Some(jwt) = session.jwt else {
            let make = || self.transport.request(Method::GET, "/api/external/user");
            let answer = self.logged_in(Retry::Harmless, make).await?;
            return answer.json().map(|ExternalUser { user }| Me::External(user));
        };
        let make = || {
            let request = self.transport.request(Method::GET, "/api/auth/me");
            request.bearer_auth(jwt.expose())
        };
        match self.transport.send(Retry::Harmless, make).await {
            Ok(answer) => answer.json().map(|auth::Me { user }| Me::Owner(Box::new(user))),
            Err(error) if error.status() == Some(401) => {
                Err(ClientError::SessionEnded { url: self.url().as_str().to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    async fn external_user(&self, access_token: &Secret) -> Result<ExternalUser, ClientError> {
        let make = || {
            let request = self.transport.request(Method::GET, "/api/external/user");
            request.bearer_auth(access_token.expose())
        };
        self.transport.send(Retry::Harmless, make).await?.json()
    }
}

/// An account, as far as this program may see it.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Me {
    /// As its owner does.
    Owner(Box<Profile>),
    /// As an app does.
    External(ExternalProfile),
}
