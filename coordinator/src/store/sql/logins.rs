//! Logins, and the tokens made with them.

use buddo_shared::model::id::AccountId;
use buddo_shared::model::id::CLI_CLIENT_ID;
use jiff::Timestamp;
use uuid::Uuid;

use super::column::{get, millis, parsed, text, time};
use super::query::expired;
use super::{Row, Tx, params};
use crate::domain::identity::HashedToken;
use crate::store::contract::{LoginRow, Logins, Result};

impl Logins for Tx<'_> {
    fn insert_login(&mut self, login: &LoginRow, keep: u32) -> Result<()> {
        let sql = "INSERT INTO logins (id, account_id, created_at, last_used_at, expires_at,
                       address, user_agent)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let account = text(&login.account);
        let params = params![
            text(&login.id),
            account,
            millis(login.created_at),
            millis(login.last_used_at),
            millis(login.expires_at),
            login.address,
            login.user_agent,
        ];
        self.run("store a login", sql, params)?;
        let sql = "DELETE FROM logins WHERE account_id = ?1 AND id NOT IN
                       (SELECT id FROM logins WHERE account_id = ?1
                        ORDER BY last_used_at DESC, created_at DESC, id LIMIT ?2)";
        self.run("delete unused logins", sql, params![account, keep]).map(drop)
    }

    fn login(&self, id: Uuid) -> Result<Option<LoginRow>> {
        self.first("look up a login", "SELECT * FROM logins WHERE id = ?1", [text(&id)], read)
    }

    fn insert_web_session(&mut self, hash: &HashedToken, login: Uuid) -> Result<()> {
        let sql = "INSERT INTO web_sessions (hash, login_id) VALUES (?1, ?2)";
        self.run("store a browser's login", sql, params![hash.as_bytes(), text(&login)]).map(drop)
    }

    fn web_session(&self, hash: &HashedToken) -> Result<Option<LoginRow>> {
        let sql = "SELECT l.* FROM web_sessions w JOIN logins l ON l.id = w.login_id
                   WHERE w.hash = ?1";
        self.first("look up a browser's login", sql, [hash.as_bytes()], read)
    }

    fn logins_of(&self, account: AccountId, now: Timestamp) -> Result<Vec<LoginRow>> {
        let sql = "SELECT * FROM logins WHERE account_id = ?1 AND expires_at > ?2
                   ORDER BY last_used_at DESC, created_at DESC, id";
        self.all("list logins", sql, params![text(&account), millis(now)], read)
    }

    fn touch_login(&mut self, id: Uuid, at: Timestamp) -> Result<()> {
        let sql = "UPDATE logins SET last_used_at = ?2 WHERE id = ?1 AND last_used_at < ?2";
        self.run("record that a login was used", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn tie_grant(&mut self, grant: Uuid, login: Uuid) -> Result<()> {
        let sql = "INSERT INTO login_grants (grant_id, login_id) VALUES (?1, ?2)";
        self.run("tie a grant to its login", sql, params![text(&grant), text(&login)]).map(drop)
    }

    fn end_login(&mut self, account: AccountId, id: Uuid, at: Timestamp) -> Result<bool> {
        let sql = "UPDATE oauth_grants SET revoked_at = ?3
                   WHERE account_id = ?1 AND revoked_at IS NULL AND id IN
                       (SELECT grant_id FROM login_grants WHERE login_id = ?2)";
        let (account, id) = (text(&account), text(&id));
        self.run("end the grants of a login", sql, params![account, id, millis(at)])?;
        let sql = "DELETE FROM logins WHERE account_id = ?1 AND id = ?2";
        self.run("end a login", sql, params![account, id]).map(|rows| rows > 0)
    }

    fn end_other_logins(&mut self, account: AccountId, keep: Uuid, at: Timestamp) -> Result<usize> {
        let (account, keep) = (text(&account), text(&keep));
        let sql = "UPDATE oauth_grants SET revoked_at = ?3
                   WHERE account_id = ?1 AND client_id = ?4 AND revoked_at IS NULL AND id NOT IN
                       (SELECT grant_id FROM login_grants WHERE login_id = ?2)";
        let params = params![account, keep, millis(at), CLI_CLIENT_ID];
        self.run("end the grants of other logins", sql, params)?;
        let sql = "DELETE FROM browser_sessions WHERE account_id = ?1";
        self.run("end browsers' sessions", sql, [&account])?;
        let sql = "DELETE FROM logins WHERE account_id = ?1 AND id <> ?2";
        self.run("end other logins", sql, params![account, keep])
    }

    fn end_keys_and_apps(&mut self, account: AccountId, at: Timestamp) -> Result<()> {
        let account = text(&account);
        let sql = "UPDATE oauth_grants SET revoked_at = ?2
                   WHERE account_id = ?1 AND client_id <> ?3 AND revoked_at IS NULL";
        let params = params![account, millis(at), CLI_CLIENT_ID];
        self.run("end what apps were allowed", sql, params)?;
        let sql = "DELETE FROM api_keys WHERE account_id = ?1";
        self.run("end every key", sql, [&account]).map(drop)
    }

    fn end_everything(&mut self, account: AccountId, at: Timestamp) -> Result<()> {
        let account = text(&account);
        let sql = "UPDATE oauth_grants SET revoked_at = ?2
                   WHERE account_id = ?1 AND revoked_at IS NULL";
        self.run("end every grant", sql, params![account, millis(at)])?;
        let sql = "DELETE FROM browser_sessions WHERE account_id = ?1";
        self.run("end browsers' sessions", sql, [&account])?;
        self.run("end every key", "DELETE FROM api_keys WHERE account_id = ?1", [&account])?;
        self.run("end every login", "DELETE FROM logins WHERE account_id = ?1", [&account])?;
        let sql = "UPDATE accounts SET token_epoch = token_epoch + 1 WHERE id = ?1";
        self.run("void signed tokens", sql, [&account]).map(drop)
    }

    fn end_all_sessions(&mut self, at: Timestamp) -> Result<()> {
        let operation = "end everybody's sessions";
        for sql in END_ALL {
            self.run(operation, sql, [])?;
        }
        let sql = "UPDATE oauth_grants SET revoked_at = ?1 WHERE revoked_at IS NULL";
        self.run(operation, sql, [millis(at)]).map(drop)
    }

    fn purge_logins(&mut self, now: Timestamp, most: u32) -> Result<usize> {
        let sql = expired!("logins", "id");
        self.run("delete old logins", sql, params![millis(now), most])
    }
}

/// Everything that gives access, or allows gaining it, except passwords and one-time codes.
/// Browsers' cookies (`web_sessions`) are deleted with their logins.
const END_ALL: [&str; 10] = [
    "DELETE FROM browser_sessions",
    "DELETE FROM logins",
    "DELETE FROM api_keys",
    "DELETE FROM invitations",
    "DELETE FROM mailed_links",
    "DELETE FROM email_tokens",
    "DELETE FROM oauth_codes",
    "DELETE FROM oauth_device_codes",
    "DELETE FROM join_tokens",
    "UPDATE accounts SET token_epoch = token_epoch + 1",
];

fn read(row: &Row<'_>) -> Result<LoginRow> {
    Ok(LoginRow {
        id: parsed(row, "id")?,
        account: parsed(row, "account_id")?,
        created_at: time(row, "created_at")?,
        last_used_at: time(row, "last_used_at")?,
        expires_at: time(row, "expires_at")?,
        address: get(row, "address")?,
        user_agent: get(row, "user_agent")?,
    })
}
