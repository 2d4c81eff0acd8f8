//! Which Caddy a world runs.

use std::path::Path;

use anyhow::ensure;

/// Where `scripts/install-packages --tests` puts a current Caddy.
const CURRENT: &str = "/usr/local/lib/buddo-tests/caddy/bin/caddy";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caddy {
    /// The distribution's. Debian 12 and 13 have 2.6.2, which answers 502 to a POST with a body
    /// whose first try was refused (caddy#7546).
    #[default]
    Distribution,
    /// The current one, which holds such a POST.
    Current,
}

impl Caddy {
    pub const ALL: [Self; 2] = [Self::Distribution, Self::Current];

    pub fn program(self) -> anyhow::Result<&'static str> {
        match self {
            Self::Distribution => Ok("caddy"),
            Self::Current => {
                ensure!(
                    Path::new(CURRENT).is_file(),
                    "{CURRENT} is not there; run `scripts/install-packages --tests`"
                );
                Ok(CURRENT)
            }
        }
    }
}
