//! Answers kept for requests that are sent again (`Idempotency-Key`).

use buddo_shared::id::AccountId;
use jiff::{SignedDuration, Timestamp};

use super::Result;

/// How long an answer is kept for a retry of its request.
pub const ANSWERS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// What the first request with a key was, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Keyed hash of the first request's body, which may hold secrets.
    pub body_hash: [u8; 32],
    /// What came of it, as JSON.
    pub result: String,
}

/// Access to kept answers.
pub trait Idempotency {
    /// What was answered to this account's request with `key` since `since`.
    fn replay(&self, account: AccountId, key: &str, since: Timestamp) -> Result<Option<Replay>>;
    /// Keeps an answer, in place of one to the same key from before `since`.
    fn keep_answer(
        &mut self,
        account: AccountId,
        key: &str,
        answer: &Replay,
        at: Timestamp,
        since: Timestamp,
    ) -> Result<()>;
    /// Forgets answers that were kept until `until` or before, `most` at most; how many it were.
    fn purge_answers(&mut self, until: Timestamp, most: u32) -> Result<usize>;
}
