//! What happens when, drawn from a seed: the same seed, the same schedule.

use std::fmt;
use std::time::Duration;

/// Something that is killed with SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Victim {
    Agent,
    /// Podman's API service, both of its processes.
    Podman,
    /// Caddy; the only one whose absence visitors may notice.
    Caddy,
    Coordinator,
    Resolver,
}

impl Victim {
    pub const ALL: [Self; 5] =
        [Self::Agent, Self::Podman, Self::Caddy, Self::Coordinator, Self::Resolver];

    /// Its name among the world's services.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Podman => "podman",
            Self::Caddy => "caddy",
            Self::Coordinator => "coordinator",
            Self::Resolver => "resolver",
        }
    }

    /// How often it is drawn, of [`TOTAL`].
    const fn weight(self) -> u64 {
        match self {
            Self::Agent => 6,
            Self::Podman | Self::Coordinator => 4,
            Self::Caddy => 2,
            Self::Resolver => 1,
        }
    }
}

/// Weights of all kills and of a redeploy.
const TOTAL: u64 = 17 + REDEPLOY;
const REDEPLOY: u64 = 13;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A service is killed.
    Kill(Victim),
    /// The app of this number is redeployed.
    Redeploy(u32),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(victim) => write!(f, "kill {}", victim.service()),
            Self::Redeploy(app) => write!(f, "redeploy app-{app}"),
        }
    }
}

/// Draws what happens within `length`, with pauses of `pace` on average. Only apps from
/// `steady` to `apps` are redeployed.
pub fn draw(
    seed: u64,
    length: Duration,
    pace: Duration,
    steady: u32,
    apps: u32,
) -> Vec<(Duration, Action)> {
    let mut draws = Draws(seed);
    let mut schedule = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += pace.mul_f64(0.25 + 1.5 * draws.unit());
        if at >= length {
            return schedule;
        }
        let mut ticket = draws.below(TOTAL);
        let killed = Victim::ALL.into_iter().find(|victim| {
            let drawn = ticket < victim.weight();
            ticket = ticket.saturating_sub(victim.weight());
            drawn
        });
        let app = draws.below(u64::from(apps.saturating_sub(steady)).max(1));
        let app = steady + u32::try_from(app).unwrap_or_default();
        schedule.push((at, killed.map_or(Action::Redeploy(app), Action::Kill)));
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): written out, so that a seed means the same schedule
/// forever, regardless of changes in a crate's generators.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The bias is a few billionths.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    #[expect(clippy::cast_precision_loss, reason = "a fraction")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(seed: u64) -> Vec<(Duration, Action)> {
        draw(seed, Duration::from_hours(1), Duration::from_secs(1), 2, 20)
    }

    #[test]
    fn a_seed_determines_the_schedule() {
        assert_eq!(minutes(7), minutes(7));
        assert_ne!(minutes(7), minutes(8));
    }

    #[test]
    fn actions_are_drawn_in_proportion_to_their_weight() {
        let drawn = minutes(1);
        let count = |wanted: fn(&Action) -> bool| {
            drawn.iter().filter(|(_, action)| wanted(action)).count() as u64
        };
        let total = drawn.len() as u64;
        assert!((3_400..3_800).contains(&total), "{total}");
        let redeploys = count(|action| matches!(action, Action::Redeploy(_)));
        assert!(redeploys.abs_diff(total * REDEPLOY / TOTAL) < 150, "{redeploys}");
        let weights: u64 = Victim::ALL.into_iter().map(Victim::weight).sum();
        assert_eq!(weights + REDEPLOY, TOTAL);
        for victim in Victim::ALL {
            let kills =
                drawn.iter().filter(|(_, action)| *action == Action::Kill(victim)).count() as u64;
            assert!(kills.abs_diff(total * victim.weight() / TOTAL) < 150, "{victim:?}: {kills}");
        }
        let apps = drawn.iter().filter_map(|(_, action)| match action {
            Action::Redeploy(app) => Some(*app),
            Action::Kill(_) => None,
        });
        let apps: std::collections::BTreeSet<u32> = apps.collect();
        assert_eq!(apps, (2..20).collect());
    }
}
