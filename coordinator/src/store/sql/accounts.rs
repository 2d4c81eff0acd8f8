//! Accounts, verification links and browser sessions.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::column::{get, hash, millis, opt_time, parsed, text, time};
use super::query::expired;
use super::{Row, Tx, params};
use crate::domain::identity::{Email, HashedToken, StoredHash, Username};
use crate::store::contract::{
    Account, Accounts, BrowserSession, EmailToken, NewAccount, Result, StoreError, Suspension,
};

impl Accounts for Tx<'_> {
    fn account(&self, id: AccountId) -> Result<Option<Account>> {
        let sql = "SELECT * FROM accounts WHERE id = ?1 AND deleted_at IS NULL";
        self.first("look up an account", sql, [text(&id)], read_account)
    }

    fn account_by_email(&self, email: &Email) -> Result<Option<Account>> {
        let sql = "SELECT * FROM accounts WHERE email_key = ?1 AND deleted_at IS NULL";
        self.first("look up an account by mail address", sql, [email.key()], read_account)
    }

    fn is_username_taken(&self, username: &Username) -> Result<bool> {
        let sql = "SELECT 1 FROM accounts WHERE username_key = ?1";
        let found = self.first("look up a username", sql, [username.key()], |_| Ok(()))?;
        Ok(found.is_some())
    }

    fn account_by_referral(&self, code: &str) -> Result<Option<AccountId>> {
        let sql = "SELECT id FROM accounts WHERE referral_code = ?1 AND deleted_at IS NULL";
        self.first("look up a referral code", sql, [code], |row| parsed(row, "id"))
    }

    fn insert_account(&mut self, account: &NewAccount) -> Result<i64> {
        let sql = "INSERT INTO accounts (id, email, email_key, username, username_key, password,
                       referral_code, referred_by, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                   RETURNING registration_number";
        let params = params![
            text(&account.id),
            account.email.as_str(),
            account.email.key(),
            account.username.as_str(),
            account.username.key(),
            account.password.as_str(),
            account.referral_code,
            account.referred_by.as_ref().map(text),
            millis(account.created_at),
        ];
        self.only("make an account", sql, params, |row| get(row, "registration_number"))
    }

    fn confirm_email(&mut self, id: AccountId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE accounts SET email_verified_at = ?2
                   WHERE id = ?1 AND email_verified_at IS NULL";
        self.run("confirm a mail address", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn insert_email_token(&mut self, token: &EmailToken, keep: u32) -> Result<()> {
        let sql = "INSERT INTO email_tokens (hash, account_id, email_key, expires_at)
                   VALUES (?1, ?2, ?3, ?4)";
        let account = text(&token.account);
        let expires_at = millis(token.expires_at);
        let params = params![token.hash.as_bytes(), account, token.email_key, expires_at];
        self.run("store a verification link", sql, params)?;
        let sql = "DELETE FROM email_tokens WHERE account_id = ?1 AND hash NOT IN
                       (SELECT hash FROM email_tokens WHERE account_id = ?1
                        ORDER BY expires_at DESC, hash LIMIT ?2)";
        self.run("delete older verification links", sql, params![account, keep]).map(drop)
    }

    fn take_email_token(&mut self, hash: &HashedToken) -> Result<Option<EmailToken>> {
        let sql = "SELECT * FROM email_tokens WHERE hash = ?1";
        let token = self.first("look up a verification link", sql, [hash.as_bytes()], |row| {
            Ok(EmailToken {
                hash: super::column::hash(row, "hash")?,
                account: parsed(row, "account_id")?,
                email_key: get(row, "email_key")?,
                expires_at: time(row, "expires_at")?,
            })
        })?;
        let sql = "DELETE FROM email_tokens WHERE hash = ?1";
        self.run("use a verification link", sql, [hash.as_bytes()])?;
        Ok(token)
    }

    fn insert_session(&mut self, session: &BrowserSession) -> Result<()> {
        let sql = "INSERT INTO browser_sessions (hash, account_id, token_epoch, expires_at)
                   VALUES (?1, ?2, ?3, ?4)";
        let params = params![
            session.hash.as_bytes(),
            text(&session.account),
            session.token_epoch,
            millis(session.expires_at),
        ];
        self.run("store a browser's session", sql, params).map(drop)
    }

    fn session(&self, token: &HashedToken) -> Result<Option<BrowserSession>> {
        let sql = "SELECT * FROM browser_sessions WHERE hash = ?1";
        self.first("look up a browser's session", sql, [token.as_bytes()], |row| {
            Ok(BrowserSession {
                hash: hash(row, "hash")?,
                account: parsed(row, "account_id")?,
                token_epoch: get(row, "token_epoch")?,
                expires_at: time(row, "expires_at")?,
            })
        })
    }

    fn purge_account_tokens(&mut self, now: Timestamp, most: u32) -> Result<usize> {
        let now = millis(now);
        let links = expired!("email_tokens", "hash");
        let links = self.run("delete old verification links", links, params![now, most])?;
        let sessions = expired!("browser_sessions", "hash");
        Ok(links + self.run("delete old sessions", sessions, params![now, most])?)
    }
}

pub(super) fn read_account(row: &Row<'_>) -> std::result::Result<Account, StoreError> {
    Ok(Account {
        id: parsed(row, "id")?,
        registration_number: get(row, "registration_number")?,
        email: parsed::<Email>(row, "email")?,
        username: parsed::<Username>(row, "username")?,
        password: StoredHash::from_stored(get(row, "password")?),
        referral_code: get(row, "referral_code")?,
        tier: get(row, "tier")?,
        points: get(row, "points")?,
        is_admin: get(row, "is_admin")?,
        email_verified_at: opt_time(row, "email_verified_at")?,
        token_epoch: get(row, "token_epoch")?,
        totp_enabled: opt_time(row, "totp_enabled_at")?.is_some(),
        suspended: match opt_time(row, "suspended_at")? {
            Some(since) => Some(Suspension { since, reason: get(row, "suspended_for")? }),
            None => None,
        },
        created_at: time(row, "created_at")?,
    })
}
