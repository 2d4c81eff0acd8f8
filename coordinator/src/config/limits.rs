//! Limits for accounts and requests.

use serde::Deserialize;

use super::ConfigError;

/// Limits that are not a rate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Deployments per account, destroyed ones not counted.
    pub deployments_per_account: u32,
    /// If set, replaces each tier's own limit per account.
    pub deployments_per_tier: Option<u32>,
    /// How far memory may be overcommitted: promised to deployments, as a multiple of the host's
    /// memory.
    pub memory_overcommit: f64,
    /// Concurrent requests; further ones wait.
    pub concurrent_requests: usize,
    /// Open connections; further ones wait to be accepted. One address gets an eighth.
    pub connections: usize,
    /// Open event streams (`GET /api/deploy/apps/{id}/events`).
    pub event_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deployments_per_account: 10,
            deployments_per_tier: None,
            memory_overcommit: 1.0,
            concurrent_requests: 512,
            connections: 4096,
            event_streams: 1024,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(0.1..=100.0).contains(&self.memory_overcommit) {
            return Err(ConfigError::Invalid(format!(
                "[limits] memory_overcommit is {}; use 0.1 to 100",
                self.memory_overcommit
            )));
        }
        if self.concurrent_requests == 0 || self.connections == 0 {
            return Err(ConfigError::Invalid(
                "[limits] concurrent_requests and connections must be at least 1".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_refused() {
        for bad in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            let limits = Limits { memory_overcommit: bad, ..Limits::default() };
            assert!(limits.check().is_err(), "{bad}");
        }
        assert!(Limits { connections: 0, ..Limits::default() }.check().is_err());
        Limits::default().check().unwrap();
    }
}
