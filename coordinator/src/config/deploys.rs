//! Auto rollback of deploys, and how many revisions of a deployment are kept.

use std::ops::RangeInclusive;

use buddo_shared::model::allow_list::ImageAllowList;
use serde::Deserialize;

use super::ConfigError;

/// `[deploy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deploys {
    /// For how many seconds after a switch a host rolls back to the previous revision by itself if
    /// the new one turns out bad; 0: never.
    pub auto_rollback_s: u32,
    /// Maximum number of revisions of a deployment that can be rolled back to.
    pub kept_revisions: usize,
    /// Where images may come from: registries, or namespaces in them.
    pub images: ImageAllowList,
}

/// Shorter, and a crash loop does not show in time; longer, and the old revision no longer says
/// anything about the new one.
const AUTO_ROLLBACK_S: RangeInclusive<u32> = 10..=86_400;

/// At least the current and the previous one; at most what a document can list.
const KEPT: RangeInclusive<usize> = 2..=50;

impl Default for Deploys {
    fn default() -> Self {
        Self { auto_rollback_s: 300, kept_revisions: 5, images: ImageAllowList::default() }
    }
}

impl Deploys {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.auto_rollback_s != 0 && !AUTO_ROLLBACK_S.contains(&self.auto_rollback_s) {
            return Err(ConfigError::Invalid(format!(
                "[deploy] auto_rollback_s is {}; use {} to {}, or 0 for no auto rollback",
                self.auto_rollback_s,
                AUTO_ROLLBACK_S.start(),
                AUTO_ROLLBACK_S.end()
            )));
        }
        if !KEPT.contains(&self.kept_revisions) {
            return Err(ConfigError::Invalid(format!(
                "[deploy] kept_revisions is {}; use {} to {}",
                self.kept_revisions,
                KEPT.start(),
                KEPT.end()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_values_are_refused() {
        Deploys::default().check().unwrap();
        Deploys { auto_rollback_s: 0, ..Deploys::default() }.check().unwrap();
        assert!(Deploys { auto_rollback_s: 9, ..Deploys::default() }.check().is_err());
        assert!(Deploys { kept_revisions: 1, ..Deploys::default() }.check().is_err());
        assert!(Deploys { kept_revisions: 51, ..Deploys::default() }.check().is_err());
    }
}
