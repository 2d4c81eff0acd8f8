//! Devices without a browser (RFC 8628).
//!
//! ```text
//! device ─ device_authorization ─► DeviceCode, and a UserCode to show
//! person ─ /device, logged in ─► enters the code ─► sees app and scopes ─► yes: Grant │ no
//! device ─ token, every 5 s ─► authorization_pending │ slow_down … ─► tokens │ access_denied
//! ```

use std::sync::Arc;

use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;

use super::consent;
use super::error::{ErrorCode, SUSPENDED, TokenError};
use super::grants::{Pair, Tokens};
use super::inspect::is_suspended;
use crate::auth::token::{PlainToken, PlainTokenKind, UserCode};
use crate::crypto::random;
use crate::domain::identity::Scopes;
use crate::state::AppState;
use crate::store::contract::{Account, Client, DeviceCode, Grant};
use crate::store::{StoreError, Tables};

/// How long a person has to decide.
pub const DEVICE_CODE_LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// Initial polling interval of a device in seconds (RFC 8628, 3.2).
const INTERVAL: u32 = 5;
/// Seconds added for each poll that comes too early (RFC 8628, 3.5).
const SLOWER: u32 = 5;
/// Maximum pending requests: no login is needed to make one. Ended ones do not count; they are kept
/// for an hour and until the next sweep, so that all together are some 135 MB at most. The limit
/// per address is the rate limit `device_codes`.
const MOST: u32 = 50_000;

/// A device's request as shown to the person who decides.
#[derive(Debug, Clone)]
pub struct DeviceRequest {
    /// The app on the device.
    pub client: Client,
    /// The requested scopes.
    pub scopes: Scopes,
}

/// The codes of a device that asks.
#[derive(Debug)]
pub struct DeviceStarted {
    pub device_code: Secret,
    /// For the person who decides.
    pub user_code: UserCode,
    /// Of both codes.
    pub lifetime: SignedDuration,
    /// Seconds between two polls, at first.
    pub interval: u32,
}

/// Result of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The device gets its tokens with its next poll.
    Allowed,
    Denied,
    /// The app is not approved, and the account is not its owner: no tokens.
    OwnerOnly,
    /// The code has expired, or was already decided on.
    Gone,
}

/// Starts the flow: two codes, one for the device and one for the person.
pub async fn start_device(
    state: &AppState,
    client: Client,
    scope: Option<String>,
) -> Result<DeviceStarted, TokenError> {
    if !client.device_flow {
        return Err(TokenError::Refused(
            ErrorCode::UnauthorizedClient,
            "the app does not use devices; make it with the device_code grant in grant_types",
        ));
    }
    let scopes = match scope {
        None => Some(client.scopes.clone()),
        Some(words) => {
            words.parse::<Scopes>().ok().filter(|scopes| scopes.is_subset(&client.scopes))
        }
    };
    let scopes = scopes
        .map(|scopes| scopes.offered())
        .filter(|scopes| !scopes.is_empty())
        .ok_or(TokenError::scope("the app may not ask for this scope"))?;
    let device = PlainToken::generate(PlainTokenKind::DeviceCode, &*state.random);
    let (hash, now) = (device.hashed(), state.clock.now());
    let services = Arc::clone(state);
    let user_code = state
        .store
        .write(move |tables| {
            if tables.count_device_codes(now)? >= MOST {
                return Err(TokenError::Busy);
            }
            // Two codes in use at once must differ; a collision is next to impossible.
            let user = loop {
                let code = UserCode::generate(&*services.random);
                if tables.device_code_by_user(&code.hashed())?.is_none() {
                    break code;
                }
            };
            tables.insert_device_code(&DeviceCode {
                hash,
                user_hash: user.hashed(),
                client_id: client.client_id.clone(),
                scopes: scopes.clone(),
                expires_at: now + DEVICE_CODE_LIFETIME,
                interval: INTERVAL,
                polled_at: None,
                is_allowed: None,
                grant: None,
                used_at: None,
            })?;
            Ok(user)
        })
        .await?;
    let device_code = device.into_secret();
    Ok(DeviceStarted { device_code, user_code, lifetime: DEVICE_CODE_LIFETIME, interval: INTERVAL })
}

/// A device's poll: the tokens, if the person has consented (RFC 8628, 3.4 and 3.5).
pub async fn redeem_device(
    state: &AppState,
    client: Client,
    code: &Secret,
) -> Result<Tokens, TokenError> {
    const WRONG: TokenError =
        TokenError::grant("the device code is wrong, or was issued to another client; start over");
    let hash = PlainToken::parse(PlainTokenKind::DeviceCode, code.expose()).ok_or(WRONG)?.hashed();
    let (pair, hashed) = Pair::generate(state);
    // The inner result is the answer, the outer one the transaction: a premature poll must be
    // committed although it is refused.
    state
        .store
        .write(move |tables| {
            let found = tables.device_code(&hash)?;
            let Some(code) = found.filter(|code| code.client_id == client.client_id) else {
                return Ok(Err(WRONG));
            };
            let grant = code.grant.map(|id| tables.grant(id)).transpose()?.flatten();
            if code.used_at.is_some() {
                if let Some(grant) = grant {
                    consent::end(tables, &grant, hashed.now, "its device code was used twice")?;
                }
                return Ok(Err(TokenError::grant(
                    "the device code was used before; all tokens that came of it are revoked",
                )));
            }
            if hashed.now >= code.expires_at {
                let text = "nobody decided in time; ask for a new device code";
                return Ok(Err(TokenError::Refused(ErrorCode::ExpiredToken, text)));
            }
            match (code.is_allowed, grant) {
                (None, _) => wait(tables, &code, hashed.now).map(Err),
                (Some(true), Some(grant)) if is_suspended(tables, &grant)? => Ok(Err(SUSPENDED)),
                (Some(true), Some(grant)) if grant.revoked_at.is_none() => {
                    tables.use_device_code(&hash, hashed.now)?;
                    hashed.store(tables, &grant, &grant.scopes)?;
                    Ok(Ok(grant.scopes))
                }
                (Some(_), _) => {
                    let text = "the account's owner said no";
                    Ok(Err(TokenError::Refused(ErrorCode::AccessDenied, text)))
                }
            }
        })
        .await
        .map_err(|error: StoreError| TokenError::Store(error))?
        .map(|scopes| pair.into_tokens(scopes))
}

/// Nobody has decided: the device waits, and longer if it polls too often.
fn wait(
    tables: &mut dyn Tables,
    code: &DeviceCode,
    now: jiff::Timestamp,
) -> Result<TokenError, StoreError> {
    let pause = SignedDuration::from_secs(code.interval.into());
    let early = code.polled_at.is_some_and(|last| now < last + pause);
    let interval = if early { code.interval.saturating_add(SLOWER) } else { code.interval };
    tables.poll_device_code(&code.hash, now, interval)?;
    Ok(if early {
        let text = "the device asks too often; it has to wait 5 seconds more from now on";
        TokenError::Refused(ErrorCode::SlowDown, text)
    } else {
        let text = "nobody has decided yet; ask again after the interval";
        TokenError::Refused(ErrorCode::AuthorizationPending, text)
    })
}

/// The request behind this code, as long as it can be decided on.
pub async fn device_request(
    state: &AppState,
    code: &UserCode,
) -> Result<Option<DeviceRequest>, StoreError> {
    let (hash, now) = (code.hashed(), state.clock.now());
    state
        .store
        .read(move |tables| {
            let Some(code) = tables.device_code_by_user(&hash)? else { return Ok(None) };
            if code.is_allowed.is_some() || now >= code.expires_at {
                return Ok(None);
            }
            let client = tables.client(&code.client_id)?;
            Ok(client.map(|client| DeviceRequest { client, scopes: code.scopes }))
        })
        .await
}

/// The decision of a logged-in person.
pub async fn decide_device(
    state: &AppState,
    code: &UserCode,
    account: &Account,
    allow: bool,
) -> Result<Decided, StoreError> {
    let (hash, now) = (code.hashed(), state.clock.now());
    let (account, grant_id) = (account.id, random::uuid(&*state.random));
    state
        .store
        .write(move |tables| {
            let code = tables.device_code_by_user(&hash)?;
            let open = |code: &DeviceCode| code.is_allowed.is_none() && now < code.expires_at;
            let Some(code) = code.filter(open) else { return Ok(Decided::Gone) };
            let Some(client) = tables.client(&code.client_id)? else { return Ok(Decided::Gone) };
            let may = client.serves(account);
            if !(allow && may) {
                tables.decide_device_code(&code.hash, None)?;
                consent::deny(tables, &client.client_id, account, now)?;
                return Ok(if allow { Decided::OwnerOnly } else { Decided::Denied });
            }
            let grant = Grant {
                id: grant_id,
                client_id: client.client_id,
                account,
                scopes: code.scopes,
                created_at: now,
                revoked_at: None,
            };
            consent::give(tables, &grant, "device_code")?;
            tables.decide_device_code(&code.hash, Some(grant.id))?;
            Ok(Decided::Allowed)
        })
        .await
}
