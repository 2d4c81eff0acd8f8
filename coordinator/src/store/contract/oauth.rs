//! OAuth clients, grants, codes and tokens.

use buddo_shared::id::AccountId;
use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use crate::domain::identity::HashedToken;
use crate::domain::identity::pkce::Challenge;
use crate::domain::identity::{RedirectUri, Scopes};

/// An app that acts for accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub id: Uuid,
    /// Public name in protocol messages.
    pub client_id: String,
    /// Who made it; `None`: built in.
    pub owner: Option<AccountId>,
    /// Hash of its secret; `None`: a public client.
    pub secret: Option<HashedToken>,
    /// Hash of the secret before that, and until when it is still taken.
    pub old_secret: Option<(HashedToken, Timestamp)>,
    pub name: String,
    pub description: Option<String>,
    pub logo_url: Option<String>,
    pub website_url: Option<String>,
    /// Where codes may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// What it may ask for.
    pub scopes: Scopes,
    /// Whether it may serve others than its owner.
    pub is_approved: bool,
    /// Whether it may be used from devices without a browser (RFC 8628).
    pub device_flow: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Client {
    /// Whether it may act for this account, if that allows it.
    pub fn serves(&self, account: AccountId) -> bool {
        self.is_approved || self.owner == Some(account)
    }
}

/// One consent: all tokens that come of it end with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: Uuid,
    pub client_id: String,
    pub account: AccountId,
    pub scopes: Scopes,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub hash: HashedToken,
    pub grant: Uuid,
    /// Where it was sent, as the request wrote it.
    pub redirect_uri: String,
    /// What its verifier must hash to.
    pub challenge: Challenge,
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Opens doors, for a short time.
    Access,
    /// Brings new tokens, once.
    Refresh,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub hash: HashedToken,
    pub kind: TokenKind,
    pub grant: Uuid,
    /// What it is good for: the consent's scopes or fewer.
    pub scopes: Scopes,
    /// When it was made.
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// When a refresh token was exchanged.
    pub used_at: Option<Timestamp>,
}

pub trait OAuth {
    fn insert_client(&mut self, client: &Client) -> Result<()>;
    /// The client with this public name.
    fn client(&self, client_id: &str) -> Result<Option<Client>>;
    /// The clients of an account, oldest first, 100 at most.
    fn clients_of(&self, owner: AccountId) -> Result<Vec<Client>>;
    /// The clients that were made by accounts, oldest first, 1,000 at most.
    fn clients(&self) -> Result<Vec<Client>>;
    /// Sets the hash of a client's secret, and keeps the old one until a time.
    fn set_client_secret(
        &mut self,
        client_id: &str,
        secret: &HashedToken,
        old: Option<&(HashedToken, Timestamp)>,
    ) -> Result<()>;
    /// Sets where codes of a client may be sent.
    fn set_redirect_uris(&mut self, client_id: &str, uris: &[RedirectUri]) -> Result<()>;
    /// Sets whether a client may serve others than its owner.
    fn approve_client(&mut self, client_id: &str, is_approved: bool) -> Result<()>;
    /// Removes a client and all consents to it.
    fn delete_client(&mut self, client_id: &str) -> Result<()>;
    fn insert_grant(&mut self, grant: &Grant) -> Result<()>;
    /// The consent with this id.
    fn grant(&self, id: Uuid) -> Result<Option<Grant>>;
    /// Ends a consent and all that came of it.
    fn revoke_grant(&mut self, id: Uuid, at: Timestamp) -> Result<()>;
    fn insert_code(&mut self, code: &Code) -> Result<()>;
    /// The code with this hash, used or not.
    fn code(&self, hash: &HashedToken) -> Result<Option<Code>>;
    /// Notes that a code was used.
    fn use_code(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()>;
    fn insert_token(&mut self, token: &Token) -> Result<()>;
    /// The token with this hash and its consent, ended or not.
    fn token(&self, hash: &HashedToken) -> Result<Option<(Token, Grant)>>;
    /// Notes that a refresh token was exchanged.
    fn use_token(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()>;
    fn delete_token(&mut self, hash: &HashedToken) -> Result<()>;
    /// Forgets codes and tokens that ended by `now`, and consents of which nothing is left; `most` of
    /// each at most. How many it looked at: 0 when it is done.
    fn purge_oauth(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
