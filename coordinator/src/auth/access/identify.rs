//! From the credential that a request shows to its sender.

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::id::{AccountId, ApiKeyId, TeamId};
use jiff::SignedDuration;

use crate::auth::access_token;
use crate::auth::authentication::Authentication;
use crate::auth::session::{self, Session, SessionError};
use crate::auth::token::api_key::ApiKeyText;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::domain::identity::{HashedToken, KeyScopes, Scopes};
use crate::store::StoreError;
use crate::store::contract::{ApiKeyRow, Suspension};

/// Resolution of a key's last-used time: each update is a write.
const NOTED_EACH: SignedDuration = SignedDuration::from_mins(10);

/// The credential that a request shows, by its form alone. Nothing is verified yet.
#[derive(Debug, Clone, Copy)]
pub enum Presented<'a> {
    /// A bearer token that looks like the JWT of a login.
    Jwt(&'a str),
    /// A bearer token that looks like an API key.
    Key(&'a str),
    /// Any other bearer token: an OAuth access token.
    Access(&'a str),
    /// The cookie of a browser that logged in.
    Cookie(&'a PlainToken),
}

impl<'a> Presented<'a> {
    /// Classifies a bearer token by its form.
    pub fn bearer(token: &'a str) -> Self {
        if token.starts_with("eyJ") {
            Self::Jwt(token)
        } else if token.starts_with(crate::auth::token::api_key::PREFIX) {
            Self::Key(token)
        } else {
            Self::Access(token)
        }
    }
}

/// An opaque bearer token, as it is looked up: only its holder has the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    /// An OAuth access token.
    Access(HashedToken),
    Key(HashedToken),
}

/// Who sends a request.
#[derive(Debug, Clone)]
pub enum Principal {
    /// An account, by the JWT of a login.
    Login(Session),
    /// An account, by the cookie of a browser.
    Browser(Session),
    /// An OAuth client, on behalf of an account that allowed it.
    Client {
        account: AccountId,
        scopes: Scopes,
        /// Whether the client is Buddo's own command line.
        is_cli: bool,
        token: HashedToken,
    },
    Key(KeyHolder),
}

/// What an API key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    pub id: ApiKeyId,
    pub team: TeamId,
    pub account: AccountId,
    /// The account that pays for what it deploys.
    pub payer: AccountId,
    /// What it may do.
    pub scopes: KeyScopes,
    pub token: HashedToken,
}

impl Principal {
    /// How the account was recognised; `None`: by a login.
    pub(super) fn credential(&self) -> Option<Credential> {
        match self {
            Self::Login(_) | Self::Browser(_) => None,
            Self::Client { token, .. } => Some(Credential::Access(*token)),
            Self::Key(key) => Some(Credential::Key(key.token)),
        }
    }
}

/// Why the sender of a request is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// No such token is valid; says what is wrong and what to do.
    #[error("{0}")]
    Invalid(String),
    /// It could not be looked up.
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub async fn identify(
    auth: &Authentication,
    presented: Presented<'_>,
) -> Result<Principal, Unknown> {
    match presented {
        Presented::Jwt(token) => {
            session::session_of(auth, token).await.map(Principal::Login).map_err(void)
        }
        Presented::Cookie(token) => {
            session::session_of_browser(auth, token).await.map(Principal::Browser).map_err(void)
        }
        Presented::Access(text) => {
            let token = PlainToken::parse(PlainTokenKind::Access, text).ok_or_else(no_access)?;
            recognise(auth, Credential::Access(token.hashed())).await
        }
        Presented::Key(text) => {
            let key = ApiKeyText::parse(text)
                .map_err(|error| Unknown::Invalid(format!("the API key {error}")))?;
            recognise(auth, Credential::Key(key.hashed())).await
        }
    }
}

/// The principal that the credential currently stands for.
pub(super) async fn recognise(
    auth: &Authentication,
    credential: Credential,
) -> Result<Principal, Unknown> {
    match credential {
        Credential::Access(token) => {
            let access = access_token::access(auth, token).await?.ok_or_else(no_access)?;
            serves(access.suspended)?;
            let is_cli = access.client_id == CLI_CLIENT_ID;
            Ok(Principal::Client { account: access.account, scopes: access.scopes, is_cli, token })
        }
        Credential::Key(token) => {
            let Held { row, payer, suspended } = holding(auth, token).await?.ok_or_else(|| {
                Unknown::Invalid(
                    "the API key has expired or was revoked, or who made it is no longer in its \
                     team; make a new one"
                        .to_owned(),
                )
            })?;
            serves(suspended)?;
            note_use(auth, &row).await;
            let ApiKeyRow { id, team, account, scopes, .. } = row;
            Ok(Principal::Key(KeyHolder { id, team, account, payer, scopes, token }))
        }
    }
}

fn no_access() -> Unknown {
    Unknown::Invalid(
        "the access token is not valid, has expired or was revoked; refresh it or log in again"
            .to_owned(),
    )
}

/// A suspended account is not served.
fn serves(suspended: Option<Suspension>) -> Result<(), Unknown> {
    let Some(suspension) = suspended else { return Ok(()) };
    Err(Unknown::Session(SessionError::Suspended(suspension.reason)))
}

fn void(error: SessionError) -> Unknown {
    match error {
        SessionError::Void => Unknown::Invalid(error.to_string()),
        error => Unknown::Session(error),
    }
}

/// A valid key.
struct Held {
    row: ApiKeyRow,
    payer: AccountId,
    /// The suspension of its creator, if any.
    suspended: Option<Suspension>,
}

/// The key, if it is valid: it has not expired, and its creator is still in its team.
async fn holding(auth: &Authentication, hash: HashedToken) -> Result<Option<Held>, StoreError> {
    let now = auth.clock.now();
    auth.store
        .read(move |tables| {
            let found = tables.api_key_by_hash(&hash)?.filter(|row| now < row.expires_at);
            let Some(row) = found else { return Ok(None) };
            let Some(account) = tables.account(row.account)? else { return Ok(None) };
            let membership = tables.membership(row.account, row.team)?;
            let Some(membership) = membership.filter(|membership| membership.role().is_some())
            else {
                return Ok(None);
            };
            Ok(Some(Held { row, payer: membership.org.payer, suspended: account.suspended }))
        })
        .await
}

async fn note_use(auth: &Authentication, row: &ApiKeyRow) {
    let (id, now) = (row.id, auth.clock.now());
    if row.last_used_at.is_some_and(|last| now.duration_since(last) < NOTED_EACH) {
        return;
    }
    let noted: Result<(), StoreError> =
        auth.store.write(move |tables| tables.touch_api_key(id, now)).await;
    // A failed write must not fail the request.
    if let Err(error) = noted {
        tracing::warn!(error = %chain(&error), "cannot record the use of an API key");
    }
}
