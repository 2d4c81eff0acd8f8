//! All rate limits and their counters.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::config::{Rate, RateLimits};
use super::window::{Decision, Limiter, Policy};
use super::{Key, SITE};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Read requests of one principal, per endpoint.
    Reads,
    /// Write requests of one principal, per endpoint.
    Writes,
    /// Registrations from one address.
    Register,
    /// Password attempts from one address.
    Login,
    /// Requests for a password reset from one address.
    ForgotPassword,
    /// Verification mails of one account.
    SendVerification,
    /// Apps registered by one account.
    OauthApps,
    /// Invitations by one account.
    Invitations,
    /// Token requests from one address.
    Token,
    /// Device codes from one address.
    DeviceCodes,
    /// Requests without a token from one address.
    Public,
    /// Invalid tokens from one address.
    Denied,
    /// Tokens not seen before, from one address.
    Lookups,
}

/// Keys that each limit remembers at most: about 100 MB if all are under attack at once.
const KEYS: usize = 50_000;

/// All limiters of the API.
#[derive(Debug)]
pub struct Limiters {
    started: Instant,
    reads: Mutex<Limiter<Key>>,
    writes: Mutex<Limiter<Key>>,
    register: Mutex<Limiter<Key>>,
    login: Mutex<Limiter<Key>>,
    forgot_password: Mutex<Limiter<Key>>,
    send_verification: Mutex<Limiter<Key>>,
    oauth_apps: Mutex<Limiter<Key>>,
    invitations: Mutex<Limiter<Key>>,
    token: Mutex<Limiter<Key>>,
    device_codes: Mutex<Limiter<Key>>,
    public: Mutex<Limiter<Key>>,
    denied: Mutex<Limiter<Key>>,
    lookups: Mutex<Limiter<Key>>,
    /// The same limits for IPv6 sites, by limit.
    sites: Mutex<HashMap<Limit, Limiter<Key>>>,
}

impl Limiters {
    /// Limiters with nothing counted yet.
    pub fn new(limits: &RateLimits) -> Self {
        let new = |rate: Rate| Mutex::new(Limiter::new(rate.policy(), KEYS));
        Self {
            started: Instant::now(),
            reads: new(limits.reads),
            writes: new(limits.writes),
            register: new(limits.register),
            login: new(limits.login),
            forgot_password: new(limits.forgot_password),
            send_verification: new(limits.send_verification),
            oauth_apps: new(limits.oauth_apps),
            invitations: new(limits.invitations),
            token: new(limits.token),
            device_codes: new(limits.device_codes),
            public: new(limits.public),
            denied: new(limits.denied),
            lookups: new(limits.lookups),
            sites: Mutex::default(),
        }
    }

    /// Counts one request. `Ok`: it may proceed; `Err`: it is over the limit. Either says what is
    /// left.
    pub fn check(&self, limit: Limit, key: Key) -> Result<RateLimitStatus, RateLimitStatus> {
        let limiter = match limit {
            Limit::Reads => &self.reads,
            Limit::Writes => &self.writes,
            Limit::Register => &self.register,
            Limit::Login => &self.login,
            Limit::ForgotPassword => &self.forgot_password,
            Limit::SendVerification => &self.send_verification,
            Limit::OauthApps => &self.oauth_apps,
            Limit::Invitations => &self.invitations,
            Limit::Token => &self.token,
            Limit::DeviceCodes => &self.device_codes,
            Limit::Public => &self.public,
            Limit::Denied => &self.denied,
            Limit::Lookups => &self.lookups,
        };
        let site = key.site();
        // Only counters are behind the lock, so a panic elsewhere cannot leave them half-updated.
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed();
        let decision = limiter.check(key, now);
        let status = RateLimitStatus { policy: limiter.policy(), decision };
        drop(limiter);
        if !decision.allowed {
            return Err(status);
        }
        // The site after the network: a refused request must not use up its neighbours' quota.
        let Some(site) = site else { return Ok(status) };
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = status.policy.times(SITE);
        let limiter = sites.entry(limit).or_insert_with(|| Limiter::new(policy, KEYS));
        let whole = RateLimitStatus { policy, decision: limiter.check(site, now) };
        if whole.decision.allowed { Ok(status) } else { Err(whole) }
    }
}

/// The rate limit status after a request.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitStatus {
    policy: Policy,
    decision: Decision,
}

impl RateLimitStatus {
    /// The policy: requests per window.
    pub fn policy(self) -> Policy {
        self.policy
    }

    /// Requests left.
    pub fn remaining(self) -> u32 {
        self.decision.remaining
    }

    /// Whole seconds until more is allowed, rounded up: waiting that long is enough.
    pub fn wait(self) -> u64 {
        let reset = self.decision.reset;
        reset.as_secs() + u64::from(reset.subsec_nanos() > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn limiters() -> Limiters {
        Limiters::new(&RateLimits::default())
    }

    fn local() -> Key {
        Key::address(IpAddr::from([127, 0, 0, 1]))
    }

    #[test]
    fn limits_do_not_share_their_counts() {
        let limiters = limiters();
        for _ in 0..5 {
            limiters.check(Limit::Register, local()).unwrap();
        }
        assert!(limiters.check(Limit::Register, local()).is_err());
        limiters.check(Limit::Login, local()).unwrap();
    }

    #[test]
    fn an_ipv6_slash_64_shares_one_key() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:9"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }

    #[test]
    fn an_ipv6_site_is_limited_as_a_whole() {
        let limiters = limiters();
        let address = |site: u16, network: u16| {
            Key::address(Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1).into())
        };
        // Five registrations an hour per network, four times as many for a whole site.
        let spread = (0..100).filter(|n| limiters.check(Limit::Register, address(1, *n)).is_ok());
        assert_eq!(spread.count(), 20);
        for _ in 0..5 {
            limiters.check(Limit::Register, address(2, 0)).unwrap();
        }
        // A network that keeps asking uses up nothing of its neighbours' quota.
        for _ in 0..100 {
            assert!(limiters.check(Limit::Register, address(2, 0)).is_err());
        }
        limiters.check(Limit::Register, address(2, 1)).unwrap();
        limiters.check(Limit::Login, address(1, 0)).unwrap();
    }
}
