//! Requests with an `Idempotency-Key`: executed once, answered the same each time.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::service::deployments::error::DeployError;
use crate::state::Services;
use crate::store::Tables;
use crate::store::contract::{ANSWERS_KEPT, Replay};

/// The value of an `Idempotency-Key` header: 1–255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// A text that is not an [`IdempotencyKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Idempotency-Key header is not valid; send 1 to 255 visible ASCII characters")]
pub struct KeyError;

impl IdempotencyKey {
    /// Parses the header's value.
    pub fn parse(value: &[u8]) -> Result<Self, KeyError> {
        match std::str::from_utf8(value) {
            Ok(text)
                if (1..=255).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(KeyError),
        }
    }
}

/// An idempotent request as received.
pub struct Asked {
    /// The key chosen by its sender.
    pub key: IdempotencyKey,
    /// The same bytes on each retry; they may hold secrets, and are not stored.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A request that may come twice.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) account: AccountId,
    /// The key chosen by its sender.
    pub(super) key: IdempotencyKey,
    /// Keyed hash of the body, which may hold secrets.
    pub(super) hash: [u8; 32],
}

/// Runs `work`, unless it was already done for the same key: then the stored result is returned,
/// with `None` for the rest of what `work` yields. A request without a key always runs.
pub(super) fn idempotent<R, T>(
    tables: &mut dyn Tables,
    services: &Services,
    request: Option<&Request>,
    work: impl FnOnce(&mut dyn Tables) -> Result<(R, T), DeployError>,
) -> Result<(R, Option<T>), DeployError>
where
    R: Serialize + DeserializeOwned,
{
    let Some(Request { account, key: IdempotencyKey(key), hash }) = request else {
        return work(tables).map(|(result, done)| (result, Some(done)));
    };
    let (account, hash) = (*account, *hash);
    let now = services.clock.now();
    // While the clock is in doubt no result counts as expired, so that nothing is done twice.
    let since = services.time.believed().ok().and_then(|now| now.checked_sub(ANSWERS_KEPT).ok());
    let since = since.unwrap_or(Timestamp::MIN);
    if let Some(first) = tables.replay(account, key, since)? {
        if first.body_hash != hash {
            return Err(DeployError::KeyReused);
        }
        return Ok((serde_json::from_str(&first.result)?, None));
    }
    let (result, done) = work(tables)?;
    let kept = Replay { body_hash: hash, result: serde_json::to_string(&result)? };
    tables.keep_answer(account, key, &kept, now, since)?;
    Ok((result, Some(done)))
}
