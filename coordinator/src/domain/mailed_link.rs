//! How long mailed links work: the one place in the code. Mails, pages and refusals say what stands
//! here.

use std::fmt;

use jiff::SignedDuration;

/// The link that confirms a new account's address.
pub const VERIFICATION: Lifetime = Lifetime::of_hours(24);
/// Links that change an account: whoever reads the mail takes the account over.
pub const ACCOUNT_CHANGE: Lifetime = Lifetime::of_hours(1);
/// The link of an invitation.
pub const INVITATION: Lifetime = Lifetime::of_hours(7 * 24);

/// How long a link works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    hours: i64,
}

impl Lifetime {
    const fn of_hours(hours: i64) -> Self {
        Self { hours }
    }

    /// As a duration.
    pub const fn duration(self) -> SignedDuration {
        SignedDuration::from_hours(self.hours)
    }
}

/// In words: `one hour`, `24 hours`, `7 days`.
impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hours {
            1 => f.write_str("one hour"),
            hours if hours > 24 && hours % 24 == 0 => write!(f, "{} days", hours / 24),
            hours => write!(f, "{hours} hours"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_written_in_words() {
        let words = [1, 2, 24, 25, 48, 7 * 24].map(|hours| Lifetime::of_hours(hours).to_string());
        assert_eq!(words, ["one hour", "2 hours", "24 hours", "25 hours", "2 days", "7 days"]);
        assert_eq!(ACCOUNT_CHANGE.duration(), SignedDuration::from_hours(1));
    }
}
