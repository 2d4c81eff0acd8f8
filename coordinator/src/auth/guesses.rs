//! Slows down guessing: after some failures in a row, each further try has to wait, and the wait
//! grows.
//!
//! A try counts as failed from its start until it is known to have succeeded, so that parallel
//! tries find no gap. Memory is bounded. Nobody is locked out for good: the wait for an account's
//! password is short, since strangers can cause it; the wait for a one-time code is long, since
//! only somebody who knows the password can.
//!
//! Strangers' failures do not delay a known client: a browser that logged in to the account before,
//! and a session that repeats the password, have counters of their own.
//! ```text
//! begin ─► too soon: wait
//!    └───► the check ─► right: settle (resets the account; the address gets its try back)
//!                   ├─► wrong: stays counted
//!                   └─► not run, e.g. no hashing slot: undo
//! ```

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buddo_runtime::backoff::Backoff;
use buddo_runtime::bounded_map::BoundedMap;
use buddo_shared::model::id::AccountId;
use tokio::time::Instant;

use crate::auth::token::device::Device;
use crate::domain::identity::Email;
use crate::limits::{Key, SITE};

/// Subjects remembered at most per kind of guess; the longest untouched are dropped first.
const SUBJECTS: usize = 50_000;

#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Tries before the first wait.
    free: u32,
    /// From then on, by further failures.
    waits: Backoff,
    /// Failures are forgotten after this long without another.
    forget: Duration,
}

const PASSWORDS_OF_ACCOUNT: Pace = Pace {
    free: 10,
    waits: Backoff::new(Duration::from_secs(1), Duration::from_mins(1)),
    forget: Duration::from_hours(1),
};
const PASSWORDS_FROM_ADDRESS: Pace = Pace {
    free: 50,
    waits: Backoff::new(Duration::from_secs(1), Duration::from_mins(15)),
    forget: Duration::from_hours(1),
};
/// An IPv6 site (/48): it holds 65,536 of the addresses (/64s) above.
const PASSWORDS_FROM_SITE: Pace =
    Pace { free: PASSWORDS_FROM_ADDRESS.free * SITE, ..PASSWORDS_FROM_ADDRESS };
/// Three in a million codes are valid at any time: this allows some thirty tries a day.
const CODES_OF_ACCOUNT: Pace = Pace {
    free: 5,
    waits: Backoff::new(Duration::from_secs(30), Duration::from_hours(1)),
    forget: Duration::from_hours(24),
};

/// The failures of one subject.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: Duration,
    until: Duration,
}

/// Failures by subject. Pure: the caller supplies the time.
#[derive(Debug)]
struct Guesses<K> {
    pace: Pace,
    failures: BoundedMap<K, Failures>,
}

impl<K: Eq + Hash> Guesses<K> {
    fn new(pace: Pace, capacity: usize) -> Self {
        Self { pace, failures: BoundedMap::new(capacity) }
    }

    /// Counts a try as failed for now. `Err`: it comes too soon by this much, and is not counted.
    fn begin(&mut self, key: K, now: Duration) -> Result<(), Duration> {
        let Pace { free, waits, forget } = self.pace;
        let failures = self.failures.entry(key);
        if now.saturating_sub(failures.last) > forget {
            *failures = Failures::default();
        }
        if now < failures.until {
            return Err(failures.until.saturating_sub(now));
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if let Some(beyond) = failures.count.checked_sub(free) {
            // Without jitter: what people are told has to be enough.
            failures.until = now.saturating_add(waits.delay(beyond, 0.0));
        }
        Ok(())
    }

    /// Takes back what [`begin`](Self::begin) counted.
    fn undo(&mut self, key: &K) {
        if let Some(failures) = self.failures.get_mut(key) {
            failures.count = failures.count.saturating_sub(1);
            failures.until = Duration::ZERO;
        }
    }

    fn clear(&mut self, key: &K) {
        self.failures.remove(key);
    }
}

/// A try that comes too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSoon(pub Duration);

/// All counters.
#[derive(Debug)]
pub struct Attempts {
    started: Instant,
    passwords: Mutex<Guesses<Box<str>>>,
    addresses: Mutex<Guesses<Key>>,
    sites: Mutex<Guesses<Key>>,
    codes: Mutex<Guesses<AccountId>>,
    devices: Mutex<Guesses<Device>>,
    sessions: Mutex<Guesses<AccountId>>,
}

/// Who tries a password.
#[derive(Debug, Clone)]
pub enum Who<'a> {
    /// Somebody not logged in, for an address that may or may not exist.
    Stranger {
        email: Option<&'a Email>,
        from: IpAddr,
        /// The browser, if it logged in to this account before.
        device: Option<Device>,
    },
    /// A logged-in session that repeats its account's password.
    Session(AccountId),
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            passwords: Mutex::new(Guesses::new(PASSWORDS_OF_ACCOUNT, SUBJECTS)),
            addresses: Mutex::new(Guesses::new(PASSWORDS_FROM_ADDRESS, SUBJECTS)),
            sites: Mutex::new(Guesses::new(PASSWORDS_FROM_SITE, SUBJECTS)),
            codes: Mutex::new(Guesses::new(CODES_OF_ACCOUNT, SUBJECTS)),
            devices: Mutex::new(Guesses::new(PASSWORDS_OF_ACCOUNT, SUBJECTS)),
            sessions: Mutex::new(Guesses::new(PASSWORDS_OF_ACCOUNT, SUBJECTS)),
        }
    }
}

impl Attempts {
    /// Begins a try of a password.
    pub fn password(&self, who: Who<'_>) -> Result<Attempt<'_>, TooSoon> {
        let now = self.started.elapsed();
        let (email, from) = match who {
            Who::Session(account) => {
                held(&self.sessions).begin(account, now).map_err(TooSoon)?;
                return Ok(Attempt { attempts: self, subject: Subject::Session(account) });
            }
            Who::Stranger { email, from, device } => {
                // A browser that keeps guessing counts as a stranger from then on.
                if let Some(device) = device
                    && held(&self.devices).begin(device, now).is_ok()
                {
                    return Ok(Attempt { attempts: self, subject: Subject::Device(device) });
                }
                (email, from)
            }
        };
        let address = Key::address(from);
        held(&self.addresses).begin(address.clone(), now).map_err(TooSoon)?;
        if let Some(site) = address.site()
            && let Err(wait) = held(&self.sites).begin(site, now)
        {
            held(&self.addresses).undo(&address);
            return Err(TooSoon(wait));
        }
        let account = email.map(|email| email.key().into_boxed_str());
        if let Some(account) = &account
            && let Err(wait) = held(&self.passwords).begin(account.clone(), now)
        {
            self.undo_at(&address);
            return Err(TooSoon(wait));
        }
        Ok(Attempt { attempts: self, subject: Subject::Stranger { account, address } })
    }

    /// Gives one try back to an address and its site.
    fn undo_at(&self, address: &Key) {
        held(&self.addresses).undo(address);
        if let Some(site) = address.site() {
            held(&self.sites).undo(&site);
        }
    }

    /// Begins a try of a one-time code.
    pub fn code(&self, account: AccountId) -> Result<(), TooSoon> {
        held(&self.codes).begin(account, self.started.elapsed()).map_err(TooSoon)
    }

    /// The code was right.
    pub fn code_was_right(&self, account: AccountId) {
        held(&self.codes).clear(&account);
    }

    /// The account has proved itself in another way, or has a new password.
    pub fn forgive(&self, email: &Email) {
        held(&self.passwords).clear(&email.key().into_boxed_str());
    }
}

/// A password try under way: counts as a failure unless settled or undone.
#[derive(Debug)]
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    subject: Subject,
}

/// The counter that a try counts against.
#[derive(Debug)]
enum Subject {
    Stranger { account: Option<Box<str>>, address: Key },
    Device(Device),
    Session(AccountId),
}

impl Attempt<'_> {
    /// The password was right. The address gets only this one try back, so that an attacker cannot
    /// reset its counter by logging in to an account of their own.
    pub fn settle(self) {
        match self.subject {
            Subject::Stranger { account, address } => {
                if let Some(account) = &account {
                    held(&self.attempts.passwords).clear(account);
                }
                self.attempts.undo_at(&address);
            }
            // What strangers have used up stays used up.
            Subject::Device(device) => held(&self.attempts.devices).clear(&device),
            Subject::Session(account) => held(&self.attempts.sessions).clear(&account),
        }
    }

    /// The password was not checked.
    pub fn undo(self) {
        match self.subject {
            Subject::Stranger { account, address } => {
                if let Some(account) = &account {
                    held(&self.attempts.passwords).undo(account);
                }
                self.attempts.undo_at(&address);
            }
            Subject::Device(device) => held(&self.attempts.devices).undo(&device),
            Subject::Session(account) => held(&self.attempts.sessions).undo(&account),
        }
    }
}

/// Only counters are behind the lock, so a panic elsewhere cannot leave them half-updated.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        free: 3,
        waits: Backoff::new(Duration::from_secs(1), Duration::from_secs(6)),
        forget: Duration::from_mins(10),
    };

    fn stranger(email: &Email, from: IpAddr) -> Who<'_> {
        Who::Stranger { email: Some(email), from, device: None }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waits_double_up_to_a_cap_and_expire() {
        let mut guesses = Guesses::new(PACE, 10);
        for _ in 0..3 {
            guesses.begin("a", secs(0)).unwrap();
        }
        let mut now = secs(0);
        for wait in [1, 2, 4, 6, 6] {
            assert_eq!(guesses.begin("a", now), Err(secs(wait)));
            guesses.begin("b", now).unwrap_or_default();
            now += secs(wait);
            guesses.begin("a", now).unwrap();
        }
        now += secs(601);
        for _ in 0..3 {
            guesses.begin("a", now).unwrap();
        }
        assert_eq!(guesses.begin("a", now), Err(secs(1)));
    }

    #[test]
    fn undone_and_successful_attempts_do_not_count() {
        let mut guesses = Guesses::new(PACE, 10);
        for _ in 0..20 {
            guesses.begin("a", secs(0)).unwrap();
            guesses.undo(&"a");
        }
        for _ in 0..3 {
            guesses.begin("a", secs(0)).unwrap();
        }
        guesses.clear(&"a");
        guesses.begin("a", secs(0)).unwrap();
    }

    #[test]
    fn concurrent_attempts_cannot_exceed_the_limit() {
        let attempts = Attempts::default();
        let email = Email::parse("a@example.com").unwrap();
        let from = IpAddr::from([192, 0, 2, 1]);
        let at_once: Vec<_> = (0..50).map(|_| attempts.password(stranger(&email, from))).collect();
        assert_eq!(at_once.iter().filter(|attempt| attempt.is_ok()).count(), 10);
    }

    #[test]
    fn own_logins_do_not_reset_the_limit_of_an_address() {
        let attempts = Attempts::default();
        let own = Email::parse("own@example.com").unwrap();
        let from = IpAddr::from([192, 0, 2, 1]);
        for guess in 0..50 {
            let victim = Email::parse(&format!("v{guess}@example.com")).unwrap();
            drop(attempts.password(stranger(&victim, from)).unwrap());
            if guess < 49 {
                attempts.password(stranger(&own, from)).unwrap().settle();
            }
        }
        let refused = attempts.password(stranger(&own, from)).unwrap_err();
        assert!(refused.0 <= secs(1), "{refused:?}");
        let elsewhere = IpAddr::from([192, 0, 2, 2]);
        attempts.password(stranger(&own, elsewhere)).unwrap();
    }

    #[test]
    fn guesses_from_an_ipv6_site_are_limited_as_a_whole() {
        let attempts = Attempts::default();
        let guess = |n: u16| {
            let victim = Email::parse(&format!("v{n}@example.com")).unwrap();
            let from = IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]);
            attempts.password(stranger(&victim, from)).is_ok()
        };
        assert_eq!((0..1000).filter(|n| guess(*n)).count(), 200);
    }

    #[test]
    fn known_devices_and_sessions_have_their_own_equal_limit() {
        let attempts = Attempts::default();
        let now: jiff::Timestamp = "2026-05-21T10:00:00Z".parse().unwrap();
        let cookies = crate::auth::token::device::DeviceCookies::new(&[1; 32]);
        let email = Email::parse("a@example.com").unwrap();
        let from = IpAddr::from([192, 0, 2, 1]);
        let cookie = cookies.issue(&email, now, &crate::crypto::random::SystemRandom);
        let device = cookies.check(&cookie, &email, now);
        let known = || Who::Stranger { email: Some(&email), from, device };
        while attempts.password(stranger(&email, from)).is_ok() {}
        attempts.password(known()).unwrap().settle();
        let account = AccountId::new(uuid::Uuid::from_u128(1));
        attempts.password(Who::Session(account)).unwrap().settle();
        // A right password does not forgive the strangers.
        assert!(attempts.password(stranger(&email, from)).is_err());
        for _ in 0..10 {
            drop(attempts.password(known()).unwrap());
            drop(attempts.password(Who::Session(account)).unwrap());
        }
        assert!(attempts.password(known()).is_err());
        assert!(attempts.password(Who::Session(account)).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let mut guesses = Guesses::new(PACE, 100);
        for key in 0..10_000 {
            guesses.begin(key, secs(1)).unwrap();
            assert!(guesses.failures.len() <= 100);
        }
    }
}
