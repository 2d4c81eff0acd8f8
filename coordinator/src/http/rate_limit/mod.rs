//! Rate limits: who is counted, and how answers say what is left.
//!
//! Headers follow draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy: "default";q=30;w=60`
//! and `RateLimit: "default";r=29;t=42`, on every answer of a limited endpoint.

pub mod config;
pub mod shown;
pub mod window;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use buddo_shared::id::AccountId;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Extensions, HeaderMap};
use tokio::time::Instant;

use super::problem::{self, ApiError};
use crate::state::AppState;
use config::RateLimits;
use window::{Decision, Limiter, Policy};

/// Keys that each limit remembers at most: some 100 MB if all are under attack at once.
const KEYS: usize = 50_000;

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Reading requests of one principal, on each endpoint.
    Reads,
    /// Changing requests of one principal, on each endpoint.
    Writes,
    /// Registrations from one address.
    Register,
    /// Passwords tried from one address.
    Login,
    /// Forgotten passwords from one address.
    ForgotPassword,
    /// Verification mails of one account.
    SendVerification,
    /// Apps made by one account.
    OauthApps,
    /// Invitations by one account.
    Invitations,
    /// Token requests from one address.
    Token,
    /// Device codes from one address.
    DeviceCodes,
    /// Requests without a token from one address.
    Public,
    /// Tokens that nobody has, from one address.
    Denied,
    /// Tokens that were not seen before, from one address.
    Lookups,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// An account.
    Account(AccountId),
    /// An account on one endpoint: the route as the router has it, so that there are few.
    Endpoint(AccountId, Box<str>),
    /// The API keys of all teams whose deployments one account answers for, on one endpoint: a
    /// hundred keys are not a hundred budgets.
    Keys(AccountId, Box<str>),
    /// An address; an IPv6 one stands for its /64, which is what one customer gets.
    Address(IpAddr),
    /// An IPv6 /48: what one site gets, and often one customer as well.
    Site(Ipv6Addr),
}

impl Key {
    /// The key of an address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(network(v6, 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// The site that an address' key is part of, for IPv6: who has a /48 has 65,536 keys.
    pub fn site(&self) -> Option<Self> {
        match self {
            Self::Address(IpAddr::V6(v6)) => Some(Self::Site(network(*v6, 48))),
            _ => None,
        }
    }
}

fn network(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let host = u128::MAX.checked_shr(bits).unwrap_or_default();
    Ipv6Addr::from_bits(address.to_bits() & !host)
}

/// How many of its parts a site counts for: more than one neighbour, and far fewer than it has.
pub const SITE: u32 = 4;

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
    /// The same limits for sites, by name.
    sites: Mutex<HashMap<Limit, Limiter<Key>>>,
}

impl Limiters {
    /// Limiters with nothing counted yet.
    pub fn new(limits: &RateLimits) -> Self {
        let new = |rate: config::Rate| Mutex::new(Limiter::new(rate.policy(), KEYS));
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

    /// Counts one request. `Ok`: it may go on, and its answer wants [`Standing::stamp`].
    /// `Err`: the 429, headers included.
    pub fn check(&self, limit: Limit, key: Key) -> Result<Standing, ApiError> {
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
        // A limiter holds counts alone, so that a panic elsewhere leaves nothing half-done.
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed();
        let decision = limiter.check(key, now);
        let standing = Standing { policy: limiter.policy(), decision };
        drop(limiter);
        if !decision.allowed {
            return Err(standing.refusal());
        }
        // After the part: one that is refused must not use up what its neighbours have.
        let Some(site) = site else { return Ok(standing) };
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = standing.policy.times(SITE);
        let limiter = sites.entry(limit).or_insert_with(|| Limiter::new(policy, KEYS));
        let whole = Standing { policy, decision: limiter.check(site, now) };
        if whole.decision.allowed { Ok(standing) } else { Err(whole.refusal()) }
    }

    /// Runs a request that is counted: the answer, whatever it is, says what is left.
    pub async fn limited<F>(&self, limit: Limit, key: Key, request: F) -> Response
    where
        F: Future<Output = Response>,
    {
        match self.check(limit, key) {
            Ok(standing) => standing.stamp(request.await),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// Where a caller stands after a request.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    policy: Policy,
    decision: Decision,
}

impl Standing {
    /// Writes the headers that say what is left.
    #[must_use]
    pub fn stamp(self, mut response: Response) -> Response {
        for (name, value) in self.headers() {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn headers(self) -> [(HeaderName, HeaderValue); 2] {
        let (quota, window) = (self.policy.quota(), self.policy.window().as_secs());
        let policy = format!("\"default\";q={quota};w={window}");
        let left = format!("\"default\";r={};t={}", self.decision.remaining, self.wait());
        [
            (HeaderName::from_static("ratelimit-policy"), header(&policy)),
            (HeaderName::from_static("ratelimit"), header(&left)),
        ]
    }

    /// Whole seconds until more is allowed, rounded up: waiting that long suffices.
    fn wait(self) -> u64 {
        let reset = self.decision.reset;
        reset.as_secs() + u64::from(reset.subsec_nanos() > 0)
    }

    fn refusal(self) -> ApiError {
        let (quota, window) = (self.policy.quota(), self.policy.window().as_secs());
        let wait = self.wait().max(1);
        let detail = format!(
            "more than {quota} requests in {window} seconds; wait {wait} seconds, then try again"
        );
        let error = ApiError::new(problem::RATE_LIMITED, detail)
            .with_header(RETRY_AFTER, HeaderValue::from(wait));
        self.headers()
            .into_iter()
            .fold(error, |error, (name, value)| error.with_header(name, value))
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Middleware: counts a request against the address that it came from.
pub async fn by_address(
    State((state, limit)): State<(AppState, Limit)>,
    request: Request,
    next: Next,
) -> Response {
    let proxies = &state.config.api.trusted_proxies;
    let address = client_address(request.extensions(), request.headers(), proxies);
    state.door.limiters.limited(limit, Key::address(address), next.run(request)).await
}

/// The address that a request came from: the connection's peer, or, where the peer is a trusted
/// proxy, the last address of `X-Forwarded-For` that is none. What stands further left was
/// written by somebody we do not trust.
pub fn client_address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted_proxies: &[IpAddr],
) -> IpAddr {
    // Without a peer (no listener sets none) all share one address: limited, never unlimited.
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip().to_canonical());
    let trusted = |address: IpAddr| trusted_proxies.iter().any(|t| t.to_canonical() == address);
    if !trusted(peer) {
        return peer;
    }
    let values: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
    let mut nearest = peer;
    for hop in hops {
        match hop.trim().parse::<IpAddr>() {
            Ok(address) if trusted(address.to_canonical()) => nearest = address.to_canonical(),
            Ok(address) => return address.to_canonical(),
            Err(_) => return nearest,
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiters() -> Limiters {
        Limiters::new(&RateLimits::default())
    }

    fn local() -> Key {
        Key::address(IpAddr::from([127, 0, 0, 1]))
    }

    #[tokio::test(start_paused = true)]
    async fn every_answer_says_what_is_left() {
        let limiters = limiters();
        let answer = || async { http::StatusCode::NO_CONTENT.into_response() };
        let response = limiters.limited(Limit::Reads, local(), answer()).await;
        assert_eq!(response.headers()["ratelimit-policy"], r#""default";q=30;w=60"#);
        assert_eq!(response.headers()["ratelimit"], r#""default";r=29;t=60"#);
        for _ in 0..29 {
            limiters.limited(Limit::Reads, local(), answer()).await;
        }
        tokio::time::advance(Duration::from_millis(18_500)).await;
        let refused = limiters.limited(Limit::Reads, local(), answer()).await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "42");
        assert_eq!(refused.headers()["ratelimit-policy"], r#""default";q=30;w=60"#);
        assert_eq!(refused.headers()["ratelimit"], r#""default";r=0;t=42"#);
        tokio::time::advance(Duration::from_secs(42)).await;
        assert_eq!(limiters.limited(Limit::Reads, local(), answer()).await.status(), 204);
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
    fn one_ipv6_customer_is_one_key() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:9"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }

    #[test]
    fn a_site_that_spreads_over_its_networks_is_limited_as_a_whole() {
        let limiters = limiters();
        let address = |site: u16, network: u16| {
            Key::address(Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1).into())
        };
        // Five registrations an hour for each network, four times as many for all of a site.
        let spread = (0..100).filter(|n| limiters.check(Limit::Register, address(1, *n)).is_ok());
        assert_eq!(spread.count(), 20);
        for _ in 0..5 {
            limiters.check(Limit::Register, address(2, 0)).unwrap();
        }
        // One network that asks on uses up nothing of its neighbours'.
        for _ in 0..100 {
            assert!(limiters.check(Limit::Register, address(2, 0)).is_err());
        }
        limiters.check(Limit::Register, address(2, 1)).unwrap();
        limiters.check(Limit::Login, address(1, 0)).unwrap();
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let address = |peer: &str, forwarded: &[&str], trusted: &[&str]| {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
            }
            let trusted: Vec<IpAddr> = trusted.iter().map(|text| text.parse().unwrap()).collect();
            client_address(&extensions, &headers, &trusted).to_string()
        };
        assert_eq!(address("192.0.2.1", &["10.0.0.9"], &[]), "192.0.2.1");
        assert_eq!(address("127.0.0.1", &["192.0.2.1"], &["127.0.0.1"]), "192.0.2.1");
        // The client wrote 10.9.9.9 itself.
        let spoofed = ["10.9.9.9, 192.0.2.1"];
        assert_eq!(address("127.0.0.1", &spoofed, &["127.0.0.1"]), "192.0.2.1");
        let split = ["10.9.9.9", "192.0.2.1", "10.0.0.2"];
        assert_eq!(address("127.0.0.1", &split, &["127.0.0.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(address("127.0.0.1", &["192.0.2.1, x"], &["127.0.0.1"]), "127.0.0.1");
        assert_eq!(address("127.0.0.1", &[], &["127.0.0.1"]), "127.0.0.1");
    }
}
