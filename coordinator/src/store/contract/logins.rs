//! Logins, and what was given out on their strength.

use buddo_shared::id::AccountId;
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
    /// When it was last used, within some minutes.
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    /// The address that it came from.
    pub address: String,
    /// The program that it came from, as it named itself.
    pub user_agent: Option<String>,
}

pub trait Logins {
    /// Keeps a login, and at most `keep` of the account's in all: the longest unused go.
    fn insert_login(&mut self, login: &LoginRow, keep: u32) -> Result<()>;
    /// The login with this id.
    fn login(&self, id: Uuid) -> Result<Option<LoginRow>>;
    /// Lets a browser's cookie stand for a login.
    fn insert_web_session(&mut self, hash: &HashedToken, login: Uuid) -> Result<()>;
    /// The login that a browser's cookie stands for.
    fn web_session(&self, hash: &HashedToken) -> Result<Option<LoginRow>>;
    /// The account's logins that have not expired by `now`, last used first.
    fn logins_of(&self, account: AccountId, now: Timestamp) -> Result<Vec<LoginRow>>;
    /// Notes that a login was used.
    fn touch_login(&mut self, id: Uuid, at: Timestamp) -> Result<()>;
    /// Notes that the grant was made on the strength of this login: it ends with it.
    fn tie_grant(&mut self, grant: Uuid, login: Uuid) -> Result<()>;
    /// Ends one login of the account and the grants tied to it; whether there was one.
    fn end_login(&mut self, account: AccountId, id: Uuid, at: Timestamp) -> Result<bool>;
    /// Ends every login but `keep`, every browser's session, and every grant of the built-in CLI
    /// that is not tied to `keep`. What the owner allowed other apps stays. How many logins ended.
    fn end_other_logins(&mut self, account: AccountId, keep: Uuid, at: Timestamp) -> Result<usize>;
    /// Ends every API key of the account, and every grant that it gave another app than the built-in
    /// CLI.
    fn end_keys_and_apps(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Ends every login, browser's session, grant and API key of the account, and voids what was
    /// signed for any.
    fn end_everything(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Ends every login, session, grant, API key, invitation, link and code of everybody, and voids
    /// what was signed for any: a database from a backup knows nothing of those that were ended
    /// after it.
    fn end_all_sessions(&mut self, at: Timestamp) -> Result<()>;
    /// Forgets logins that ended by `now`, `most` at most; how many.
    fn purge_logins(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
