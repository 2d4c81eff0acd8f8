//! Logins, and the tokens made with them.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use crate::domain::identity::HashedToken;

/// A login: its JWT is void without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// Identifier, which the JWT carries.
    pub id: Uuid,
    pub account: AccountId,
    pub created_at: Timestamp,
    /// When it was last used, to within some minutes.
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    /// The client's address.
    pub address: String,
    /// The client program as it names itself.
    pub user_agent: Option<String>,
}

pub trait Logins {
    /// Stores a login, and keeps at most `keep` of the account in all: those unused for longest are
    /// deleted.
    fn insert_login(&mut self, login: &LoginRow, keep: u32) -> Result<()>;
    /// The login with this id.
    fn login(&self, id: Uuid) -> Result<Option<LoginRow>>;
    /// Links a browser's cookie to a login.
    fn insert_web_session(&mut self, hash: &HashedToken, login: Uuid) -> Result<()>;
    /// The login of a browser's cookie.
    fn web_session(&self, hash: &HashedToken) -> Result<Option<LoginRow>>;
    /// The account's logins that have not expired by `now`, last used first.
    fn logins_of(&self, account: AccountId, now: Timestamp) -> Result<Vec<LoginRow>>;
    /// Records that a login was used.
    fn touch_login(&mut self, id: Uuid, at: Timestamp) -> Result<()>;
    /// Ties a grant to the login it was made with: it ends with it.
    fn tie_grant(&mut self, grant: Uuid, login: Uuid) -> Result<()>;
    /// Ends one login of the account and the grants tied to it; returns whether it existed.
    fn end_login(&mut self, account: AccountId, id: Uuid, at: Timestamp) -> Result<bool>;
    /// Ends all logins but `keep`, all browser sessions, and all grants of the built-in CLI that
    /// are not tied to `keep`. Consents to other apps are kept. Returns how many logins ended.
    fn end_other_logins(&mut self, account: AccountId, keep: Uuid, at: Timestamp) -> Result<usize>;
    /// Ends all API keys of the account, and all its grants to apps other than the built-in CLI.
    fn end_keys_and_apps(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Ends all logins, browser sessions, grants and API keys of the account, and voids signed
    /// tokens.
    fn end_everything(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Ends all logins, sessions, grants, API keys, invitations, links and codes of all accounts,
    /// and voids signed tokens: a database from a backup does not know which were ended after it
    /// was made.
    fn end_all_sessions(&mut self, at: Timestamp) -> Result<()>;
    /// Deletes logins that expired by `now`, at most `most`; returns how many.
    fn purge_logins(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
