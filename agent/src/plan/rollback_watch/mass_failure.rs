//! Whether many apps went down together: then the host was at fault, and none of them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use buddo_shared::model::id::DeploymentId;
use tokio::time::Instant;

/// Ends within this time count as one moment.
const MOMENT: Duration = Duration::from_secs(10);
/// Fewer than this are a coincidence.
const LEAST: usize = 3;

/// Apps that went down recently.
#[derive(Debug, Clone, Default)]
pub struct MassFailure(BTreeMap<DeploymentId, Instant>);

impl MassFailure {
    /// An app that served went down.
    pub fn ended(&mut self, id: DeploymentId, now: Instant) {
        self.0.insert(id, now);
    }

    /// Whether the recent ends have one cause, where `serving` apps serve or should.
    pub fn is_common(&mut self, serving: usize, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) <= MOMENT);
        many(self.0.len(), serving)
    }
}

/// Whether `some` of `all` apps in the same trouble are too many for it to be their own. Half, so
/// that one tenant's many broken apps do not blind the watch over all others.
pub fn many(some: usize, all: usize) -> bool {
    some >= LEAST && some * 2 >= all
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_mass_failure_takes_three_apps_and_half_of_all_at_once() {
        let now = Instant::now();
        let id = |n| DeploymentId::new(Uuid::from_u128(n));
        let mut mass_failure = MassFailure::default();
        for _ in 0..5 {
            mass_failure.ended(id(1), now);
        }
        mass_failure.ended(id(2), now);
        assert!(!mass_failure.is_common(2, now), "two apps may fail at the same time by chance");
        mass_failure.ended(id(3), now + MOMENT);
        assert!(mass_failure.is_common(6, now + MOMENT));
        assert!(!mass_failure.is_common(7, now + MOMENT));
        assert!(!mass_failure.is_common(3, now + MOMENT * 2), "that was another moment");
    }
}
