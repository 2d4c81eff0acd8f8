//! Authentication: the parts that accounts and OAuth need besides the store.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::model::secret::Secret;
use zeroize::Zeroizing;

use crate::auth::failed_logins::Failures;
use crate::auth::guesses::Attempts;
use crate::auth::password::{Cost, HashError, Hasher};
use crate::auth::token::device::DeviceCookies;
use crate::auth::token::jwt::Jwt;
use crate::config::Config;
use crate::crypto::random::{self, Random};
use crate::process::secret_file::{self, SecretFileError};

/// Passwords, logins and the throttling of guesses.
#[derive(Debug)]
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
