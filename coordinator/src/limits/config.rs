//! The `[rate_limits]` section of the configuration.

use serde::Deserialize;

use crate::limits::window::{Policy, PolicyError};

/// One limit: `{ requests = 30, seconds = 60 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rate(Policy);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    requests: u32,
    seconds: u32,
}

impl TryFrom<Written> for Rate {
    type Error = PolicyError;

    fn try_from(written: Written) -> Result<Self, PolicyError> {
        Policy::new(written.requests, written.seconds).map(Self)
    }
}

impl Rate {
    pub fn policy(self) -> Policy {
        self.0
    }
}

/// All rate limits. The defaults are the published ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimits {
    /// Read requests (GET, HEAD) of one principal, per endpoint.
    pub reads: Rate,
    /// Write requests of one principal, per endpoint.
    pub writes: Rate,
    /// `POST /api/auth/register`, from one address.
    pub register: Rate,
    /// Password attempts from one address, through the API and the login page together.
    pub login: Rate,
    /// `POST /api/auth/forgot-password`, from one address.
    pub forgot_password: Rate,
    /// `POST /api/auth/send-verification` of one account.
    pub send_verification: Rate,
    /// `POST /api/oauth/apps` of one account.
    pub oauth_apps: Rate,
    /// `POST /api/orgs/{orgId}/invitations` of one account.
    pub invitations: Rate,
    /// The token endpoint and its siblings, from one address.
    pub token: Rate,
    /// Device codes requested from one address. The default window is a code's lifetime (15
    /// minutes), so that no address has more undecided codes than the quota; a shorter window
    /// allows more.
    pub device_codes: Rate,
    /// Endpoints without a token: public look-ups, pages, mailed links, a host's join; from one
    /// address.
    pub public: Rate,
    /// Invalid tokens from one address. Valid ones are not affected by it.
    pub denied: Rate,
    /// Tokens not seen before, from one address: each is looked up in the database, valid or not.
    /// Tokens that were valid recently are not affected by it.
    pub lookups: Rate,
}

impl Default for RateLimits {
    #[expect(clippy::expect_used, reason = "constants, evaluated by a test as well")]
    fn default() -> Self {
        let rate = |requests, seconds| {
            Rate(Policy::new(requests, seconds).expect("the published limits are valid"))
        };
        Self {
            reads: rate(30, 60),
            writes: rate(10, 60),
            register: rate(5, 3600),
            login: rate(10, 60),
            forgot_password: rate(5, 3600),
            send_verification: rate(3, 3600),
            oauth_apps: rate(3, 3600),
            invitations: rate(20, 3600),
            token: rate(60, 60),
            device_codes: rate(30, 900),
            public: rate(60, 60),
            denied: rate(60, 60),
            lookups: rate(240, 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_can_be_raised_alone() {
        let limits: RateLimits =
            toml::from_str("reads = { requests = 1000000, seconds = 60 }").unwrap();
        assert_eq!(limits.reads.policy().quota(), 1_000_000);
        assert_eq!(limits.writes, RateLimits::default().writes);
    }

    #[test]
    fn invalid_limits_are_refused_with_a_fix() {
        let error =
            toml::from_str::<RateLimits>("login = { requests = 0, seconds = 60 }").unwrap_err();
        assert!(error.to_string().contains("at least 1"), "{error}");
        assert!(toml::from_str::<RateLimits>("logins = { requests = 1, seconds = 1 }").is_err());
    }
}
