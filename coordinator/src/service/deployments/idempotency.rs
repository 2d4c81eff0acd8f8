//! Requests that carry an `Idempotency-Key`: done once, answered alike each time.

use buddo_shared::api::deploy::DeploymentEnvelope;
use buddo_shared::id::AccountId;
use jiff::Timestamp;

use crate::service::deployments::error::DeployError;
use crate::state::Services;
use crate::store::Tables;
use crate::store::contract::{ANSWERS_KEPT, Replay};

/// The value of an `Idempotency-Key` header: 1–255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// A text that is no [`IdempotencyKey`].
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

/// A request that may come twice.
#[derive(Debug)]
pub(super) struct Request {
    /// Whose.
    pub(super) account: AccountId,
    /// What its sender calls it.
    pub(super) key: IdempotencyKey,
    /// What it asks for: a keyed hash, for the body may hold secrets.
    pub(super) hash: [u8; 32],
}

/// Does `work`, unless that was done for the same key: then it answers as it did then, with
/// `None` for what else the work yields. One without a key is a new one each time.
pub(super) fn once<T>(
    tables: &mut dyn Tables,
    services: &Services,
    request: Option<Request>,
    work: impl FnOnce(&mut dyn Tables) -> Result<(DeploymentEnvelope, T), DeployError>,
) -> Result<(DeploymentEnvelope, Option<T>), DeployError> {
    let Some(Request { account, key: IdempotencyKey(key), hash }) = request else {
        return work(tables).map(|(envelope, done)| (envelope, Some(done)));
    };
    let now = services.clock.now();
    // While the clock is doubted no answer is too old, so that none is forgotten, and what was done
    // is not done twice.
    let since = services.time.believed().ok().and_then(|now| now.checked_sub(ANSWERS_KEPT).ok());
    let since = since.unwrap_or(Timestamp::MIN);
    if let Some(first) = tables.replay(account, &key, since)? {
        if first.body_hash != hash {
            return Err(DeployError::KeyReused);
        }
        return Ok((serde_json::from_str(&first.answer)?, None));
    }
    let (envelope, done) = work(tables)?;
    let answer = Replay { body_hash: hash, answer: serde_json::to_string(&envelope)? };
    tables.keep_answer(account, &key, &answer, now, since)?;
    Ok((envelope, Some(done)))
}
