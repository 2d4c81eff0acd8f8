//! Requests that carry an `Idempotency-Key`: done once, answered alike each time.

use buddo_shared::id::AccountId;
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

/// What a request is sent again by.
#[derive(Debug)]
pub struct Asked {
    /// What its sender calls it.
    pub key: IdempotencyKey,
    /// The same bytes each time it is sent; they may hold secrets, and are not kept.
    pub body: Zeroizing<Vec<u8>>,
}

/// A request that may come twice.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) account: AccountId,
    /// What its sender calls it.
    pub(super) key: IdempotencyKey,
    /// What it asks for: a keyed hash, for the body may hold secrets.
    pub(super) hash: [u8; 32],
}

/// Does `work`, unless that was done for the same key: then its result is that of then, with
/// `None` for what else the work yields. A request without a key is a new one each time.
pub(super) fn idempotent<R, T>(
    tables: &mut dyn Tables,
    services: &Services,
    request: Option<Request>,
    work: impl FnOnce(&mut dyn Tables) -> Result<(R, T), DeployError>,
) -> Result<(R, Option<T>), DeployError>
where
    R: Serialize + DeserializeOwned,
{
    let Some(Request { account, key: IdempotencyKey(key), hash }) = request else {
        return work(tables).map(|(result, done)| (result, Some(done)));
    };
    let now = services.clock.now();
    // While the clock is doubted no result is too old, so that none is forgotten, and what was done
    // is not done twice.
    let since = services.time.believed().ok().and_then(|now| now.checked_sub(ANSWERS_KEPT).ok());
    let since = since.unwrap_or(Timestamp::MIN);
    if let Some(first) = tables.replay(account, &key, since)? {
        if first.body_hash != hash {
            return Err(DeployError::KeyReused);
        }
        return Ok((serde_json::from_str(&first.result)?, None));
    }
    let (result, done) = work(tables)?;
    let kept = Replay { body_hash: hash, result: serde_json::to_string(&result)? };
    tables.keep_answer(account, &key, &kept, now, since)?;
    Ok((result, Some(done)))
}
