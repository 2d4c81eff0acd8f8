//! What accounts and requests may take.

use serde::Deserialize;

use super::ConfigError;

/// Limits that are not a rate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Deployments of one account that are not destroyed.
    pub deployments_per_account: u32,
    /// Instead of each tier's own limit per account, where set.
    pub deployments_per_tier: Option<u32>,
    /// Memory promised to deployments may be this times what a host has.
    pub memory_overcommit: f64,
    /// Requests served at once; one more waits.
    pub concurrent_requests: usize,
    /// Connections open at once; one more waits to be accepted. One address gets an eighth.
    pub connections: usize,
    /// Event streams (`GET /api/deploy/apps/{id}/events`) open at once.
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
    fn nonsense_is_refused() {
        for bad in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            let limits = Limits { memory_overcommit: bad, ..Limits::default() };
            assert!(limits.check().is_err(), "{bad}");
        }
        assert!(Limits { connections: 0, ..Limits::default() }.check().is_err());
        Limits::default().check().unwrap();
    }
}
