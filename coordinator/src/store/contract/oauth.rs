//! OAuth clients, grants, codes and tokens.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use crate::domain::identity::pkce::Challenge;
use crate::domain::identity::{HashedToken, RedirectUri, Scopes};

/// An app that acts for accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub id: Uuid,
    /// Public name in protocol messages.
    pub client_id: String,
    /// The account that made it; `None`: built in.
    pub owner: Option<AccountId>,
    /// Hash of its secret; `None`: a public client.
    pub secret: Option<HashedToken>,
    /// Hash of the previous secret, and until when it is accepted.
    pub old_secret: Option<(HashedToken, Timestamp)>,
    pub name: String,
    pub description: Option<String>,
    pub logo_url: Option<String>,
    pub website_url: Option<String>,
    /// The registered redirect URIs.
    pub redirect_uris: Vec<RedirectUri>,
    /// The scopes it may request.
    pub scopes: Scopes,
    /// Whether it may serve users other than its owner.
    pub is_approved: bool,
    /// Whether it may be used from devices without a browser (RFC 8628).
    pub device_flow: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Client {
    /// Whether it may act for this account, given its consent.
    pub fn serves(&self, account: AccountId) -> bool {
        self.is_approved || self.owner == Some(account)
    }
}

/// One consent: all its tokens end with it.
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
    /// The redirect URI of the request, verbatim.
    pub redirect_uri: String,
    /// The PKCE challenge that its verifier must match.
    pub challenge: Challenge,
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Grants access, for a short time.
    Access,
    /// Can be exchanged for new tokens, once.
    Refresh,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub hash: HashedToken,
    pub kind: TokenKind,
    pub grant: Uuid,
    /// Its scopes: those of the consent or fewer.
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
    /// The clients of an account, oldest first, at most 100.
    fn clients_of(&self, owner: AccountId) -> Result<Vec<Client>>;
    /// The clients made by accounts, oldest first, at most 1,000.
    fn clients(&self) -> Result<Vec<Client>>;
    /// Sets the hash of a client's secret, and keeps the old one valid until a time.
    fn set_client_secret(
        &mut self,
        client_id: &str,
        secret: &HashedToken,
        old: Option<&(HashedToken, Timestamp)>,
    ) -> Result<()>;
    /// Sets the redirect URIs of a client.
    fn set_redirect_uris(&mut self, client_id: &str, uris: &[RedirectUri]) -> Result<()>;
    /// Sets whether a client may serve users other than its owner.
    fn approve_client(&mut self, client_id: &str, is_approved: bool) -> Result<()>;
    /// Removes a client and all consents to it.
    fn delete_client(&mut self, client_id: &str) -> Result<()>;
    fn insert_grant(&mut self, grant: &Grant) -> Result<()>;
    /// The consent with this id.
    fn grant(&self, id: Uuid) -> Result<Option<Grant>>;
    /// Ends a consent and all its tokens.
    fn revoke_grant(&mut self, id: Uuid, at: Timestamp) -> Result<()>;
    fn insert_code(&mut self, code: &Code) -> Result<()>;
    /// The code with this hash, used or not.
    fn code(&self, hash: &HashedToken) -> Result<Option<Code>>;
    /// Records that a code was used.
    fn use_code(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()>;
    fn insert_token(&mut self, token: &Token) -> Result<()>;
    /// The token with this hash and its consent, valid or not.
    fn token(&self, hash: &HashedToken) -> Result<Option<(Token, Grant)>>;
    /// Records that a refresh token was exchanged.
    fn use_token(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()>;
    fn delete_token(&mut self, hash: &HashedToken) -> Result<()>;
    /// Deletes codes and tokens that expired by `now`, and consents with nothing left; at most
    /// `most` of each. Returns how many it examined: 0 when done.
    fn purge_oauth(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
