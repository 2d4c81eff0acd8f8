//! A limit of `quota` events in any span of `window`. Pure: the caller supplies the time.
//!
//! Each key gathers its events in slots of a sixtieth of the window, each starting with an event. A
//! slot counts until its last event is a whole window old, so that no span of that length, wherever
//! it starts, holds more than the quota; the price is that quota may come back up to one slot late.
//! Slots on a common clock would do the same, but count over more than the window: the first answer
//! under a limit per minute would promise quota after 61 seconds.
//!
//! Keys live in a [`BoundedMap`], which is told to age once a window: memory is bounded, idle keys
//! go, and forgetting costs nothing per request.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use buddo_runtime::bounded_map::BoundedMap;

/// Slots that a window is divided into.
const SLOTS: u32 = 60;

/// How many events, in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    quota: u32,
    window: Duration,
}

/// A policy that would allow nothing or never end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate limit wants requests of at least 1 and seconds of 1 to 86400")]
pub struct PolicyError;

impl Policy {
    /// `quota` events per `seconds`.
    pub fn new(quota: u32, seconds: u32) -> Result<Self, PolicyError> {
        if quota == 0 || !(1..=86_400).contains(&seconds) {
            return Err(PolicyError);
        }
        Ok(Self { quota, window: Duration::from_secs(u64::from(seconds)) })
    }

    /// Events allowed in a window.
    pub fn quota(&self) -> u32 {
        self.quota
    }

    /// The same window with the quota multiplied.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        Self { quota: self.quota.saturating_mul(factor), ..self }
    }

    pub fn window(&self) -> Duration {
        self.window
    }

    fn slot_length(&self) -> Duration {
        self.window / SLOTS
    }
}

/// What a limiter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the event is allowed. If so, it has been counted.
    pub allowed: bool,
    /// Events left in the current window.
    pub remaining: u32,
    /// Until more are allowed; zero if none are counted.
    pub reset: Duration,
}

/// Events close together in time.
#[derive(Debug)]
struct Slot {
    first: Duration,
    last: Duration,
    count: u32,
}

/// Events of one key, oldest first.
#[derive(Debug, Default)]
struct Counts(VecDeque<Slot>);

impl Counts {
    fn forget(&mut self, now: Duration, window: Duration) {
        while self.0.front().is_some_and(|oldest| oldest.last + window <= now) {
            self.0.pop_front();
        }
    }

    fn total(&self) -> u32 {
        self.0.iter().fold(0, |sum, slot| sum.saturating_add(slot.count))
    }

    fn add(&mut self, now: Duration, length: Duration) {
        match self.0.back_mut() {
            Some(slot) if now.saturating_sub(slot.first) < length => {
                slot.last = now;
                slot.count = slot.count.saturating_add(1);
            }
            _ => self.0.push_back(Slot { first: now, last: now, count: 1 }),
        }
    }
}

/// Counts events by key under one policy.
#[derive(Debug)]
pub struct Limiter<K> {
    policy: Policy,
    counts: BoundedMap<K, Counts>,
    aged: Duration,
}

impl<K: Eq + Hash> Limiter<K> {
    /// A limiter that remembers at most `capacity` keys, and at least half as many.
    pub fn new(policy: Policy, capacity: usize) -> Self {
        Self { policy, counts: BoundedMap::new(capacity), aged: Duration::ZERO }
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Requests one event of `key` at `now`, a time that never goes back.
    pub fn check(&mut self, key: K, now: Duration) -> Decision {
        // After this long without ageing, every event of an old key has left its window. Ageing for
        // lack of room starts that time again, or keys would be forgotten while they count.
        let lifetime = self.policy.window + self.policy.slot_length();
        if now.saturating_sub(self.aged) > lifetime || self.counts.is_half_full() {
            self.counts.age();
            self.aged = now;
        }
        let Policy { quota, window } = self.policy;
        let counts = self.counts.entry(key);
        counts.forget(now, window);
        let used = counts.total();
        let allowed = used < quota;
        if allowed {
            counts.add(now, self.policy.slot_length());
        }
        let remaining = quota.saturating_sub(used).saturating_sub(u32::from(allowed));
        let free_at = counts.0.front().map_or(Duration::ZERO, |oldest| oldest.last + window);
        Decision { allowed, remaining, reset: free_at.saturating_sub(now) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn invalid_policies_are_refused() {
        assert!(Policy::new(0, 60).is_err());
        assert!(Policy::new(1, 0).is_err());
        assert!(Policy::new(1, 86_401).is_err());
    }

    #[test]
    fn counts_down_then_refuses_then_recovers() {
        let mut limiter = Limiter::new(Policy::new(2, 60).unwrap(), 10);
        let first = limiter.check("a", secs(0));
        assert_eq!((first.allowed, first.remaining, first.reset), (true, 1, secs(60)));
        assert_eq!(limiter.check("a", secs(30)).remaining, 0);
        let refused = limiter.check("a", secs(59));
        assert!(!refused.allowed);
        assert!(limiter.check("b", secs(59)).allowed, "another key is not touched");
        let wait = refused.reset;
        assert_eq!(wait, secs(1));
        assert!(!limiter.check("a", Duration::from_millis(59_999)).allowed);
        assert!(limiter.check("a", secs(59) + wait).allowed, "the promised wait suffices");
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::new(Policy::new(5, 60).unwrap(), 100);
        for key in 0..10_000 {
            limiter.check(key, secs(1));
            assert!(limiter.counts.len() <= 100);
        }
        limiter.check(1, secs(1_000));
        limiter.check(1, secs(2_000));
        assert_eq!(limiter.counts.len(), 1, "what is idle is forgotten");
    }

    #[test]
    fn a_key_is_not_forgotten_early_because_others_filled_the_memory() {
        let mut limiter = Limiter::new(Policy::new(1, 60).unwrap(), 4);
        assert!(limiter.check("a", secs(59)).allowed);
        limiter.check("b", secs(59));
        limiter.check("c", secs(59));
        assert!(!limiter.check("a", secs(62)).allowed, "its event is three seconds old");
    }

    proptest! {
        #[test]
        fn never_more_than_the_quota_in_any_window(
            quota in 1u32..20,
            window in 1u32..100,
            gaps in prop::collection::vec(0u64..4_000_000, 1..300),
        ) {
            let policy = Policy::new(quota, window).unwrap();
            let mut limiter = Limiter::new(policy, 10);
            let mut now = Duration::ZERO;
            let mut allowed: Vec<Duration> = Vec::new();
            for gap in gaps {
                now += Duration::from_micros(gap);
                let decision = limiter.check((), now);
                prop_assert!(decision.reset <= policy.window);
                if decision.allowed {
                    allowed.push(now);
                } else {
                    prop_assert!(decision.reset > Duration::ZERO);
                    let mut later = Limiter::new(policy, 10);
                    for at in &allowed { later.check((), *at); }
                    prop_assert!(later.check((), now + decision.reset).allowed);
                }
            }
            for (index, start) in allowed.iter().enumerate() {
                let inside = allowed[index..].iter().take_while(|at| at.saturating_sub(*start) < policy.window);
                prop_assert!(inside.count() <= quota as usize);
            }
        }
    }
}
