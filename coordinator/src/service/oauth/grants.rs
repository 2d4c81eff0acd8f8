//! Tokens for a code, a refresh token, or a login.

use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::secret::Secret;
use jiff::{SignedDuration, Timestamp};

use super::consent;
use super::error::{ErrorCode, SUSPENDED, TokenError};
use super::inspect::is_suspended;
use crate::auth::session::{self, SessionError};
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::crypto::random;
use crate::domain::identity::{HashedToken, Scope, Scopes};
use crate::state::AppState;
use crate::store::contract::{Client, Grant, Token, TokenKind};
use crate::store::{StoreError, Tables};

/// Lifetime of an access token.
const ACCESS_LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// Lifetime of a refresh token.
const REFRESH_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A new pair of tokens, for the answer.
pub(super) struct Pair {
    access: PlainToken,
    refresh: PlainToken,
}

/// What a client gets: an access token, and a refresh token for the next one.
#[derive(Debug)]
pub struct Tokens {
    pub access: Secret,
    pub refresh: Secret,
    /// Of the access token.
    pub lifetime: SignedDuration,
    /// Of the access token.
    pub scopes: Scopes,
}

/// What a client exchanges for tokens.
#[derive(Debug)]
pub enum Subject {
    /// The JWT of a login.
    Login(Secret),
    /// A token of a type that is not taken.
    Other,
}

/// A [`Pair`] as the store keeps it. The transaction has only this.
#[derive(Debug, Clone, Copy)]
pub(super) struct HashedPair {
    access: HashedToken,
    refresh: HashedToken,
    pub(super) now: Timestamp,
}

impl Pair {
    pub(super) fn generate(state: &AppState) -> (Self, HashedPair) {
        let pair = Self {
            access: PlainToken::generate(PlainTokenKind::Access, &*state.random),
            refresh: PlainToken::generate(PlainTokenKind::Refresh, &*state.random),
        };
        let hashed = HashedPair {
            access: pair.access.hashed(),
            refresh: pair.refresh.hashed(),
            now: state.clock.now(),
        };
        (pair, hashed)
    }

    /// The answer, once the pair is stored; `scopes`: those of the access token.
    pub(super) fn into_tokens(self, scopes: Scopes) -> Tokens {
        Tokens {
            access: self.access.into_secret(),
            refresh: self.refresh.into_secret(),
            lifetime: ACCESS_LIFETIME,
            scopes,
        }
    }
}

impl HashedPair {
    pub(super) fn store(
        &self,
        tables: &mut dyn Tables,
        grant: &Grant,
        scopes: &Scopes,
    ) -> Result<(), StoreError> {
        let token = |hash, kind, lifetime, scopes: &Scopes| Token {
            hash,
            kind,
            grant: grant.id,
            scopes: scopes.clone(),
            issued_at: self.now,
            expires_at: self.now + lifetime,
            used_at: None,
        };
        tables.insert_token(&token(self.access, TokenKind::Access, ACCESS_LIFETIME, scopes))?;
        // The refresh token keeps the whole grant: a narrower access token now does not bind
        // the next one (RFC 6749, 6).
        let whole = &grant.scopes;
        tables.insert_token(&token(self.refresh, TokenKind::Refresh, REFRESH_LIFETIME, whole))
    }
}

/// Redeems an authorization code (RFC 6749, 4.1.3). A code used twice was stolen: its tokens are
/// revoked (4.1.2).
pub async fn redeem(
    state: &AppState,
    client: Client,
    code: &Secret,
    redirect_uri: Option<String>,
    verifier: Secret,
) -> Result<Tokens, TokenError> {
    const WRONG: &str =
        "the code is wrong, expired, or was issued to another client; ask for a new one";
    let hash = PlainToken::parse(PlainTokenKind::Code, code.expose())
        .ok_or(TokenError::grant(WRONG))?
        .hashed();
    let (pair, hashed) = Pair::generate(state);
    // The inner result is the answer, the outer one the transaction: the end of a grant must be
    // committed although the request is refused.
    state
        .store
        .write(move |tables| {
            let Some(code) = tables.code(&hash)? else { return Ok(Err(TokenError::grant(WRONG))) };
            let Some(grant) = tables.grant(code.grant)? else {
                return Ok(Err(TokenError::grant(WRONG)));
            };
            if grant.client_id != client.client_id {
                return Ok(Err(TokenError::grant(WRONG)));
            }
            if code.used_at.is_some() {
                consent::end(tables, &grant, hashed.now, "its code was used twice")?;
                return Ok(Err(TokenError::grant(
                    "the code was used before; all tokens that came of it are revoked, start over",
                )));
            }
            if hashed.now >= code.expires_at || grant.revoked_at.is_some() {
                return Ok(Err(TokenError::grant(WRONG)));
            }
            if redirect_uri.as_deref() != Some(code.redirect_uri.as_str()) {
                return Ok(Err(TokenError::grant(
                    "redirect_uri is not the one of the authorization request; send the same",
                )));
            }
            match code.challenge.matches(verifier.expose()) {
                Ok(true) => {}
                Ok(false) => {
                    return Ok(Err(TokenError::grant(
                        "code_verifier does not match the code_challenge of the request",
                    )));
                }
                Err(_) => {
                    return Ok(Err(TokenError::request(
                        "code_verifier must have 43 to 128 characters of A-Z a-z 0-9 - . _ ~",
                    )));
                }
            }
            if is_suspended(tables, &grant)? {
                return Ok(Err(SUSPENDED));
            }
            tables.use_code(&hash, hashed.now)?;
            hashed.store(tables, &grant, &grant.scopes)?;
            Ok(Ok(grant.scopes))
        })
        .await
        .map_err(|error: StoreError| TokenError::Store(error))?
        .map(|scopes| pair.into_tokens(scopes))
}

/// Exchanges a refresh token for its successor (RFC 6749, 6). One used twice was stolen: the grant
/// ends (RFC 9700, 4.14.2).
pub async fn refresh(
    state: &AppState,
    client: Client,
    token: &Secret,
    scope: Option<String>,
) -> Result<Tokens, TokenError> {
    const WRONG: &str =
        "the refresh token is wrong, expired, revoked, or another client's; log in again";
    let hash = PlainToken::parse(PlainTokenKind::Refresh, token.expose())
        .ok_or(TokenError::grant(WRONG))?
        .hashed();
    let (pair, hashed) = Pair::generate(state);
    state
        .store
        .write(move |tables| {
            let Some((token, grant)) = tables.token(&hash)? else {
                return Ok(Err(TokenError::grant(WRONG)));
            };
            let usable = token.kind == TokenKind::Refresh
                && grant.client_id == client.client_id
                && grant.revoked_at.is_none()
                && hashed.now < token.expires_at;
            if !usable {
                return Ok(Err(TokenError::grant(WRONG)));
            }
            if token.used_at.is_some() {
                consent::end(tables, &grant, hashed.now, "a refresh token was used twice")?;
                return Ok(Err(TokenError::grant(
                    "the refresh token was used before; the grant is revoked, log in again",
                )));
            }
            if is_suspended(tables, &grant)? {
                return Ok(Err(SUSPENDED));
            }
            let scopes = match scope.as_deref().map(str::parse::<Scopes>) {
                None => token.scopes.clone(),
                Some(Ok(scopes)) if !scopes.is_empty() && scopes.is_subset(&token.scopes) => scopes,
                Some(_) => {
                    return Ok(Err(TokenError::scope(
                        "scope asks for more than was granted; leave it out or ask for less",
                    )));
                }
            };
            tables.use_token(&hash, hashed.now)?;
            hashed.store(tables, &grant, &scopes)?;
            Ok(Ok(scopes))
        })
        .await
        .map_err(|error: StoreError| TokenError::Store(error))?
        .map(|scopes| pair.into_tokens(scopes))
}

/// Exchanges a login for the CLI's tokens (RFC 8693). No other client may: a login's JWT must not
/// become another app's tokens without the consent page.
pub async fn exchange(
    state: &AppState,
    client: Client,
    subject: Subject,
    scope: Option<String>,
) -> Result<Tokens, TokenError> {
    if client.client_id != CLI_CLIENT_ID {
        return Err(TokenError::Refused(
            ErrorCode::UnauthorizedClient,
            "only buddo-cli may exchange a login; use the authorization code flow",
        ));
    }
    let Subject::Login(jwt) = subject else {
        return Err(TokenError::request(
            "subject_token_type must be urn:ietf:params:oauth:token-type:jwt",
        ));
    };
    let scopes: Scopes = scope
        .as_deref()
        .unwrap_or(Scope::DeployManage.as_str())
        .parse()
        .map_err(|_| TokenError::scope("scope names one that does not exist"))?;
    let is_within = scopes.is_subset(&client.scopes);
    let scopes = scopes.offered();
    if scopes.is_empty() || !is_within {
        return Err(TokenError::scope("scope asks for more than the client may have"));
    }
    let login = match session::session_of(&state.auth, jwt.expose()).await {
        Ok(session) => session,
        Err(SessionError::Store(error)) => return Err(error.into()),
        Err(SessionError::Suspended(_)) => return Err(SUSPENDED),
        // RFC 8693, 2.2.2: an invalid subject token is an invalid request.
        Err(_) => {
            return Err(TokenError::request("subject_token is not a valid login; log in again"));
        }
    };
    let (pair, hashed) = Pair::generate(state);
    let grant = Grant {
        id: random::uuid(&*state.random),
        client_id: client.client_id,
        account: login.account.id,
        scopes: scopes.clone(),
        created_at: hashed.now,
        revoked_at: None,
    };
    let stored: Result<(), StoreError> = state
        .store
        .write(move |tables| {
            consent::give(tables, &grant, "token_exchange")?;
            tables.tie_grant(grant.id, login.id)?;
            hashed.store(tables, &grant, &grant.scopes)
        })
        .await;
    stored?;
    Ok(pair.into_tokens(scopes))
}
