//! Which apps may act for an account.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::column::{get, millis, text, time};
use super::oauth::read_client;
use super::{Tx, params};
use crate::domain::identity::UnknownScope;
use crate::store::contract::{Connection, Consents, Result, StoreError};

impl Consents for Tx<'_> {
    fn connections(&self, account: AccountId, now: Timestamp) -> Result<Vec<Connection>> {
        let sql = "SELECT c.*, min(g.created_at) AS since, max(t.issued_at) AS last_token_at,
                       string_agg(g.scopes, ' ') AS granted
                   FROM oauth_grants g
                   JOIN oauth_clients c ON c.client_id = g.client_id
                   JOIN oauth_tokens t ON t.grant_id = g.id
                   WHERE g.account_id = ?1 AND g.revoked_at IS NULL
                       AND t.expires_at > ?2 AND t.used_at IS NULL
                   GROUP BY c.id ORDER BY last_token_at DESC, c.id LIMIT 100";
        self.all("list connected apps", sql, params![text(&account), millis(now)], |row| {
            let granted: String = get(row, "granted")?;
            let scopes = granted
                .parse()
                .map_err(|error: UnknownScope| StoreError::corrupt("scopes")(error))?;
            Ok(Connection {
                client: read_client(row)?,
                scopes,
                since: time(row, "since")?,
                last_token_at: time(row, "last_token_at")?,
            })
        })
    }

    fn revoke_grants_of(
        &mut self,
        account: AccountId,
        client_id: Option<&str>,
        at: Timestamp,
    ) -> Result<usize> {
        let sql = "UPDATE oauth_grants SET revoked_at = ?3
                   WHERE account_id = ?1 AND (?2 IS NULL OR client_id = ?2)
                       AND revoked_at IS NULL";
        self.run("end consents", sql, params![text(&account), client_id, millis(at)])
    }

    fn revoke_grants_of_others(
        &mut self,
        client_id: &str,
        owner: Option<AccountId>,
        at: Timestamp,
    ) -> Result<usize> {
        let sql = "UPDATE oauth_grants SET revoked_at = ?3
                   WHERE client_id = ?1 AND account_id IS DISTINCT FROM ?2 AND revoked_at IS NULL";
        let owner = owner.as_ref().map(text);
        self.run("end consents", sql, params![client_id, owner, millis(at)])
    }

    fn keep_newest_grants(
        &mut self,
        account: AccountId,
        client_id: &str,
        keep: u32,
    ) -> Result<usize> {
        let sql = "DELETE FROM oauth_grants
                   WHERE account_id = ?1 AND client_id = ?2 AND id NOT IN
                       (SELECT id FROM oauth_grants WHERE account_id = ?1 AND client_id = ?2
                        ORDER BY seq DESC LIMIT ?3)";
        self.run("delete old consents", sql, params![text(&account), client_id, keep])
    }
}
