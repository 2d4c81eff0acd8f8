//! The `[audit]` section.

use jiff::SignedDuration;
use serde::Deserialize;

use super::ConfigError;

/// How long audit logs are kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Entries older than this are deleted.
    pub keep_days: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self { keep_days: 730 }
    }
}

impl Audit {
    /// The age up to which entries are kept.
    pub fn kept(self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.keep_days) * 24)
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        if (7..=36_500).contains(&self.keep_days) {
            return Ok(());
        }
        let days = self.keep_days;
        Err(ConfigError::Invalid(format!("[audit] keep_days is {days}; use 7 to 36500")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_retention_out_of_range_is_refused() {
        Audit::default().check().unwrap();
        for keep_days in [0, 6, 40_000] {
            assert!(Audit { keep_days }.check().is_err(), "{keep_days}");
        }
    }
}
