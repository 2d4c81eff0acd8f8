//! Which revisions of a deployment are kept, what a rollback goes back to, and what a guard puts
//! back. Histories are in the order of their numbers, oldest first.

use std::collections::BTreeSet;

use buddo_shared::id::Revision;

/// How many revisions a host may know that the database does not: one from a backup knows fewer.
/// What is further ahead is made up, and next to it might be no number for a further revision.
const MOST_AHEAD: u32 = 10_000;

/// Whether a revision that a host names may be one of a deployment whose last one that is known is
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
    /// Whether its host gave it up, before it was live or after.
    pub given_up: bool,
    /// Whether it is known which bytes it means.
    pub resolved: bool,
}

impl Past {
    /// Whether it can be brought back: it has served, and its bytes are known.
    pub fn can_return(self) -> bool {
        self.was_live && self.resolved
    }

    /// Whether it can be brought back with good hope.
    fn is_good(self) -> bool {
        self.can_return() && !self.given_up
    }
}

/// A revision that cannot be rolled back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReturn {
    /// The deployment never had one of this number.
    #[error("there is no revision {0}; GET /api/deploy/apps/ID/revisions lists what there is")]
    Unknown(Revision),
    /// It had, and it was cleaned away.
    #[error(
        "revision {0} is not kept any more; \
         GET /api/deploy/apps/ID/revisions lists those that can be brought back"
    )]
    Forgotten(Revision),
    /// It never answered visitors, so that nothing says it would now.
    #[error(
        "revision {0} never was live; \
         GET /api/deploy/apps/ID/revisions lists those that can be brought back"
    )]
    NeverLive(Revision),
    /// It was live, but its host never told which bytes it ran.
    #[error(
        "it is not known which bytes revision {0} ran, so that it cannot be brought back; \
         GET /api/deploy/apps/ID/revisions lists those that can be"
    )]
    Unresolved(Revision),
    /// No number was given, and there is nothing to choose.
    #[error(
        "there is no other revision to go back to: none that was live and stayed good differs \
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

/// Where a rollback without a number may go, best first: whatever was live and stayed good. One
/// that was given up can still be named.
pub fn candidates(history: &[Past], current: Revision) -> impl Iterator<Item = Revision> {
    let others = history.iter().rev().filter(move |past| past.number != current);
    others.filter(|past| past.is_good()).map(|past| past.number)
}

/// What a guard puts back if `current` turns out bad: the newest other one that was live and
/// stayed good. `None` for a `current` that is itself what was left of a failure: it has served
/// before, and one step back must not become a flight of them.
pub fn fallback(history: &[Past], current: Revision) -> Option<Revision> {
    let is_newest = history.iter().all(|past| past.number <= current);
    if is_newest { candidates(history, current).next() } else { None }
}

/// What is kept: what is in use, the newest `keep` that can be brought back, and the newest `keep`
/// of all, so that failed deploys neither push good revisions out nor vanish at once.
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

    /// A letter a revision: `L`ive, live and `G`iven up, `F`ailed before, live with `U`nknown
    /// bytes, `.`: forgotten.
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
    #[case::not_after_the_guard("LLG", 2, None)]
    fn what_a_guard_puts_back(
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
    fn what_can_be_named(
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
    fn what_is_kept(
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
        fn what_is_in_use_is_kept_and_the_rest_is_bounded(
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
            // Done again on what is left, it keeps the same.
            let left: Vec<Past> =
                history.into_iter().filter(|past| kept.contains(&past.number)).collect();
            prop_assert_eq!(super::kept(&left, current, Some(serving), keep), kept);
        }
    }
}
