//! Stored answers for retried requests (`Idempotency-Key`).

use buddo_shared::model::id::AccountId;
use jiff::{SignedDuration, Timestamp};

use super::Result;

/// How long an answer is kept for a retry of its request.
pub const ANSWERS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The first request with a key, and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Keyed hash of the first request's body, which may hold secrets.
    pub body_hash: [u8; 32],
    /// Its result, as JSON.
    pub result: String,
}

/// Access to stored answers.
pub trait Idempotency {
    /// The result of this account's request with `key` since `since`.
    fn replay(&self, account: AccountId, key: &str, since: Timestamp) -> Result<Option<Replay>>;
    /// Stores an answer, replacing one for the same key from before `since`.
    fn keep_answer(
        &mut self,
        account: AccountId,
        key: &str,
        answer: &Replay,
        at: Timestamp,
        since: Timestamp,
    ) -> Result<()>;
    /// Deletes answers stored until `until`, at most `most`; returns how many.
    fn purge_answers(&mut self, until: Timestamp, most: u32) -> Result<usize>;
}
