//! Passwords: Argon2id, off the async threads, with bounded concurrency.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use buddo_shared::model::secret::Secret;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;

use crate::domain::identity::StoredHash;

/// Minimum length of a password in characters (as the API's pages say).
const MIN_CHARS: usize = 8;
/// Maximum length of a new password in characters.
const MAX_CHARS: usize = 128;
/// Maximum length of a password that is compared in bytes, to bound the hashing.
const MAX_BYTES: usize = 1024;
/// Minimum number of guesses for an attacker, estimated from how attackers are known to guess.
/// Everything on the bundled lists of leaked passwords, names and words is below it, simple
/// variations included.
const MIN_GUESSES: u64 = 1_000_000;
/// How long a caller waits for a hashing slot before it is told to come back.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// An acceptable new password.
#[derive(Debug, Clone)]
pub struct Password(Secret);

/// Why a text is not acceptable as a [`Password`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRule {
    /// Fewer than 8 characters.
    #[error("is too short; use at least {MIN_CHARS} characters, several words are good")]
    Short,
    /// More than 128 characters.
    #[error("is too long; use at most {MAX_CHARS} characters")]
    Long,
    /// Leaked and well known, or easily derived from something that is (NIST SP 800-63B, 3.1.1.2).
    #[error(
        "is one of the first that an attacker tries, such as a leaked one, a name or a pattern; \
         use several words that have nothing to do with each other"
    )]
    Common,
}

impl Password {
    /// Checks a new password.
    pub fn parse(secret: Secret) -> Result<Self, PasswordRule> {
        match secret.expose().chars().count() {
            0..MIN_CHARS => Err(PasswordRule::Short),
            MIN_CHARS..=MAX_CHARS => Ok(Self(secret)),
            _ => Err(PasswordRule::Long),
        }
    }

    /// Whether somebody who also knows `hints`, such as the account's name, would guess it quickly.
    /// Takes milliseconds of CPU.
    fn is_common(&self, hints: &[String]) -> bool {
        let hints: Vec<&str> = hints.iter().map(String::as_str).collect();
        zxcvbn::zxcvbn(self.0.expose(), &hints).guesses() < MIN_GUESSES
    }
}

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
}

impl Cost {
    /// The OWASP Password Storage Cheat Sheet's recommendation for Argon2id.
    pub const OWASP: Self = Self { memory_kib: 19_456, passes: 2 };
}

/// Why a password was neither hashed nor compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// No slot became free within [`MAX_WAIT`].
    #[error("too many passwords are being checked at once")]
    Busy,
    /// Argon2 refused the parameters.
    #[error("hashing a password")]
    Hash(#[source] argon2::password_hash::Error),
    /// Argon2 refused the parameters.
    #[error("setting the cost of a password hash")]
    Cost(#[source] argon2::Error),
    /// The thread died.
    #[error("waiting for a password hash")]
    Thread(#[source] tokio::task::JoinError),
}

/// Why a new password was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// It breaks a rule for passwords.
    #[error("the password {0}")]
    Rule(PasswordRule),
    /// It could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Counts a waiting caller until dropped.
struct Waits<'a>(&'a Gauge);

impl<'a> Waits<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Hashes and compares passwords with a fixed maximum concurrency: each takes memory and a core.
#[derive(Debug, Clone)]
pub struct Hasher {
    argon2: Argon2<'static>,
    /// Compared against if an account does not exist, so that it takes equally long.
    decoy: StoredHash,
    turns: Arc<Semaphore>,
    waiting: Gauge,
}

impl Hasher {
    /// A hasher that works on `concurrency` passwords at a time. Computes one hash itself.
    pub fn new(cost: Cost, concurrency: usize) -> Result<Self, HashError> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(HashError::Cost)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash_with(&argon2, "a decoy, compared for accounts that do not exist")?;
        let turns = Arc::new(Semaphore::new(concurrency));
        Ok(Self { argon2, decoy, turns, waiting: Gauge::default() })
    }

    /// Hashes a new password with a fresh salt, unless it is a common one. `hints`: what an
    /// attacker would try for this account, such as its name.
    pub async fn choose(
        &self,
        password: Password,
        hints: Vec<String>,
    ) -> Result<StoredHash, ChooseError> {
        let argon2 = self.argon2.clone();
        let work = move || {
            if password.is_common(&hints) {
                return Err(ChooseError::Rule(PasswordRule::Common));
            }
            Ok(hash_with(&argon2, password.0.expose())?)
        };
        self.run(work).await?
    }

    /// Whether `offered` is the password of `stored`. Without a stored hash the answer is no, after
    /// the same amount of work.
    pub async fn verify(
        &self,
        offered: Secret,
        stored: Option<StoredHash>,
    ) -> Result<bool, HashError> {
        let argon2 = self.argon2.clone();
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.clone());
        let matches = self.run(move || verify_with(&argon2, &offered, &stored)).await?;
        Ok(matches && known)
    }

    /// How many passwords wait for a slot.
    pub fn waiting(&self) -> i64 {
        self.waiting.get()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let waits = Waits::new(&self.waiting);
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| HashError::Busy)?.map_err(|_| HashError::Busy)?;
        drop(waits);
        // The slot moves into the thread: a caller that goes away does not stop the work, so it
        // must not free the slot either.
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        task.await.map_err(HashError::Thread)
    }
}

fn hash_with(argon2: &Argon2<'_>, password: &str) -> Result<StoredHash, HashError> {
    let hash = argon2.hash_password(password.as_bytes()).map_err(HashError::Hash)?;
    Ok(StoredHash::from_stored(hash.to_string()))
}

fn verify_with(argon2: &Argon2<'_>, offered: &Secret, stored: &StoredHash) -> bool {
    offered.expose().len() <= MAX_BYTES
        && PasswordHash::new(stored.as_str())
            .is_ok_and(|hash| argon2.verify_password(offered.expose().as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 16, passes: 1 };

    fn password(text: &str) -> Password {
        Password::parse(Secret::new(text)).unwrap()
    }

    #[test]
    fn a_new_password_has_8_to_128_characters() {
        assert_eq!(Password::parse(Secret::new("1234567")).unwrap_err(), PasswordRule::Short);
        assert_eq!(Password::parse(Secret::new("ßßßßßßß")).unwrap_err(), PasswordRule::Short);
        password("12345678");
        password(&"ß".repeat(128));
        let long = Password::parse(Secret::new("x".repeat(129))).unwrap_err();
        assert_eq!(long, PasswordRule::Long);
    }

    #[rstest]
    #[case::leaked("iloveyou")]
    #[case::leaked_and_long("1q2w3e4r5t")]
    #[case::capitals_and_digits("Password123!")]
    #[case::leet("p4ssw0rd")]
    #[case::a_row_of_keys("qwertyuiop")]
    #[case::repeated("abcabcabcabc")]
    #[case::a_date("19870412")]
    #[case::its_name("myoperator1")]
    #[case::its_address("you@example.com")]
    fn nist_sp_800_63b_3_1_1_2_a_common_password_is_refused(#[case] text: &str) {
        let hints = ["myoperator".to_owned(), "you@example.com".to_owned()];
        assert!(password(text).is_common(&hints), "{text}");
    }

    #[rstest]
    #[case::published("a-strong-password")]
    #[case::words("correct horse battery")]
    #[case::random("kT7#mq2Zx9")]
    #[case::other_scripts("пшеница-вертолёт")]
    fn nist_sp_800_63b_3_1_1_2_uncommon_passwords_need_no_special_characters(#[case] text: &str) {
        assert!(!password(text).is_common(&[]), "{text}");
    }

    #[tokio::test]
    async fn a_common_password_is_not_hashed() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let refused = hasher.choose(password("sunshine1"), Vec::new()).await;
        assert!(matches!(refused, Err(ChooseError::Rule(PasswordRule::Common))), "{refused:?}");
        let hints = vec!["correct horse".to_owned()];
        let refused = hasher.choose(password("correct horse"), hints).await;
        assert!(matches!(refused, Err(ChooseError::Rule(PasswordRule::Common))), "{refused:?}");
    }

    #[tokio::test]
    async fn only_the_password_itself_matches() {
        let hasher = Hasher::new(CHEAP, 2).unwrap();
        let stored = hasher.choose(password("correct horse"), Vec::new()).await.unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=16,t=1,p=1$"));
        assert!(!stored.as_str().contains("horse"));
        let verify = |text: &str| hasher.verify(Secret::new(text), Some(stored.clone()));
        assert!(verify("correct horse").await.unwrap());
        assert!(!verify("correct horsf").await.unwrap());
        assert!(!verify("").await.unwrap());
        let again = hasher.choose(password("correct horse"), Vec::new()).await.unwrap();
        assert_ne!(again, stored, "each hash has a salt of its own");
    }

    #[tokio::test]
    async fn an_unknown_account_costs_the_same_hash_and_never_matches() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let decoy = "a decoy, compared for accounts that do not exist";
        assert!(verify_with(&hasher.argon2, &Secret::new(decoy), &hasher.decoy));
        assert!(!hasher.verify(Secret::new(decoy), None).await.unwrap());
    }

    #[test]
    fn the_default_cost_follows_owasp() {
        let hasher = Hasher::new(Cost::OWASP, 1).unwrap();
        assert!(hasher.decoy.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_without_a_turn_gets_busy() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let _taken = hasher.turns.acquire().await.unwrap();
        let result = hasher.verify(Secret::new("whatever"), None).await;
        assert!(matches!(result, Err(HashError::Busy)), "{result:?}");
    }
}
