//! What a load saw, and the cause of its failures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;

/// Failures that one worker describes; further ones are only counted, and never excused.
pub(super) const DESCRIBED: usize = 20_000;

/// A request that failed, or was answered wrongly.
#[derive(Clone)]
pub struct Failure {
    /// The host it was for.
    pub host: String,
    /// When its connection began to be made.
    pub opened: Instant,
    /// When it was sent.
    pub began: Instant,
    /// When it had failed.
    pub ended: Instant,
    pub error: String,
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, opened, began, ended, error } = self;
        let (age, took) = (*began - *opened, *ended - *began);
        write!(f, "{host}: {error}; after {took:.1?}, on a connection {age:.1?} old")
    }
}

/// A time in which nobody can have been served, because the edge itself was down: from its kill
/// until it accepts connections again.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Just before the kill.
    pub from: Instant,
    /// When a connection was accepted again.
    pub until: Instant,
}

impl Outage {
    /// Whether this absence caused the failure: the request ran into it, or its connection did,
    /// since one open at the kill is dead whenever it is used next.
    pub fn explains(&self, failure: &Failure) -> bool {
        failure.opened < self.until && failure.ended > self.from
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were sent.
    pub requests: u64,
    /// Requests that failed, or were answered wrongly.
    pub failed: u64,
    /// The failures, the first of each worker.
    pub failures: Vec<Failure>,
    /// Requests by the version that answered.
    pub versions: BTreeMap<String, u64>,
    /// Duration of each request from when it was sent, microseconds, sorted.
    pub micros: Vec<u32>,
    /// From start to finish.
    pub elapsed: Duration,
}

impl Tally {
    /// Requests per second achieved.
    pub fn rate(&self) -> f64 {
        let requests = u32::try_from(self.requests).unwrap_or(u32::MAX);
        f64::from(requests) / self.elapsed.as_secs_f64()
    }

    /// The duration within which `percent` per cent of the requests finished.
    pub fn percentile(&self, percent: usize) -> Duration {
        let index = self.micros.len() * percent / 100;
        let index = index.min(self.micros.len().saturating_sub(1));
        Duration::from_micros(self.micros.get(index).copied().unwrap_or_default().into())
    }

    /// Fails if a request failed, or none was sent.
    pub fn without_failure(&self) -> anyhow::Result<&Self> {
        self.without_failure_but(&[])
    }

    /// Fails if a request failed that none of these outages explains, or none was sent.
    pub fn without_failure_but(&self, outages: &[Outage]) -> anyhow::Result<&Self> {
        ensure!(self.requests > 0, "no request was sent");
        let lost = self.unexplained(outages);
        ensure!(
            lost == 0,
            "{lost} of {} requests failed: {:#?}",
            self.requests,
            self.failures
                .iter()
                .filter(|failure| !outages.iter().any(|outage| outage.explains(failure)))
                .take(10)
                .collect::<Vec<_>>()
        );
        Ok(self)
    }

    /// How many failures none of these outages explains.
    pub fn unexplained(&self, outages: &[Outage]) -> u64 {
        let explained = self
            .failures
            .iter()
            .filter(|failure| outages.iter().any(|outage| outage.explains(failure)))
            .count();
        self.failed - explained as u64
    }

    /// Adds another worker's tally.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.micros.extend(other.micros);
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
    }

    /// Counts a request that failed.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        if self.failures.len() < DESCRIBED {
            self.failures.push(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_or_no_requests_is_an_error() {
        let good = Tally { requests: 10, ..Tally::default() };
        assert!(good.without_failure().is_ok());
        assert!(Tally { failed: 1, ..good }.without_failure().is_err());
        assert!(Tally::default().without_failure().is_err());
    }

    #[test]
    fn percentiles_are_of_the_sorted_durations() {
        let tally = Tally { micros: (1..=100).collect(), ..Tally::default() };
        assert_eq!(tally.percentile(50), Duration::from_micros(51));
        assert_eq!(tally.percentile(100), Duration::from_micros(100));
        assert_eq!(Tally::default().percentile(50), Duration::ZERO);
    }

    #[test]
    fn an_outage_excuses_only_the_requests_it_affected() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let outages = [Outage { from: at(10), until: at(12) }];
        let lost = |opened, began, ended| {
            let (opened, began, ended) = (at(opened), at(began), at(ended));
            let failure =
                Failure { host: String::new(), opened, began, ended, error: String::new() };
            let mut tally = Tally { requests: 1, ..Tally::default() };
            tally.fail(failure);
            tally.unexplained(&outages)
        };
        assert_eq!(lost(1, 5, 9), 1, "over before");
        assert_eq!(lost(12, 12, 13), 1, "begun after");
        assert_eq!(lost(11, 11, 11), 0, "within");
        assert_eq!(lost(8, 9, 11), 0, "under way at the kill");
        assert_eq!(lost(1, 14, 15), 0, "on a connection that stood at the kill");
    }

    #[test]
    fn failures_without_details_are_never_excused() {
        let now = Instant::now();
        let outages = [Outage { from: now, until: now + Duration::from_secs(1) }];
        let tally = Tally { requests: 3, failed: 1, ..Tally::default() };
        assert_eq!(tally.unexplained(&outages), 1);
    }
}
