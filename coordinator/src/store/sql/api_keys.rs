//! API keys.

use buddo_shared::model::id::{AccountId, ApiKeyId, TeamId};
use jiff::Timestamp;

use super::column::{get, hash, millis, opt_time, parsed, text, time};
use super::query::expired;
use super::{Row, Tx, params};
use crate::domain::identity::HashedToken;
use crate::store::contract::{ApiKeyRow, ApiKeys, Result};

impl ApiKeys for Tx<'_> {
    fn insert_api_key(&mut self, key: &ApiKeyRow) -> Result<()> {
        let sql = "INSERT INTO api_keys
                       (id, hash, team_id, account_id, name, hint, scopes, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let params = params![
            text(&key.id),
            key.hash.as_bytes(),
            text(&key.team),
            text(&key.account),
            key.name,
            key.hint,
            text(&key.scopes),
            millis(key.created_at),
            millis(key.expires_at),
        ];
        self.run("store a key", sql, params).map(drop)
    }

    fn api_key_by_hash(&self, hash: &HashedToken) -> Result<Option<ApiKeyRow>> {
        let sql = "SELECT * FROM api_keys WHERE hash = ?1";
        self.first("look up a key", sql, [hash.as_bytes()], read)
    }

    fn api_key(&self, team: TeamId, id: ApiKeyId) -> Result<Option<ApiKeyRow>> {
        let sql = "SELECT * FROM api_keys WHERE team_id = ?1 AND id = ?2";
        self.first("look up a key", sql, params![text(&team), text(&id)], read)
    }

    fn api_keys_of(&self, team: TeamId) -> Result<Vec<ApiKeyRow>> {
        let sql = "SELECT * FROM api_keys WHERE team_id = ?1 ORDER BY created_at DESC, id";
        self.all("list keys", sql, [text(&team)], read)
    }

    fn count_api_keys(&self, team: TeamId, now: Timestamp) -> Result<u32> {
        let sql = "SELECT count(*) AS number FROM api_keys
                   WHERE team_id = ?1 AND expires_at > ?2";
        self.count("count keys", sql, params![text(&team), millis(now)])
    }

    fn touch_api_key(&mut self, id: ApiKeyId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE api_keys SET last_used_at = ?2
                   WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)";
        self.run("record that a key was used", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn drop_api_key(&mut self, id: ApiKeyId) -> Result<bool> {
        let sql = "DELETE FROM api_keys WHERE id = ?1";
        self.run("end a key", sql, [text(&id)]).map(|rows| rows > 0)
    }

    fn drop_api_keys_by(&mut self, team: TeamId, account: AccountId) -> Result<usize> {
        let sql = "DELETE FROM api_keys WHERE team_id = ?1 AND account_id = ?2";
        self.run("end a member's keys", sql, params![text(&team), text(&account)])
    }

    fn purge_api_keys(&mut self, until: Timestamp, most: u32) -> Result<usize> {
        let sql = expired!("api_keys", "id");
        self.run("delete old keys", sql, params![millis(until), most])
    }
}

fn read(row: &Row<'_>) -> Result<ApiKeyRow> {
    Ok(ApiKeyRow {
        id: parsed(row, "id")?,
        hash: hash(row, "hash")?,
        team: parsed(row, "team_id")?,
        account: parsed(row, "account_id")?,
        name: get(row, "name")?,
        hint: get(row, "hint")?,
        scopes: parsed(row, "scopes")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        last_used_at: opt_time(row, "last_used_at")?,
    })
}
