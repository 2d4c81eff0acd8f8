//! What the app of a revision does, and what its registry says.

use std::time::Duration;

use super::rng::Rng;

/// What an app does once its container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    /// It answers after so long.
    Good(Duration),
    /// It never answers.
    Silent,
    /// It ends after so long.
    Exits(Duration),
    /// It answers, and ends so long after its start, each time.
    Crashes(Duration),
    /// It answers, and is killed for its memory so long after its start, each time.
    Bloats(Duration),
    /// It answers, and this long after its start stops answering, each time.
    Sickens(Duration),
    /// It passes its probes, but answers its visitors with errors.
    Fails,
}

impl App {
    /// Whether it answers when it is started.
    pub(crate) fn starts(self) -> bool {
        !matches!(self, Self::Silent | Self::Exits(_))
    }

    /// Whether auto rollback has a reason to return to the revision before it.
    pub(crate) fn turns_bad(self) -> bool {
        matches!(self, Self::Crashes(_) | Self::Bloats(_) | Self::Sickens(_) | Self::Fails)
    }

    /// Whether that shows within seconds.
    pub(crate) fn turns_bad_soon(self) -> bool {
        let soon = Duration::from_secs(5);
        match self {
            Self::Crashes(after) | Self::Bloats(after) | Self::Sickens(after) => after <= soon,
            Self::Fails => true,
            Self::Good(_) | Self::Silent | Self::Exits(_) => false,
        }
    }
}

/// What the registry says to a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registry {
    /// Here it is.
    Has,
    /// No such image.
    Lacks,
    /// Too many requests, so many times.
    Busy(u32),
    /// It comes, but is gone when it is needed.
    Vanishes,
    /// No byte comes, so many times.
    Stalls(u32),
}

impl Registry {
    /// Whether a pull brings an image that stays, sooner or later.
    pub(crate) fn gives(self) -> bool {
        !matches!(self, Self::Lacks | Self::Vanishes)
    }
}

/// A good app.
pub(crate) fn good(rng: &mut Rng) -> App {
    App::Good(if rng.per_mille(700) { rng.ms(5, 100) } else { rng.ms(100, 3_000) })
}

/// An app that never starts, or turns bad soon after.
pub(crate) fn bad(rng: &mut Rng) -> App {
    match rng.below(8) {
        0 if rng.per_mille(500) => App::Silent,
        0 => App::Exits(rng.ms(1, 2_000)),
        1 | 7 => App::Fails,
        2 => App::Crashes(rng.ms(500, 20_000)),
        3 => App::Crashes(rng.ms(500, 4_000)),
        4 => App::Bloats(rng.ms(500, 8_000)),
        5 => App::Sickens(rng.ms(500, 4_000)),
        _ => App::Sickens(rng.ms(500, 20_000)),
    }
}

/// A registry that does not simply give.
pub(crate) fn bad_registry(rng: &mut Rng) -> Registry {
    match rng.below(4) {
        0 => Registry::Lacks,
        1 => Registry::Vanishes,
        2 => Registry::Busy(1 + u32::try_from(rng.below(4)).unwrap_or_default()),
        _ => Registry::Stalls(1),
    }
}
