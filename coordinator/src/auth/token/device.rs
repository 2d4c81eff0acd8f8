//! Device cookies: tell a browser that has logged in to an account before from strangers who guess
//! its password (OWASP, "Slow Down Online Guessing Attacks with Device Cookies").
//!
//! A cookie proves nothing else; its holder still needs the password. It reveals the account only
//! to somebody who already knows the address.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jiff::{SignedDuration, Timestamp};

use crate::crypto::random::{self, Random};
use crate::domain::identity::Email;

/// How long a browser is remembered.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(180 * 24);

const NONCE: usize = 16;
const TIME: usize = 8;

/// A browser that logged in to the account before, as the guess counters see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device([u8; NONCE]);

/// Makes and checks device cookies.
pub struct DeviceCookies(hmac::Key);

impl std::fmt::Debug for DeviceCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceCookies")
    }
}

impl DeviceCookies {
    /// With a key derived from the login key: replacing that one also voids all device cookies.
    pub fn new(login_key: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, login_key);
        let derived = hmac::sign(&key, b"buddo device cookies");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// A cookie for a browser that has just logged in.
    pub fn issue(&self, email: &Email, now: Timestamp, random: &dyn Random) -> String {
        let nonce = random::bytes::<NONCE>(random);
        let mut bytes = nonce.to_vec();
        bytes.extend(now.as_second().to_be_bytes());
        let tag = self.tag(email, &bytes);
        bytes.extend(tag.as_ref());
        BASE64.encode(bytes)
    }

    /// The browser, if the cookie is for this account and not too old.
    pub fn check(&self, text: &str, email: &Email, now: Timestamp) -> Option<Device> {
        // Longer texts are not decoded: they are untrusted input.
        let bytes = (text.len() < 128).then(|| BASE64.decode(text).ok()).flatten()?;
        let (signed, tag) = bytes.split_at_checked(NONCE + TIME)?;
        constant_time::verify_slices_are_equal(self.tag(email, signed).as_ref(), tag).ok()?;
        let (nonce, issued) = signed.split_at_checked(NONCE)?;
        let issued = Timestamp::from_second(i64::from_be_bytes(issued.try_into().ok()?)).ok()?;
        let age = now.duration_since(issued);
        (age < LIFETIME).then_some(Device(nonce.try_into().ok()?))
    }

    fn tag(&self, email: &Email, signed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        // The signed part has a fixed length, so no byte of it can be mistaken for the address.
        context.update(signed);
        context.update(email.key().as_bytes());
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRandom;

    fn email(text: &str) -> Email {
        Email::parse(text).unwrap()
    }

    #[test]
    fn a_cookie_is_for_one_account_one_server_and_half_a_year() {
        let now: Timestamp = "2026-05-21T10:00:00Z".parse().unwrap();
        let cookies = DeviceCookies::new(&[1; 32]);
        let one = email("one@example.com");
        let text = cookies.issue(&one, now, &SystemRandom);
        let device = cookies.check(&text, &email("One@Example.com"), now).unwrap();
        assert_eq!(cookies.check(&text, &one, now).unwrap(), device);
        let other = cookies.issue(&one, now, &SystemRandom);
        assert_ne!(cookies.check(&other, &one, now).unwrap(), device);
        assert!(cookies.check(&text, &email("two@example.com"), now).is_none());
        assert!(DeviceCookies::new(&[2; 32]).check(&text, &one, now).is_none());
        assert!(cookies.check(&text, &one, now + LIFETIME).is_none());
    }

    #[test]
    fn changed_or_forged_cookies_are_refused() {
        let now: Timestamp = "2026-05-21T10:00:00Z".parse().unwrap();
        let cookies = DeviceCookies::new(&[1; 32]);
        let one = email("one@example.com");
        let text = cookies.issue(&one, now, &SystemRandom);
        let bytes = BASE64.decode(&text).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(cookies.check(&BASE64.encode(changed), &one, now).is_none(), "byte {at}");
            assert!(cookies.check(&BASE64.encode(&bytes[..at]), &one, now).is_none());
        }
        for text in ["", "=", &"A".repeat(4000)] {
            assert!(cookies.check(text, &one, now).is_none());
        }
    }
}
