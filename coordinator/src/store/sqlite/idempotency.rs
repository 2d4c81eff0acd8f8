//! Kept answers.

use buddo_shared::id::AccountId;
use jiff::Timestamp;
use rusqlite::params;

use super::Tx;
use super::column::{get, millis, text};
use crate::store::contract::{Idempotency, Replay, Result};

impl Idempotency for Tx<'_> {
    fn replay(&self, account: AccountId, key: &str, since: Timestamp) -> Result<Option<Replay>> {
        let sql = "SELECT body_hash, answer FROM idempotency
                   WHERE account_id = ?1 AND key = ?2 AND at > ?3";
        self.first("look up an answer", sql, params![text(&account), key, millis(since)], |row| {
            Ok(Replay { body_hash: get(row, "body_hash")?, answer: get(row, "answer")? })
        })
    }

    fn keep_answer(
        &mut self,
        account: AccountId,
        key: &str,
        answer: &Replay,
        at: Timestamp,
        since: Timestamp,
    ) -> Result<()> {
        self.run("forget old answers", "DELETE FROM idempotency WHERE at <= ?1", [millis(since)])?;
        let sql = "INSERT INTO idempotency (account_id, key, body_hash, answer, at)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let params = params![text(&account), key, answer.body_hash, answer.answer, millis(at)];
        self.run("keep an answer", sql, params).map(drop)
    }
}
