//! What decides who comes in: the parts that accounts and OAuth need beside the store.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::secret::Secret;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::attempts::Attempts;
use crate::config::Config;
use crate::failures::Failures;
use crate::http::pages::Pages;
use crate::http::rate_limit::Limiters;
use crate::http::rate_limit::shown::ShownLately;
use crate::password::{Cost, HashError, Hasher};
use crate::random::{self, Random};
use crate::secret_file::{self, SecretFileError};
use crate::token::device::DeviceCookies;
use crate::token::jwt::Jwt;

/// The door's fittings.
#[derive(Debug)]
pub struct Door {
    /// Signs and checks logins.
    pub jwt: Jwt,
    /// Knows browsers that logged in before.
    pub devices: DeviceCookies,
    /// Hashes and compares passwords.
    pub hasher: Hasher,
    /// Counts requests.
    pub limiters: Limiters,
    /// Remembers whose tokens are, to count before they are looked up.
    pub shown: ShownLately,
    /// Slows guesses down.
    pub attempts: Attempts,
    /// Counts wrong passwords and codes for the audit log.
    pub failures: Failures,
    /// The pages that people see in a browser.
    pub pages: Pages,
    /// A hint: mail may be due.
    pub mail_due: Notify,
}

/// The door cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The file of the login key cannot be used.
    #[error("cannot use the key of login tokens")]
    File(#[from] SecretFileError),
    /// The file of the login key holds something else.
    #[error("jwt.key does not hold 32 bytes in base64url; delete it to void all logins")]
    Key,
    /// Passwords cannot be hashed.
    #[error("cannot hash passwords")]
    Password(#[from] HashError),
    /// A built-in page is broken.
    #[error("cannot read a built-in page")]
    Page(#[source] minijinja::Error),
}

impl Door {
    /// Reads the key of login tokens from the state directory, or makes it. `cost` is
    /// [`Cost::OWASP`] everywhere but in tests.
    pub fn open(config: &Config, random: &dyn Random, cost: Cost) -> Result<Self, DoorError> {
        let key = login_key(&config.state_dir.join("jwt.key"), random)?;
        // Each hash takes a core: half of them stay free for everything else.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            jwt: Jwt::new(&key, config.api.public_url()),
            devices: DeviceCookies::new(&key),
            hasher: Hasher::new(cost, cores.div_ceil(2))?,
            limiters: Limiters::new(&config.rate_limits),
            shown: ShownLately::default(),
            attempts: Attempts::default(),
            failures: Failures::default(),
            pages: Pages::new().map_err(DoorError::Page)?,
            mail_due: Notify::new(),
        })
    }
}

fn login_key(path: &Path, random: &dyn Random) -> Result<Zeroizing<[u8; 32]>, DoorError> {
    let text = secret_file::read_or_create::<DoorError>(path, || {
        let key = Zeroizing::new(random::bytes::<32>(random));
        Ok(Secret::new(BASE64.encode(key.as_slice())))
    })?;
    let bytes = Zeroizing::new(BASE64.decode(text.expose().trim()).map_err(|_| DoorError::Key)?);
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| DoorError::Key)
}
