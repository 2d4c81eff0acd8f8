//! Wrong passwords and codes, counted in memory until they go into the audit log together.
//!
//! Nothing is written while somebody waits for an answer: whether an address is anybody's must not
//! show in how long that takes. And nobody fills the log: what is written at a time is bounded, and
//! what goes beyond is counted as a whole.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use buddo_shared::id::AccountId;

/// Accounts that are told apart at a time.
pub const ACCOUNTS: usize = 100;

/// What was counted since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub accounts: HashMap<AccountId, u64>,
    /// Of addresses that are nobody's, and of accounts beyond [`ACCOUNTS`].
    pub others: u64,
}

#[derive(Debug, Default)]
pub struct Failures(Mutex<Counted>);

impl Failures {
    /// Counts one, of `account` if it is anybody's.
    pub fn note(&self, account: Option<AccountId>) {
        // Counts alone are behind the lock, so that a panic elsewhere leaves nothing half-done.
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = counted.accounts.len() >= ACCOUNTS;
        let known = account.filter(|id| !is_full || counted.accounts.contains_key(id));
        let count = match known {
            Some(account) => counted.accounts.entry(account).or_default(),
            None => &mut counted.others,
        };
        *count = count.saturating_add(1);
    }

    /// Takes what was counted, and begins anew.
    pub fn take(&self) -> Counted {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_is_counted_once_and_what_is_remembered_is_bounded() {
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
