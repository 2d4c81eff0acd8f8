//! Which apps may act for an account, all of its consents to one app together.

use buddo_shared::id::AccountId;
use jiff::Timestamp;

use super::{Client, Result};
use crate::domain::identity::Scopes;

/// An app that may act for an account now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub client: Client,
    /// What it may do, by all consents together.
    pub scopes: Scopes,
    /// When the oldest of them was given.
    pub since: Timestamp,
    /// When it last got a token.
    pub last_token_at: Timestamp,
}

/// Access to an account's consents.
pub trait Consents {
    /// The apps that hold a token of the account that can still be used, the one that got a token
    /// last first, 100 at most.
    fn connections(&self, account: AccountId, now: Timestamp) -> Result<Vec<Connection>>;
    /// Ends the account's consents, to one app or to all; how many there were.
    fn revoke_grants_of(
        &mut self,
        account: AccountId,
        client_id: Option<&str>,
        at: Timestamp,
    ) -> Result<usize>;
    /// Ends the consents to an app of all accounts but `owner`; how many there were.
    fn revoke_grants_of_others(
        &mut self,
        client_id: &str,
        owner: Option<AccountId>,
        at: Timestamp,
    ) -> Result<usize>;
    /// Forgets all but the newest `keep` consents of the account to an app.
    fn keep_newest_grants(
        &mut self,
        account: AccountId,
        client_id: &str,
        keep: u32,
    ) -> Result<usize>;
}
