//! Which tokens were valid recently, and whose they are: lets a request be counted before its token
//! is looked up. Nothing is admitted because of this; each token is still looked up each time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use buddo_runtime::bounded_map::BoundedMap;
use buddo_shared::model::id::AccountId;

/// Tokens remembered at most, about 5 MB; those longest unused are dropped first.
const MOST: usize = 50_000;

/// A token as it is remembered: what is in memory grants no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a token's text.
    pub fn of(text: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(hash)
    }
}

/// Whose a token is. Not the budget it counts against: one token is used on routes with several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// An account, or one of its programs.
    Account(AccountId),
    /// An API key of a team that an account pays for.
    Payer(AccountId),
}

/// Tokens that were valid recently.
#[derive(Debug)]
pub struct ShownLately(Mutex<BoundedMap<Fingerprint, Who>>);

impl Default for ShownLately {
    fn default() -> Self {
        Self(Mutex::new(BoundedMap::new(MOST)))
    }
}

impl ShownLately {
    /// Whose it was at its last look-up.
    pub fn get(&self, token: &Fingerprint) -> Option<Who> {
        self.held().get(token).copied()
    }

    pub fn note(&self, token: Fingerprint, who: Who) {
        self.held().insert(token, who);
    }

    pub fn forget(&self, token: &Fingerprint) {
        self.held().remove(token);
    }

    /// Only whole entries are behind the lock, so a panic elsewhere cannot leave them half-updated.
    fn held(&self) -> MutexGuard<'_, BoundedMap<Fingerprint, Who>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_recently_used_entries_stay() {
        let lately = ShownLately::default();
        let who = Who::Account(AccountId::new(uuid::Uuid::from_u128(1)));
        let used = Fingerprint::of("used");
        for n in 0..2 * MOST {
            lately.note(Fingerprint::of(&n.to_string()), who);
            if n % 1000 == 0 {
                lately.note(used, who);
            }
        }
        assert!(lately.held().len() <= MOST);
        assert_eq!(lately.get(&used), Some(who));
        assert_eq!(lately.get(&Fingerprint::of("0")), None);
        lately.forget(&used);
        assert_eq!(lately.get(&used), None);
    }
}
