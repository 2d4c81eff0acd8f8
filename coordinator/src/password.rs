//! Passwords: Argon2id, off the async threads, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use buddo_shared::secret::Secret;
use tokio::sync::Semaphore;

/// Characters that a password has at least (as the API's pages say).
const MIN_CHARS: usize = 8;
/// Bytes that a password has at most, so that hashing it is bounded.
const MAX_BYTES: usize = 1024;
/// How long a caller waits for its turn before it is told to come back.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// A password that a person may choose.
#[derive(Debug, Clone)]
pub struct Password(Secret);

/// Why a text may not be chosen as a [`Password`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRule {
    /// Fewer than 8 characters.
    #[error("is too short; use at least {MIN_CHARS} characters, several words are good")]
    Short,
    /// More than 1024 bytes.
    #[error("is too long; use at most {MAX_BYTES} bytes")]
    Long,
}

impl Password {
    /// Takes a new password.
    pub fn parse(secret: Secret) -> Result<Self, PasswordRule> {
        if secret.expose().len() > MAX_BYTES {
            Err(PasswordRule::Long)
        } else if secret.expose().chars().count() < MIN_CHARS {
            Err(PasswordRule::Short)
        } else {
            Ok(Self(secret))
        }
    }
}

/// A password's hash as a PHC string, parameters and salt included.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash(String);

impl StoredHash {
    /// Wraps a string that [`as_str`](Self::as_str) gave to the store.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The PHC string, for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredHash([redacted])")
    }
}

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// The recommendation of the OWASP Password Storage Cheat Sheet for Argon2id.
    pub const OWASP: Self = Self { memory_kib: 19_456, passes: 2 };
}

/// Why a password was neither hashed nor compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// All turns were taken for [`MAX_WAIT`].
    #[error("too many passwords are being checked at once")]
    Busy,
    /// Argon2 refused the parameters.
    #[error("hashing a password")]
    Hash(#[source] argon2::password_hash::Error),
    /// Argon2 refused the parameters.
    #[error("setting the cost of a password hash")]
    Cost(#[source] argon2::Error),
    /// The thread went away.
    #[error("waiting for a password hash")]
    Thread(#[source] tokio::task::JoinError),
}

/// Hashes and compares passwords, at most a fixed number at once: each costs memory and a core.
#[derive(Debug, Clone)]
pub struct Hasher {
    argon2: Argon2<'static>,
    /// Compared against when an account does not exist, so that it takes as long.
    decoy: StoredHash,
    turns: Arc<Semaphore>,
}

impl Hasher {
    /// A hasher that works on `concurrency` passwords at a time. Makes one hash itself.
    pub fn new(cost: Cost, concurrency: usize) -> Result<Self, HashError> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(HashError::Cost)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash_with(&argon2, "a decoy, compared for accounts that do not exist")?;
        Ok(Self { argon2, decoy, turns: Arc::new(Semaphore::new(concurrency)) })
    }

    /// Hashes a new password with a fresh salt.
    pub async fn hash(&self, password: Password) -> Result<StoredHash, HashError> {
        let argon2 = self.argon2.clone();
        self.run(move || hash_with(&argon2, password.0.expose())).await?
    }

    /// Whether `offered` is the password of `stored`. Without a stored hash the answer is no,
    /// after the same work.
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

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| HashError::Busy)?.map_err(|_| HashError::Busy)?;
        // The turn moves into the thread: a caller that goes away does not end the work, so its
        // turn must not end either.
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
    Ok(StoredHash(hash.to_string()))
}

fn verify_with(argon2: &Argon2<'_>, offered: &Secret, stored: &StoredHash) -> bool {
    offered.expose().len() <= MAX_BYTES
        && PasswordHash::new(stored.as_str())
            .is_ok_and(|hash| argon2.verify_password(offered.expose().as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 16, passes: 1 };

    fn password(text: &str) -> Password {
        Password::parse(Secret::new(text)).unwrap()
    }

    #[test]
    fn a_new_password_has_8_characters_and_at_most_1024_bytes() {
        assert_eq!(Password::parse(Secret::new("1234567")).unwrap_err(), PasswordRule::Short);
        assert_eq!(Password::parse(Secret::new("ßßßßßßß")).unwrap_err(), PasswordRule::Short);
        password("12345678");
        password(&"x".repeat(1024));
        let long = Password::parse(Secret::new("x".repeat(1025))).unwrap_err();
        assert_eq!(long, PasswordRule::Long);
    }

    #[tokio::test]
    async fn only_the_password_itself_matches() {
        let hasher = Hasher::new(CHEAP, 2).unwrap();
        let stored = hasher.hash(password("correct horse")).await.unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=16,t=1,p=1$"));
        assert!(!stored.as_str().contains("horse"));
        let verify = |text: &str| hasher.verify(Secret::new(text), Some(stored.clone()));
        assert!(verify("correct horse").await.unwrap());
        assert!(!verify("correct horsf").await.unwrap());
        assert!(!verify("").await.unwrap());
        let again = hasher.hash(password("correct horse")).await.unwrap();
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
    fn the_default_cost_is_owasps() {
        let hasher = Hasher::new(Cost::OWASP, 1).unwrap();
        assert!(hasher.decoy.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gets_no_turn_is_told_so() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let _taken = hasher.turns.acquire().await.unwrap();
        let result = hasher.verify(Secret::new("whatever"), None).await;
        assert!(matches!(result, Err(HashError::Busy)), "{result:?}");
    }
}
