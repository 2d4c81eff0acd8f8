//! The back-off for each kind of trouble, all in one place. Those that slow down guessing are part of
//! the rules in `auth::guesses`.

use std::time::Duration;

use buddo_runtime::backoff::Backoff;

/// A host without a session: 0.4 s, 0.8 s … 60 s, of which jitter takes up to half.
pub const HOST: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_mins(1));
/// The longest wait for an agent on a host that is up: it is most likely restarting, and a refused
/// connection costs nothing.
pub const AGENT_DOWN: Duration = Duration::from_secs(2);
/// A transaction that met a conflict: 5 ms, 10 ms … 100 ms. Short beside a commit's sync at first, and
/// all waits together stay below a quarter of a second.
pub const CONFLICT: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
/// A mail that was not sent: 15 s, 30 s … 1 h.
pub const MAIL: Backoff = Backoff::new(Duration::from_secs(15), Duration::from_hours(1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mails_pauses_grow_and_are_capped() {
        let (first, longest) = (Duration::from_secs(15), Duration::from_hours(1));
        for attempts in [0, 1, 5, 40, u32::MAX] {
            let whole = first.saturating_mul(2_u32.saturating_pow(attempts)).min(longest);
            for jitter in [0.0, 0.3, 1.0] {
                let pause = MAIL.delay(attempts, jitter);
                assert!(pause >= whole / 2 && pause <= whole, "{attempts}: {pause:?}");
            }
        }
    }
}
