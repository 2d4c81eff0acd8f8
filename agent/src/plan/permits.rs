//! Who may replace a sick container now: a token bucket for the whole host. Pure, time is passed
//! in.
//!
//! ```text
//!            one more every 10 s                   a pass: longest waiting first
//!   tokens ◄──────────────────── (6 at most) ──────────────────────────────► Permit
//!     ▲                                                                        │
//!     └─────────────── taken when the operation is sent ◄ Replacing::Begins ◄──┘
//! ```
//!
//! A starved host makes many apps miss their probes at once. A second container for each would make
//! it worse, so nothing is replaced while half of all apps let theirs time out; those that answer
//! with errors do not count. If that lasts, one app a minute is tried all the same: apps that are
//! stuck for a reason of their own would otherwise stay stuck for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::Permit;
use crate::model::workload::WorkloadId;

/// Tokens after a quiet time: a few apps that are sick by chance need not wait.
const BURST: u32 = 6;
/// How often a token is added.
const REFILL: Duration = Duration::from_secs(10);
/// The most replacements that begin in any minute.
pub const PER_MINUTE: u32 = BURST + 6;
/// Tokens of a starting agent: one that restarts over and over must not start a wave.
const AT_START: u32 = 2;
/// An app that was replaced this recently leaves the last tokens to others: one tenant's hopeless
/// apps must not keep others waiting.
const LATELY: Duration = Duration::from_mins(10);
/// How many tokens it leaves.
const KEPT: u32 = 2;
/// After many apps were sick, the last of them get this long to recover, too.
const AFTERWARDS: Duration = Duration::from_secs(30);
/// After many apps have been sick this long, one is tried every [`TRICKLE`].
const PATIENCE: Duration = Duration::from_mins(2);
const TRICKLE: Duration = Duration::from_mins(1);
/// While an app waits and no token is due, the host is checked again after this.
const LOOK: Duration = Duration::from_secs(10);

/// The budget of one host.
#[derive(Debug, Clone)]
pub struct Permits {
    tokens: u32,
    /// The time up to which tokens were counted.
    counted: Instant,
    /// Who waits, and since when.
    waiting: BTreeMap<WorkloadId, Instant>,
    /// Who was replaced lately, and when.
    lately: BTreeMap<WorkloadId, Instant>,
    /// When many apps were last sick: from, to.
    many: Option<(Instant, Instant)>,
    last: Option<Instant>,
}

/// The permits of one pass.
#[derive(Debug)]
pub struct Round {
    left: u32,
    /// The apps whose turn it is.
    turn: BTreeSet<WorkloadId>,
    lately: BTreeSet<WorkloadId>,
    otherwise: Permit,
}

impl Permits {
    /// The budget of an agent that starts.
    pub fn begin(now: Instant) -> Self {
        Self {
            tokens: AT_START,
            counted: now,
            waiting: BTreeMap::new(),
            lately: BTreeMap::new(),
            many: None,
            last: None,
        }
    }

    /// What a pass may grant. `troubled`: the host was in trouble a moment ago.
    pub fn round(&mut self, troubled: bool, many_sick: bool, now: Instant) -> Round {
        self.refill(now);
        self.lately.retain(|_, at| now.duration_since(*at) < LATELY);
        self.many = match self.many {
            before if many_sick => Some((before.map_or(now, |(since, _)| since), now)),
            Some((_, last)) if now.duration_since(last) >= AFTERWARDS => None,
            before => before,
        };
        let (left, otherwise) = match self.many {
            _ if troubled => (0, Permit::HostTrouble),
            Some(_) if !many_sick => (0, Permit::HostTrouble),
            Some((since, _)) => {
                let lasts = now.duration_since(since) >= PATIENCE;
                let rested = self.last.is_none_or(|last| now.duration_since(last) >= TRICKLE);
                (if lasts && rested { self.tokens.min(1) } else { 0 }, Permit::HostTrouble)
            }
            None => (self.tokens, Permit::Later),
        };
        let mut waiting: Vec<_> = self.waiting.iter().collect();
        waiting.sort_by_key(|(id, since)| (self.lately.contains_key(id), **since));
        let lately = self.lately.keys().copied().collect();
        let mut round = Round { left, turn: BTreeSet::new(), lately, otherwise };
        for (id, _) in waiting {
            if round.spare() > round.kept_from(*id) {
                round.turn.insert(*id);
            }
        }
        round
    }

    /// The replacement of this app's container is on its way.
    pub fn take(&mut self, id: WorkloadId, now: Instant) {
        self.tokens = self.tokens.saturating_sub(1);
        self.last = Some(now);
        self.lately.insert(id, now);
        self.waiting.remove(&id);
    }

    /// Exactly these apps wait.
    pub fn wait(&mut self, ids: &BTreeSet<WorkloadId>, now: Instant) {
        self.waiting.retain(|id, _| ids.contains(id));
        for id in ids {
            self.waiting.entry(*id).or_insert(now);
        }
    }

    /// When to look again on behalf of the waiting apps.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let token = self.counted + REFILL;
        let soon = now + LOOK;
        (!self.waiting.is_empty()).then_some(if token > now { token.min(soon) } else { soon })
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_millis();
        let more = u32::try_from(passed / REFILL.as_millis()).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(more).min(BURST);
        // A full bucket fills no further: that time is not saved up.
        let full = self.tokens == BURST;
        self.counted = if full { now } else { self.counted + REFILL * more };
    }
}

impl Round {
    /// Whether this app's container may be replaced.
    pub fn permit(&self, id: WorkloadId) -> Permit {
        let granted = self.turn.contains(&id) || self.spare() > self.kept_from(id);
        if granted { Permit::Granted } else { self.otherwise }
    }

    /// Its replacement begins.
    pub fn begins(&mut self, id: WorkloadId) {
        self.left = self.left.saturating_sub(1);
        self.turn.remove(&id);
    }

    /// Tokens beyond those of the apps whose turn it is.
    fn spare(&self) -> u32 {
        self.left.saturating_sub(u32::try_from(self.turn.len()).unwrap_or(u32::MAX))
    }

    fn kept_from(&self, id: WorkloadId) -> u32 {
        // Where apps are tried one at a time anyway, the longest waiting goes first.
        if self.lately.contains(&id) && self.otherwise == Permit::Later { KEPT } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::id::DeploymentId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> WorkloadId {
        WorkloadId::app(DeploymentId::new(Uuid::from_u128(n)))
    }

    /// A pass in which `sick` apps want to be replaced: returns those that are.
    fn pass(
        permits: &mut Permits,
        sick: &BTreeSet<WorkloadId>,
        (troubled, many): (bool, bool),
        now: Instant,
    ) -> BTreeSet<WorkloadId> {
        let mut round = permits.round(troubled, many, now);
        let mut begun = BTreeSet::new();
        for id in sick {
            if round.permit(*id) == Permit::Granted {
                round.begins(*id);
                begun.insert(*id);
            }
        }
        permits.wait(&sick.difference(&begun).copied().collect(), now);
        for id in &begun {
            permits.take(*id, now);
        }
        begun
    }

    #[test]
    fn a_single_unhealthy_app_never_waits() {
        let mut now = Instant::now();
        let mut permits = Permits::begin(now);
        for n in 0..20 {
            assert_eq!(pass(&mut permits, &[id(n)].into(), (false, false), now).len(), 1);
            now += REFILL;
        }
    }

    #[test]
    fn fm_58_the_longest_waiting_are_replaced_first_and_all_eventually() {
        let begun = Instant::now();
        let mut permits = Permits::begin(begun);
        // The later ones sort before the earlier ones.
        let mut sick: BTreeSet<_> = (50..60).map(id).collect();
        let first = sick.clone();
        pass(&mut permits, &sick, (false, false), begun);
        sick.extend((0..10).map(id));
        let mut now = begun;
        let mut done = Vec::new();
        while !sick.is_empty() {
            now += Duration::from_secs(1);
            let begun = pass(&mut permits, &sick, (false, false), now);
            sick.retain(|id| !begun.contains(id));
            done.extend(begun);
        }
        assert!(done[..8].iter().all(|id| first.contains(id)), "{done:?}");
        assert!(now.duration_since(begun) < Duration::from_mins(4));
    }

    /// One tenant's apps that no fresh container cures, and then another's.
    #[test]
    fn fm_58_hopeless_apps_do_not_starve_others() {
        let mut now = Instant::now();
        let mut permits = Permits::begin(now);
        let hopeless: BTreeSet<_> = (0..40).map(id).collect();
        for _ in 0..600 {
            now += Duration::from_secs(1);
            pass(&mut permits, &hopeless, (false, false), now);
        }
        let mut all = hopeless;
        all.insert(id(99));
        let mut waited = 0;
        while !pass(&mut permits, &all, (false, false), now).contains(&id(99)) {
            now += Duration::from_secs(1);
            waited += 1;
        }
        assert!(waited <= 30, "{waited} s");
    }

    #[test]
    fn a_newly_unhealthy_app_does_not_wait_for_hopeless_ones() {
        let mut now = Instant::now();
        let mut permits = Permits::begin(now);
        let mut sick: BTreeSet<_> = (0..40).map(id).collect();
        for _ in 0..590 {
            now += Duration::from_secs(1);
            pass(&mut permits, &sick, (false, false), now);
        }
        sick.insert(id(99));
        assert!(pass(&mut permits, &sick, (false, false), now).contains(&id(99)));
    }

    #[test]
    fn recently_replaced_apps_come_last_however_long_they_wait() {
        let begun = Instant::now();
        let mut permits = Permits::begin(begun);
        let lately = [id(1)].into();
        assert_eq!(pass(&mut permits, &lately, (false, false), begun), lately);
        // Nobody is replaced while the host is in trouble.
        pass(&mut permits, &lately, (true, false), begun);
        let first: BTreeSet<_> = (2..5).map(id).collect();
        let all = &first | &lately;
        pass(&mut permits, &all, (true, false), begun + REFILL);
        assert_eq!(pass(&mut permits, &all, (false, false), begun + REFILL * 2), first);
    }

    #[test]
    fn fm_58_mass_unhealthiness_pauses_replacement_then_allows_one_a_minute() {
        let begun = Instant::now();
        let mut permits = Permits::begin(begun);
        let sick: BTreeSet<_> = (0..10).map(id).collect();
        assert!(pass(&mut permits, &sick, (true, false), begun).is_empty(), "Podman was away");
        assert_eq!(permits.round(true, false, begun).permit(id(1)), Permit::HostTrouble);
        let mut times = Vec::new();
        for second in 0..600 {
            let now = begun + Duration::from_secs(second);
            let replaced = pass(&mut permits, &sick, (false, true), now);
            times.extend(replaced.into_iter().map(|_| second));
        }
        assert_eq!(times.first(), Some(&120), "{times:?}");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{times:?}");
        assert!(times.len() >= 7, "{times:?}");
        // Half of them are well again, and the others about to be.
        let over = begun + Duration::from_secs(599);
        let soon = |after| over + Duration::from_secs(after);
        assert!(pass(&mut permits, &sick, (false, false), soon(29)).is_empty());
        assert!(!pass(&mut permits, &sick, (false, false), soon(30)).is_empty());
    }

    proptest! {
        /// Whichever apps are sick when, no minute exceeds its budget.
        #[test]
        fn fm_58_no_minute_has_more_than_its_budget(
            passes in proptest::collection::vec(
                (1_u64..40_000, proptest::collection::btree_set(0_u128..80, 0..60), any::<u8>()),
                1..120,
            ),
        ) {
            let mut now = Instant::now();
            let mut permits = Permits::begin(now);
            let mut taken: Vec<Instant> = Vec::new();
            for (pause, sick, state) in passes {
                now += Duration::from_millis(pause);
                let sick = sick.into_iter().map(id).collect();
                let host = (state % 8 == 0, state % 4 == 1);
                let begun = pass(&mut permits, &sick, host, now);
                prop_assert!(host == (false, false) || begun.len() <= 1);
                taken.extend(begun.iter().map(|_| now));
                if begun.len() < sick.len() {
                    prop_assert!(permits.due(now).is_some_and(|due| due > now));
                }
            }
            for (n, at) in taken.iter().enumerate() {
                let within = taken[n..].iter().filter(|t| t.duration_since(*at) < TRICKLE).count();
                prop_assert!(within <= PER_MINUTE as usize, "{within} in a minute");
            }
        }
    }
}
