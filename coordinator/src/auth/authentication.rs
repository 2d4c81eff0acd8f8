//! Authentication: what it takes to tell who sends a request, by password, login, token or key.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_runtime::clock::Clock;
use buddo_shared::model::secret::Secret;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::auth::access_token::Access;
use crate::auth::failed_logins::Failures;
use crate::auth::guesses::Attempts;
use crate::auth::password::{Cost, HashError, Hasher};
use crate::auth::token::device::DeviceCookies;
use crate::auth::token::jwt::Jwt;
use crate::config::Config;
use crate::crypto::random::{self, Random};
use crate::domain::identity::HashedToken;
use crate::process::secret_file::{self, SecretFileError};
use crate::store::Store;
use crate::store::cache::Cache;

/// Passwords, logins, tokens and the throttling of guesses. It has its own handles to the store and
/// the clock, because the state that use cases share holds this and cannot be passed to it.
pub struct Authentication {
    /// Signs and checks logins.
    pub jwt: Jwt,
    /// Recognises browsers that logged in before.
    pub devices: DeviceCookies,
    /// Hashes and compares passwords.
    pub hasher: Hasher,
    pub attempts: Attempts,
    /// Counts wrong passwords and codes for the audit log.
    pub failures: Failures,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    /// Access tokens read recently: until when they are valid, and what they allow.
    pub(super) access: Cache<HashedToken, (Timestamp, Access)>,
}

/// Authentication cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The login key file cannot be used.
    #[error("cannot use the key for login tokens")]
    File(#[from] SecretFileError),
    /// The login key file holds something else.
    #[error("jwt.key does not hold 32 bytes in base64url; delete it to void all logins")]
    Key,
    /// Passwords cannot be hashed.
    #[error("cannot hash passwords")]
    Password(#[from] HashError),
}

impl Authentication {
    /// Reads the key of login tokens from the state directory, or creates it. `cost` is
    /// [`Cost::OWASP`] everywhere except in tests.
    pub fn open(
        config: &Config,
        store: Store,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
        cost: Cost,
    ) -> Result<Self, AuthenticationError> {
        let key = login_key(&config.state_dir.join("jwt.key"), random)?;
        // Each hash takes a core: half of them stay free for everything else.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            jwt: Jwt::new(&key, config.api.public_url()),
            devices: DeviceCookies::new(&key),
            hasher: Hasher::new(cost, cores.div_ceil(2))?,
            attempts: Attempts::default(),
            failures: Failures::default(),
            store,
            clock,
            access: Cache::default(),
        })
    }
}

fn login_key(path: &Path, random: &dyn Random) -> Result<Zeroizing<[u8; 32]>, AuthenticationError> {
    let text = secret_file::read_or_create::<AuthenticationError>(path, || {
        let key = Zeroizing::new(random::bytes::<32>(random));
        Ok(Secret::new(BASE64.encode(key.as_slice())))
    })?;
    let bytes =
        Zeroizing::new(BASE64.decode(text.expose().trim()).map_err(|_| AuthenticationError::Key)?);
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| AuthenticationError::Key)
}
