//! What administrators see and change.

use buddo_shared::model::id::{AccountId, HostId};
use jiff::Timestamp;

use super::accounts::read_account;
use super::column::{get, millis, opt_millis, text};
use super::oauth::read_client;
use super::{Tx, params};
use crate::store::contract::{Account, Administration, Client, Result, Suspension, Tier};

impl Administration for Tx<'_> {
    fn accounts_page(&self, after: i64, limit: u32, text: Option<&str>) -> Result<Vec<Account>> {
        let sql = "SELECT * FROM accounts
                   WHERE registration_number > ?1 AND deleted_at IS NULL AND (?3 IS NULL
                       OR email_key LIKE ?3 ESCAPE '\\' OR username_key LIKE ?3 ESCAPE '\\')
                   ORDER BY registration_number LIMIT ?2";
        let pattern = text.map(containing);
        self.all("list accounts", sql, params![after, limit, pattern], read_account)
    }

    fn count_admins(&self) -> Result<u32> {
        let sql = "SELECT count(*) AS admins FROM accounts
                   WHERE is_admin = 1 AND suspended_at IS NULL AND deleted_at IS NULL";
        let admins = self.first("count administrators", sql, [], |row| get(row, "admins"))?;
        Ok(admins.unwrap_or_default())
    }

    fn set_suspended(&mut self, account: AccountId, to: Option<&Suspension>) -> Result<()> {
        let sql = "UPDATE accounts SET suspended_at = ?2, suspended_for = ?3 WHERE id = ?1";
        let since = to.map(|suspension| millis(suspension.since));
        let reason = to.and_then(|suspension| suspension.reason.as_deref());
        self.run("suspend an account", sql, params![text(&account), since, reason]).map(drop)
    }

    fn set_admin(&mut self, account: AccountId, is_admin: bool) -> Result<()> {
        let sql = "UPDATE accounts SET is_admin = ?2 WHERE id = ?1";
        self.run("change who administers", sql, params![text(&account), is_admin]).map(drop)
    }

    fn insert_tier(&mut self, tier: &Tier) -> Result<()> {
        let sql = "INSERT INTO tiers (id, slug, name, payment_method, monthly_cost_points,
                       monthly_cost_sats, memory_limit_mb, cpu_limit_millicores, pids_limit,
                       custom_domain_allowed, monthly_stipend_points, ad_reach_multiplier,
                       max_per_account, open_to_all, position)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                       (SELECT coalesce(max(position), 0) + 1 FROM tiers))";
        let params = params![
            tier.id,
            tier.slug.as_str(),
            tier.name,
            tier.payment_method,
            tier.monthly_cost_points,
            tier.monthly_cost_sats,
            tier.limits.memory_mb,
            tier.limits.cpu_millicores,
            tier.limits.pids,
            tier.custom_domain_allowed,
            tier.monthly_stipend_points,
            tier.ad_reach_multiplier,
            tier.max_per_account,
            tier.open_to_all,
        ];
        self.run("add a tier", sql, params).map(drop)
    }

    fn update_tier(&mut self, tier: &Tier) -> Result<()> {
        let sql = "UPDATE tiers SET name = ?2, monthly_cost_points = ?3, monthly_cost_sats = ?4,
                       memory_limit_mb = ?5, cpu_limit_millicores = ?6, pids_limit = ?7,
                       custom_domain_allowed = ?8, monthly_stipend_points = ?9,
                       ad_reach_multiplier = ?10, max_per_account = ?11, open_to_all = ?12
                   WHERE id = ?1";
        let params = params![
            tier.id,
            tier.name,
            tier.monthly_cost_points,
            tier.monthly_cost_sats,
            tier.limits.memory_mb,
            tier.limits.cpu_millicores,
            tier.limits.pids,
            tier.custom_domain_allowed,
            tier.monthly_stipend_points,
            tier.ad_reach_multiplier,
            tier.max_per_account,
            tier.open_to_all,
        ];
        self.run("change a tier", sql, params).map(drop)
    }

    fn allow_tier(&mut self, tier_id: &str, account: AccountId, at: Timestamp) -> Result<bool> {
        let sql = "INSERT INTO tier_grants (tier_id, account_id, granted_at) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO NOTHING";
        let params = params![tier_id, text(&account), millis(at)];
        Ok(self.run("allow a tier", sql, params)? > 0)
    }

    fn deny_tier(&mut self, tier_id: &str, account: AccountId) -> Result<bool> {
        let sql = "DELETE FROM tier_grants WHERE tier_id = ?1 AND account_id = ?2";
        Ok(self.run("disallow a tier", sql, params![tier_id, text(&account)])? > 0)
    }

    fn tier_accounts(&self, tier_id: &str, after: i64, limit: u32) -> Result<Vec<Account>> {
        let sql = "SELECT a.* FROM tier_grants g JOIN accounts a ON a.id = g.account_id
                   WHERE g.tier_id = ?1 AND a.registration_number > ?2
                   ORDER BY a.registration_number LIMIT ?3";
        self.all("list who may use a tier", sql, params![tier_id, after, limit], read_account)
    }

    fn set_drained(&mut self, host: HostId, since: Option<Timestamp>) -> Result<()> {
        let sql = "UPDATE hosts SET drained_at = ?2 WHERE id = ?1";
        self.run("drain a host", sql, params![text(&host), opt_millis(since)]).map(drop)
    }

    fn clients_page(&self, after: &str, limit: u32) -> Result<Vec<Client>> {
        let sql = "SELECT * FROM oauth_clients WHERE owner_id IS NOT NULL AND client_id > ?1
                   ORDER BY client_id LIMIT ?2";
        self.all("list apps", sql, params![after, limit], read_client)
    }
}

/// A pattern of LIKE for texts that contain this one. Keys are in lower case and so is the pattern,
/// since only SQLite ignores case.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    #[test]
    fn wildcards_are_looked_for_as_they_are() {
        assert_eq!(super::containing("A_b%\\"), "%a\\_b\\%\\\\%");
    }
}
