//! Wrong passwords and codes, counted in memory and written to the audit log in batches.
//!
//! Nothing is written while a client waits for an answer: response time must not reveal whether an
//! address has an account. And nobody can flood the log: each batch is bounded, and anything beyond
//! is counted as one total.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use buddo_shared::model::id::AccountId;

/// Accounts counted separately per batch.
pub const ACCOUNTS: usize = 100;

/// What was counted since the last batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub accounts: HashMap<AccountId, u64>,
    /// For addresses without an account, and for accounts beyond [`ACCOUNTS`].
    pub others: u64,
}

#[derive(Debug, Default)]
pub struct Failures(Mutex<Counted>);

impl Failures {
    /// Counts one failure, for `account` if the address has one.
    pub fn note(&self, account: Option<AccountId>) {
        // Only counters are behind the lock, so a panic elsewhere cannot leave them half-updated.
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = counted.accounts.len() >= ACCOUNTS;
        let known = account.filter(|id| !is_full || counted.accounts.contains_key(id));
        let count = match known {
            Some(account) => counted.accounts.entry(account).or_default(),
            None => &mut counted.others,
        };
        *count = count.saturating_add(1);
    }

    /// Takes the counts and resets them.
    pub fn take(&self) -> Counted {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn failures_are_counted_once_and_memory_is_bounded() {
        let failures = Failures::default();
        let account = |n: usize| AccountId::new(Uuid::from_u128(n as u128));
        for n in 0..1000 {
            failures.note(Some(account(n)));
        }
        failures.note(Some(account(0)));
        failures.note(None);
        let counted = failures.take();
        assert_eq!(counted.accounts.len(), ACCOUNTS);
        assert_eq!(counted.accounts[&account(0)], 2);
        assert_eq!(counted.accounts.values().sum::<u64>() + counted.others, 1002);
        assert_eq!(failures.take(), Counted::default());
    }
}
