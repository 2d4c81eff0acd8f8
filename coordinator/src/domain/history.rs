//! Which revisions of a deployment are kept, which one a rollback returns to, and which one an
//! automatic rollback restores. Histories are ordered by number, oldest first.

use std::collections::BTreeSet;

use buddo_shared::model::id::Revision;

/// How far a host's revision number may be ahead of the database: one restored from a backup knows
/// fewer. A number further ahead is made up, and might leave none for the next revision.
const MOST_AHEAD: u32 = 10_000;

/// Whether a revision that a host names is plausible for a deployment whose last known one is
/// `last`.
pub fn is_near(named: Revision, last: Revision) -> bool {
    named.get() <= last.get().saturating_add(MOST_AHEAD)
}

/// What became of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    pub number: Revision,
    /// Whether it ever answered visitors.
    pub was_live: bool,
    /// Whether its host gave up on it, before or after it was live.
    pub given_up: bool,
    /// Whether its image digest is known.
    pub resolved: bool,
}

impl Past {
    /// Whether it can be restored: it has served, and its digest is known.
    pub fn can_return(self) -> bool {
        self.was_live && self.resolved
    }

    /// Whether it can be restored and did not fail after it was live.
    fn is_good(self) -> bool {
        self.can_return() && !self.given_up
    }
}

/// A revision that cannot be rolled back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReturn {
    /// The deployment never had a revision of this number.
    #[error("there is no revision {0}; GET /api/deploy/apps/ID/revisions lists all revisions")]
    Unknown(Revision),
    /// It existed, and was cleaned up.
    #[error(
        "revision {0} is not kept any more; \
         GET /api/deploy/apps/ID/revisions lists those that can be brought back"
    )]
    Forgotten(Revision),
    /// It never answered visitors, so nothing suggests that it would now.
    #[error(
        "revision {0} was never live; \
         GET /api/deploy/apps/ID/revisions lists those that can be brought back"
    )]
    NeverLive(Revision),
    /// It was live, but its host never reported the digest.
    #[error(
        "the image digest of revision {0} is unknown, so it cannot be brought back; \
         GET /api/deploy/apps/ID/revisions lists those that can be"
    )]
    Unresolved(Revision),
    /// No number was given, and there is no candidate.
    #[error(
        "there is no other revision to go back to: no healthy one that was live differs \
         from the current one"
    )]
    Nothing,
}

/// Whether a rollback to `number` is possible.
pub fn check(history: &[Past], number: Revision) -> Result<(), NoReturn> {
    let Some(past) = history.iter().find(|past| past.number == number) else {
        let newest = history.iter().map(|past| past.number).max();
        let was_there = number >= Revision::FIRST && newest.is_some_and(|newest| number < newest);
        let refusal = if was_there { NoReturn::Forgotten } else { NoReturn::Unknown };
        return Err(refusal(number));
    };
    match (past.was_live, past.resolved) {
        (false, _) => Err(NoReturn::NeverLive(number)),
        (true, false) => Err(NoReturn::Unresolved(number)),
        (true, true) => Ok(()),
    }
}

/// The candidates of a rollback without a number, best first: every revision that was live and did
/// not fail later. One that failed can still be named explicitly.
pub fn candidates(history: &[Past], current: Revision) -> impl Iterator<Item = Revision> {
    let others = history.iter().rev().filter(move |past| past.number != current);
    others.filter(|past| past.is_good()).map(|past| past.number)
}

/// What an automatic rollback restores if `current` fails: the newest other revision that was live
/// and did not fail later. `None` if `current` itself was the fallback of a failure: it has served
/// before, and one step back must not become a cascade.
pub fn fallback(history: &[Past], current: Revision) -> Option<Revision> {
    let is_newest = history.iter().all(|past| past.number <= current);
    if is_newest { candidates(history, current).next() } else { None }
}

/// The revisions to keep: those in use, the newest `keep` that can be restored, and the newest
/// `keep` of all, so that failed deploys neither push out good revisions nor vanish at once.
pub fn kept(
    history: &[Past],
    current: Revision,
    serving: Option<Revision>,
    keep: usize,
) -> BTreeSet<Revision> {
    let in_use = [Some(current), serving, fallback(history, current)].into_iter().flatten();
    let newest = || history.iter().rev();
    let all = newest().take(keep);
    let good = newest().filter(|past| past.can_return()).take(keep);
    in_use.chain(all.chain(good).map(|past| past.number)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// One letter per revision: `L`ive, live then `G`iven up, `F`ailed before it was live, live
    /// with `U`nknown digest, `.`: deleted.
    fn history(letters: &str) -> Vec<Past> {
        let numbered = (1..).map(Revision::new).zip(letters.chars());
        numbered
            .filter(|(_, letter)| *letter != '.')
            .map(|(number, letter)| Past {
                number,
                was_live: "LGU".contains(letter),
                given_up: "GF".contains(letter),
                resolved: "LGF".contains(letter),
            })
            .collect()
    }

    #[rstest]
    #[case::only_one("L", 1, None)]
    #[case::the_one_before("LL", 2, Some(1))]
    #[case::not_a_failed_one("LFL", 3, Some(1))]
    #[case::not_one_given_up("LGL", 3, Some(1))]
    #[case::not_one_of_unknown_bytes("LUL", 3, Some(1))]
    #[case::while_the_new_one_is_under_way("LLF", 3, Some(2))]
    #[case::not_after_a_failure("LLF", 2, None)]
    #[case::not_after_an_auto_rollback("LLG", 2, None)]
    fn what_an_auto_rollback_restores(
        #[case] letters: &str,
        #[case] current: u32,
        #[case] expected: Option<u32>,
    ) {
        let found = fallback(&history(letters), Revision::new(current));
        assert_eq!(found, expected.map(Revision::new));
    }

    #[rstest]
    #[case::good("LL", 1, Ok(()))]
    #[case::given_up_but_named("LGL", 2, Ok(()))]
    #[case::never_live("LFL", 2, Err(NoReturn::NeverLive(Revision::new(2))))]
    #[case::unknown_bytes("LUL", 2, Err(NoReturn::Unresolved(Revision::new(2))))]
    #[case::forgotten(".LL", 1, Err(NoReturn::Forgotten(Revision::new(1))))]
    #[case::unknown("LL", 3, Err(NoReturn::Unknown(Revision::new(3))))]
    #[case::zero("LL", 0, Err(NoReturn::Unknown(Revision::new(0))))]
    fn validates_the_target_of_a_rollback(
        #[case] letters: &str,
        #[case] number: u32,
        #[case] expected: Result<(), NoReturn>,
    ) {
        assert_eq!(check(&history(letters), Revision::new(number)), expected);
    }

    #[rstest]
    #[case::all_of_few("LLL", 3, 5, &[1, 2, 3])]
    #[case::the_newest("LLLLLLL", 7, 3, &[5, 6, 7])]
    #[case::failures_push_nothing_out("LLLFFFFF", 3, 2, &[2, 3, 7, 8])]
    #[case::what_is_put_back("LFFFL", 5, 1, &[1, 5])]
    fn keeps_the_revisions_in_use_and_the_newest(
        #[case] letters: &str,
        #[case] current: u32,
        #[case] keep: usize,
        #[case] expected: &[u32],
    ) {
        let current = Revision::new(current);
        let kept = kept(&history(letters), current, Some(current), keep);
        assert_eq!(kept.into_iter().map(Revision::get).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn revisions_in_use_are_kept_and_the_rest_is_bounded(
            letters in "[LGFU]{1,40}",
            current in 1..41u32,
            serving in 1..41u32,
            keep in 1..10usize,
        ) {
            let history = history(&letters);
            let last = u32::try_from(history.len()).unwrap();
            let (current, serving) =
                (Revision::new(current.min(last)), Revision::new(serving.min(last)));
            let kept = kept(&history, current, Some(serving), keep);
            prop_assert!(kept.contains(&current) && kept.contains(&serving));
            prop_assert!(fallback(&history, current).is_none_or(|back| kept.contains(&back)));
            prop_assert!(kept.len() <= 2 * keep + 3);
            // Idempotent: a second run keeps the same revisions.
            let left: Vec<Past> =
                history.into_iter().filter(|past| kept.contains(&past.number)).collect();
            prop_assert_eq!(super::kept(&left, current, Some(serving), keep), kept);
        }
    }
}
