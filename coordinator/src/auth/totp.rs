//! Time-based one-time codes (RFC 6238) and recovery codes.
//!
//! SHA-1, 6 digits, 30 seconds: what every authenticator app supports. One step of drift either way
//! is allowed (5.2). That a code counts only once is up to the store, which keeps the last step
//! used.

use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;
use jiff::Timestamp;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use totp_rs::{Builder, Totp, TotpError as Rule};

use crate::crypto::random::{self, Random};
use crate::domain::identity::{Email, HashedToken};

/// The issuer name that authenticator apps show.
const ISSUER: &str = "Buddo";
/// How many recovery codes an account gets at a time.
pub const RECOVERY_CODES: usize = 10;
/// Leaves out letters and digits that are easily confused.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// A stored secret is invalid, or its QR code cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum TotpError {
    /// The secret is not base32.
    #[error("a stored one-time secret is not base32")]
    Secret,
    /// The parameters are not valid under RFC 6238.
    #[error("a one-time secret cannot be used")]
    Rule(#[source] Rule),
    /// The link is too long for a QR code.
    #[error("cannot draw a QR code")]
    QrCode(#[source] qrcode::types::QrError),
}

/// A shared secret. `Debug` does not print it.
pub struct SharedSecret(Totp);

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret([redacted])")
    }
}

impl SharedSecret {
    /// A new secret of 160 bits (RFC 4226, 4, R6) for the account with this address.
    pub fn generate(random: &dyn Random, email: &Email) -> Result<Self, TotpError> {
        let secret = totp_rs::Secret::new_stack(random::bytes::<20>(random));
        Self::build(Builder::new().with_account_name(email.as_str()), secret)
    }

    /// Reads what [`to_base32`](Self::to_base32) gave to the store.
    pub fn from_base32(text: &Secret) -> Result<Self, TotpError> {
        let secret = totp_rs::Secret::try_from_base32(text.expose());
        Self::build(Builder::new(), secret.map_err(|_| TotpError::Secret)?)
    }

    fn build(builder: Builder, secret: totp_rs::Secret) -> Result<Self, TotpError> {
        builder
            .with_algorithm(totp_rs::Algorithm::SHA1)
            .with_digits(6)
            .with_step_duration(30)
            .with_skew(1)
            .with_issuer(Some(ISSUER))
            .with_secret(secret)
            .build()
            .map(Self)
            .map_err(TotpError::Rule)
    }

    /// The secret in the form that people type.
    pub fn to_base32(&self) -> Secret {
        Secret::new(self.0.secret().to_base32())
    }

    /// The `otpauth:` link that authenticator apps read.
    pub fn uri(&self) -> Result<Secret, TotpError> {
        self.0.to_url().map(Secret::new).map_err(TotpError::Rule)
    }

    /// The link as a QR code (SVG).
    pub fn picture(&self) -> Result<Secret, TotpError> {
        let uri = self.uri()?;
        let code = QrCode::with_error_correction_level(uri.expose(), EcLevel::M);
        let code = code.map_err(TotpError::QrCode)?;
        Ok(Secret::new(code.render::<svg::Color<'_>>().min_dimensions(240, 240).build()))
    }

    /// The time step that `offered` is valid for, at `now` or one step off.
    pub fn step_of(&self, offered: &Secret, now: Timestamp) -> Option<u64> {
        let code: String = offered.expose().chars().filter(|c| *c != ' ').collect();
        let plain = code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = u64::try_from(now.as_second()).ok()?;
        if plain { self.0.check(&code, seconds) } else { None }
    }

    /// The code at `now`, for tests.
    #[cfg(test)]
    pub(crate) fn code_at(&self, now: Timestamp) -> String {
        self.0.generate(u64::try_from(now.as_second()).unwrap()).to_string()
    }
}

/// New recovery codes of 100 random bits each, so a plain hash is enough.
pub fn recovery_codes(random: &dyn Random) -> Vec<Secret> {
    let code = |_| {
        let letters = random::bytes::<20>(random).map(|byte| ALPHABET[usize::from(byte % 32)]);
        let groups: Vec<String> = letters
            .chunks(5)
            .map(|group| group.iter().copied().map(char::from).collect())
            .collect();
        Secret::new(groups.join("-"))
    };
    (0..RECOVERY_CODES).map(code).collect()
}

/// What the store keeps of a recovery code, if `offered` is well-formed. Case, spaces and hyphens
/// are ignored.
pub fn recovery_hash(account: AccountId, offered: &Secret) -> Option<HashedToken> {
    let text = offered.expose();
    if text.len() > 64 {
        return None;
    }
    let letters: String =
        text.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    let well_formed = letters.len() == 20 && letters.bytes().all(|byte| ALPHABET.contains(&byte));
    well_formed.then(|| HashedToken::of(&format!("recovery code {account} {letters}")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;
    use crate::crypto::random::SystemRandom;

    /// The shared secret of RFC 6238, appendix B.
    fn of_the_rfc() -> SharedSecret {
        let bytes = totp_rs::Secret::new_stack(*b"12345678901234567890");
        SharedSecret::from_base32(&Secret::new(bytes.to_base32())).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// The RFC prints eight digits; ours are the last six.
    #[rstest]
    #[case(59, "287082", 0x1)]
    #[case(1_111_111_109, "081804", 0x0235_23EC)]
    #[case(1_111_111_111, "050471", 0x0235_23ED)]
    #[case(1_234_567_890, "005924", 0x0273_EF07)]
    #[case(2_000_000_000, "279037", 0x03F9_40AA)]
    #[case(20_000_000_000, "353130", 0x27BC_86AA)]
    fn rfc6238_appendix_b_test_vectors_match(
        #[case] seconds: i64,
        #[case] code: &str,
        #[case] step: u64,
    ) {
        let secret = of_the_rfc();
        assert_eq!(secret.code_at(at(seconds)), code);
        assert_eq!(secret.step_of(&Secret::new(code), at(seconds)), Some(step));
    }

    #[test]
    fn rfc6238_5_2_one_step_of_drift_is_accepted_and_no_more() {
        let secret = of_the_rfc();
        let now = 1_111_111_111;
        for (steps, taken) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = Secret::new(secret.code_at(at(now + 30 * steps)));
            assert_eq!(secret.step_of(&code, at(now)).is_some(), taken, "{steps}");
        }
    }

    #[test]
    fn rfc4226_4_r6_a_secret_has_160_bits_and_is_not_repeated() {
        let email = Email::parse("a@example.com").unwrap();
        let one = SharedSecret::generate(&SystemRandom, &email).unwrap().to_base32();
        let two = SharedSecret::generate(&SystemRandom, &email).unwrap().to_base32();
        assert_eq!(one.expose().len(), 32);
        assert_ne!(one, two);
    }

    #[test]
    fn malformed_codes_are_refused() {
        let secret = of_the_rfc();
        for bad in ["", "28708", "2870822", "28708a", "+87082", "２８７０８２", "-1"] {
            assert_eq!(secret.step_of(&Secret::new(bad), at(59)), None, "{bad}");
        }
        assert_eq!(secret.step_of(&Secret::new("287 082"), at(59)), Some(1));
    }

    #[test]
    fn the_link_is_in_the_form_that_apps_read() {
        let email = Email::parse("you+x@example.com").unwrap();
        let secret = SharedSecret::generate(&SystemRandom, &email).unwrap();
        let uri = secret.uri().unwrap();
        let url = url::Url::parse(uri.expose()).unwrap();
        assert_eq!((url.scheme(), url.host_str()), ("otpauth", Some("totp")));
        assert!(url.path().starts_with("/Buddo:you%2Bx"), "{}", url.path());
        let pairs: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs["secret"], secret.to_base32().expose());
        assert_eq!(pairs["issuer"], "Buddo");
        let picture = secret.picture().unwrap();
        assert!(picture.expose().contains("<svg "));
    }

    #[test]
    fn recovery_codes_ignore_case_and_separators() {
        let account = AccountId::new(Uuid::from_u128(1));
        let codes = recovery_codes(&SystemRandom);
        assert_eq!(codes.len(), 10);
        let hash = |account, text: &str| recovery_hash(account, &Secret::new(text));
        for code in &codes {
            let code = code.expose();
            let stored = hash(account, code).unwrap();
            assert_eq!(hash(account, &code.to_uppercase().replace('-', " ")), Some(stored));
            assert_ne!(hash(AccountId::new(Uuid::from_u128(2)), code), Some(stored));
        }
        for bad in ["", "abcde", "287082", &"a".repeat(21), &"l".repeat(20), &"a".repeat(1000)] {
            assert!(hash(account, bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(format!("{:?}", of_the_rfc()), "SharedSecret([redacted])");
    }
}
