//! What administrators list and change.

use buddo_shared::model::id::{AccountId, HostId};
use jiff::Timestamp;

use super::{Account, Client, Result, Suspension, Tier};

/// Access to operations of administrators only.
pub trait Administration {
    /// `limit` accounts after this registration number; if `text` is given, only those whose
    /// address or name contains it.
    fn accounts_page(&self, after: i64, limit: u32, text: Option<&str>) -> Result<Vec<Account>>;
    /// Number of administrators that are not suspended.
    fn count_admins(&self) -> Result<u32>;
    /// Suspends an account, or lifts the suspension.
    fn set_suspended(&mut self, account: AccountId, to: Option<&Suspension>) -> Result<()>;
    /// Makes an account an administrator, or revokes that.
    fn set_admin(&mut self, account: AccountId, is_admin: bool) -> Result<()>;
    /// Adds a tier as the last one.
    fn insert_tier(&mut self, tier: &Tier) -> Result<()>;
    /// Updates a tier, except for its id and slug.
    fn update_tier(&mut self, tier: &Tier) -> Result<()>;
    /// Allows an account to deploy on a closed tier; returns whether that is new.
    fn allow_tier(&mut self, tier_id: &str, account: AccountId, at: Timestamp) -> Result<bool>;
    /// Revokes that; returns whether it had been allowed.
    fn deny_tier(&mut self, tier_id: &str, account: AccountId) -> Result<bool>;
    /// `limit` accounts allowed on a tier, after this registration number.
    fn tier_accounts(&self, tier_id: &str, after: i64, limit: u32) -> Result<Vec<Account>>;
    /// Drains a host, or undoes that.
    fn set_drained(&mut self, host: HostId, since: Option<Timestamp>) -> Result<()>;
    /// `limit` apps made by accounts, after this client id.
    fn clients_page(&self, after: &str, limit: u32) -> Result<Vec<Client>>;
}
