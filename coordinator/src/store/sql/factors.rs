//! The second factor.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::column::{get, millis, opt_time, text};
use super::{Tx, params};
use crate::domain::identity::HashedToken;
use crate::store::contract::{Factors, Result, StoreError, TotpRow};

impl Factors for Tx<'_> {
    fn totp(&self, account: AccountId) -> Result<Option<TotpRow>> {
        let sql = "SELECT totp_secret, totp_enabled_at FROM accounts
                   WHERE id = ?1 AND totp_secret IS NOT NULL AND deleted_at IS NULL";
        self.first("look up a second factor", sql, [text(&account)], |row| {
            Ok(TotpRow {
                sealed: get(row, "totp_secret")?,
                enabled_at: opt_time(row, "totp_enabled_at")?,
            })
        })
    }

    fn propose_totp(&mut self, account: AccountId, sealed: &[u8]) -> Result<()> {
        let sql = "UPDATE accounts SET totp_secret = ?2, totp_last_step = 0
                   WHERE id = ?1 AND totp_enabled_at IS NULL";
        self.run("store a second factor", sql, params![text(&account), sealed]).map(drop)
    }

    fn enable_totp(&mut self, account: AccountId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE accounts SET totp_enabled_at = ?2
                   WHERE id = ?1 AND totp_secret IS NOT NULL";
        self.run("enable a second factor", sql, params![text(&account), millis(at)]).map(drop)
    }

    fn use_totp_step(&mut self, account: AccountId, step: u64) -> Result<bool> {
        let step = i64::try_from(step).map_err(StoreError::corrupt("totp_last_step"))?;
        let sql = "UPDATE accounts SET totp_last_step = ?2 WHERE id = ?1 AND totp_last_step < ?2";
        self.run("use a one-time code", sql, params![text(&account), step]).map(|rows| rows > 0)
    }

    fn clear_totp(&mut self, account: AccountId) -> Result<()> {
        let sql = "UPDATE accounts
                   SET totp_secret = NULL, totp_enabled_at = NULL, totp_last_step = 0
                   WHERE id = ?1";
        self.run("delete a second factor", sql, [text(&account)])?;
        self.set_recovery_codes(account, &[])
    }

    fn set_recovery_codes(&mut self, account: AccountId, codes: &[HashedToken]) -> Result<()> {
        let account = text(&account);
        let sql = "DELETE FROM recovery_codes WHERE account_id = ?1";
        self.run("delete recovery codes", sql, [&account])?;
        let sql = "INSERT INTO recovery_codes (hash, account_id) VALUES (?1, ?2)";
        for code in codes {
            self.run("store a recovery code", sql, params![code.as_bytes(), account])?;
        }
        Ok(())
    }

    fn use_recovery_code(&mut self, account: AccountId, code: &HashedToken) -> Result<bool> {
        let sql = "DELETE FROM recovery_codes WHERE hash = ?1 AND account_id = ?2";
        self.run("use a recovery code", sql, params![code.as_bytes(), text(&account)])
            .map(|rows| rows > 0)
    }

    fn recovery_codes_left(&self, account: AccountId) -> Result<u32> {
        let sql = "SELECT count(*) AS remaining FROM recovery_codes WHERE account_id = ?1";
        let left =
            self.first("count recovery codes", sql, [text(&account)], |row| get(row, "remaining"))?;
        Ok(left.unwrap_or_default())
    }
}
