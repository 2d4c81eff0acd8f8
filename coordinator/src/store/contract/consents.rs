//! Apps that may act for an account, with all consents to one app combined.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::{Client, Result};
use crate::domain::identity::Scopes;

/// An app that may act for an account now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub client: Client,
    /// Union of the scopes of all consents.
    pub scopes: Scopes,
    /// When the oldest of them was given.
    pub since: Timestamp,
    /// When it last got a token.
    pub last_token_at: Timestamp,
}

/// Access to an account's consents.
pub trait Consents {
    /// The apps that hold a valid token of the account, the one with the newest token first, at
    /// most 100.
    fn connections(&self, account: AccountId, now: Timestamp) -> Result<Vec<Connection>>;
    /// Ends the account's consents, to one app or to all; returns how many.
    fn revoke_grants_of(
        &mut self,
        account: AccountId,
        client_id: Option<&str>,
        at: Timestamp,
    ) -> Result<usize>;
    /// Ends the consents to an app of all accounts but `owner`; returns how many.
    fn revoke_grants_of_others(
        &mut self,
        client_id: &str,
        owner: Option<AccountId>,
        at: Timestamp,
    ) -> Result<usize>;
    /// Deletes all but the newest `keep` consents of the account to an app, in the order in which
    /// they were given: by their times, one given just now could be the oldest, after the clock was
    /// set back.
    fn keep_newest_grants(
        &mut self,
        account: AccountId,
        client_id: &str,
        keep: u32,
    ) -> Result<usize>;
}
