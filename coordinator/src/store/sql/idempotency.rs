//! Stored answers.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::column::{get, millis, text};
use super::{Tx, params};
use crate::store::contract::{Idempotency, Replay, Result, StoreError};

impl Idempotency for Tx<'_> {
    fn replay(&self, account: AccountId, key: &str, since: Timestamp) -> Result<Option<Replay>> {
        let sql = "SELECT body_hash, result FROM idempotency
                   WHERE account_id = ?1 AND key = ?2 AND at > ?3";
        self.first("look up an answer", sql, params![text(&account), key, millis(since)], |row| {
            Ok(Replay { body_hash: get(row, "body_hash")?, result: get(row, "result")? })
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
        // One that is still valid is not replaced, and that is an error: `replay` should have found
        // it.
        let sql = "INSERT INTO idempotency (account_id, key, body_hash, result, at)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (account_id, key) DO UPDATE
                   SET body_hash = excluded.body_hash, result = excluded.result, at = excluded.at
                   WHERE idempotency.at <= ?6";
        let (account, at, since) = (text(&account), millis(at), millis(since));
        let params = params![account, key, answer.body_hash, answer.result, at, since];
        match self.run("store an answer", sql, params)? {
            0 => Err(StoreError::operation("store an answer")("there is one that is still valid")),
            _ => Ok(()),
        }
    }

    fn purge_answers(&mut self, until: Timestamp, most: u32) -> Result<usize> {
        // By its index: the expired rows come first.
        let sql = "DELETE FROM idempotency WHERE (account_id, key) IN
                       (SELECT account_id, key FROM idempotency WHERE at <= ?1 LIMIT ?2)";
        self.run("delete old answers", sql, params![millis(until), most])
    }
}
