//! What administrators see and change.

use buddo_shared::id::{AccountId, HostId};
use jiff::Timestamp;

use super::{Account, Client, Result, Suspension, Tier};

/// Access to what only administrators may do.
pub trait Administration {
    /// `limit` accounts from the one after this registration number on; only those whose address
    /// or name holds `text`, where it is given.
    fn accounts_page(&self, after: i64, limit: u32, text: Option<&str>) -> Result<Vec<Account>>;
    /// How many accounts administer the platform and are not suspended.
    fn count_admins(&self) -> Result<u32>;
    /// Suspends an account, or takes that back.
    fn set_suspended(&mut self, account: AccountId, to: Option<&Suspension>) -> Result<()>;
    /// Makes an account an administrator, or takes that back.
    fn set_admin(&mut self, account: AccountId, is_admin: bool) -> Result<()>;
    /// Adds a tier, after all others.
    fn insert_tier(&mut self, tier: &Tier) -> Result<()>;
    /// Changes a tier: all but its id and its slug.
    fn update_tier(&mut self, tier: &Tier) -> Result<()>;
    /// Lets an account deploy on a tier that is not open to all; whether that is new.
    fn allow_tier(&mut self, tier_id: &str, account: AccountId, at: Timestamp) -> Result<bool>;
    /// Takes that back; whether there was something to take back.
    fn deny_tier(&mut self, tier_id: &str, account: AccountId) -> Result<bool>;
    /// `limit` accounts that were allowed a tier, from the one after this registration number on.
    fn tier_accounts(&self, tier_id: &str, after: i64, limit: u32) -> Result<Vec<Account>>;
    /// Lets a host get no further deployments, or takes that back.
    fn set_drained(&mut self, host: HostId, since: Option<Timestamp>) -> Result<()>;
    /// `limit` apps that accounts made, from the one after this client id on.
    fn clients_page(&self, after: &str, limit: u32) -> Result<Vec<Client>>;
}
