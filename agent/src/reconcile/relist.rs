//! Which containers the next pass asks Podman about: those that something happened to, or all.
//!
//! A list costs Podman time for each container of the host (about 0.4 ms, 4.3.1), and a restart has
//! several passes: at 1,000 apps the lists alone took two seconds of it. So what is known of a
//! container stands until there is a reason to doubt it, and only doubtful ones are asked about.
//! The whole list still comes regularly, and whenever it is not known what changed: it finds what
//! hints do not name.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// This many containers are always inspected one by one.
const FEW: usize = 4;
/// One inspection costs Podman about as much as this many entries of a list.
const ENTRIES_OF_A_LIST: usize = 4;

/// A call that was not answered, or was sent by the previous agent, may still be carried out for
/// this long: until then anything may change without an event.
const LATE: Duration = Duration::from_secs(30);
/// Meanwhile a pass lists all containers unless that was just done: a starting agent has several
/// passes in its first second, each with a reason to doubt, and at 1,000 apps each list takes most
/// of a second.
const JUST_NOW: Duration = Duration::from_secs(1);

/// What a pass asks about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All containers of the host.
    All,
    /// These; all others are unchanged.
    Named(BTreeSet<String>),
}

/// What is in doubt.
#[derive(Debug)]
pub(super) struct Relist {
    due: Instant,
    all: bool,
    /// Until then all are listed in each pass that comes [`JUST_NOW`] after the last list.
    unsettled: Instant,
    listed: Option<Instant>,
    named: BTreeSet<String>,
}

impl Relist {
    /// Nothing is known yet.
    pub(super) fn begin(now: Instant) -> Self {
        Self { due: now, all: true, unsettled: now + LATE, listed: None, named: BTreeSet::new() }
    }

    /// Anything may have changed.
    pub(super) fn doubt_all(&mut self) {
        self.all = true;
    }

    /// Podman did not answer a call.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.all = true;
        self.unsettled = now + LATE;
    }

    /// Podman did not answer: nothing is certain, but there is no hurry to ask before `again`.
    pub(super) fn failed(&mut self, now: Instant, again: Instant) {
        self.unanswered(now);
        // Earlier knowledge is no longer valid.
        self.listed = None;
        self.due = again;
    }

    /// Something may have happened to this container.
    pub(super) fn doubt(&mut self, name: impl Into<String>) {
        self.named.insert(name.into());
    }

    /// What to ask about at `now`, on a host with `known` containers.
    pub(super) fn take(&mut self, known: usize, now: Instant) -> Scope {
        let named = std::mem::take(&mut self.named);
        let too_many = named.len() > FEW.max(known / ENTRIES_OF_A_LIST);
        let listed = self.listed.filter(|_| now < self.unsettled);
        if let Some(again) = listed.map(|listed| listed + JUST_NOW) {
            self.due = self.due.min(again);
            if now < again && !too_many {
                return Scope::Named(named);
            }
        }
        if self.all || self.due <= now || too_many { Scope::All } else { Scope::Named(named) }
    }

    /// All were listed; list them again after `period`.
    pub(super) fn listed(&mut self, now: Instant, period: Duration) {
        self.all = false;
        self.listed = Some(now);
        self.due = now + period;
    }

    /// When all are listed again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_mins(1);

    /// An agent that started long ago.
    fn listed(now: Instant) -> Relist {
        let mut relist = Relist::begin(now - LATE);
        assert_eq!(relist.take(0, now), Scope::All, "nothing is known yet");
        relist.listed(now, PERIOD);
        relist
    }

    #[test]
    fn only_doubted_containers_are_listed_and_only_once() {
        let now = Instant::now() + LATE;
        let mut relist = listed(now);
        relist.doubt("a");
        relist.doubt("a");
        assert_eq!(relist.take(1_000, now), Scope::Named(["a".to_owned()].into()));
        assert_eq!(relist.take(1_000, now), Scope::Named(BTreeSet::new()));
        assert_eq!(relist.take(1_000, now + PERIOD), Scope::All, "the regular list");
    }

    #[test]
    fn an_unknown_change_lists_all_containers_until_a_list_succeeds() {
        let now = Instant::now() + LATE;
        let mut relist = listed(now);
        relist.doubt_all();
        assert_eq!(relist.due(), now + PERIOD, "whoever doubts begins a pass");
        assert_eq!(relist.take(1_000, now), Scope::All);
        relist.failed(now, now + PERIOD / 2);
        assert_eq!(relist.due(), now + PERIOD / 2, "not at once, over and over");
        assert_eq!(relist.take(1_000, now), Scope::All, "it was not answered");
        relist.listed(now, PERIOD);
        let settled = now + LATE;
        assert_eq!(relist.take(1_000, settled - LATE / 2), Scope::All, "it may be carried out yet");
        relist.listed(settled - LATE / 2, PERIOD);
        assert_eq!(relist.take(1_000, settled), Scope::Named(BTreeSet::new()));
    }

    /// Otherwise an agent that starts on a host with 1,000 apps would do nothing but list them.
    #[test]
    fn a_full_list_is_postponed_right_after_the_last_one() {
        let begun = Instant::now();
        let mut relist = Relist::begin(begun);
        assert_eq!(relist.take(0, begun), Scope::All, "nothing is known yet");
        relist.listed(begun, PERIOD);
        assert_eq!(relist.due(), begun + PERIOD, "without a pass nobody asks");
        let soon = begun + JUST_NOW / 2;
        for _ in 0..2 {
            relist.doubt("a");
            assert_eq!(relist.take(1_000, soon), Scope::Named(["a".to_owned()].into()));
            assert_eq!(relist.due(), begun + JUST_NOW, "what this pass left out is made up for");
            // As from an event: from now on events arrive.
            relist.doubt_all();
        }
        assert_eq!(relist.take(1_000, begun + JUST_NOW), Scope::All);
        relist.listed(begun + JUST_NOW, PERIOD);
        let settled = begun + LATE;
        assert_eq!(relist.take(1_000, settled - JUST_NOW), Scope::All);
        relist.listed(settled - JUST_NOW / 2, PERIOD);
        relist.doubt_all();
        assert_eq!(relist.take(1_000, settled), Scope::All, "it reacts at once from then on");
    }

    #[test]
    fn many_doubts_are_settled_by_a_full_list() {
        let now = Instant::now() + LATE;
        for (doubtful, known, all) in
            [(4, 0, false), (5, 5, true), (5, 20, false), (250, 1_000, false), (251, 1_000, true)]
        {
            let mut relist = listed(now);
            (0..doubtful).for_each(|n| relist.doubt(n.to_string()));
            let scope = relist.take(known, now);
            assert_eq!(scope == Scope::All, all, "{doubtful} of {known}");
        }
    }
}
