//! The authorization endpoint's decisions (RFC 6749, 4.1; RFC 7636; RFC 9700; RFC 9207).

use std::collections::HashMap;

use jiff::SignedDuration;

use super::consent;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::crypto::random;
use crate::domain::identity::pkce::Challenge;
use crate::domain::identity::{RedirectUri, Scopes};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, Client, Code, Grant};

/// How long a code may be redeemed (RFC 6749, 4.1.2: ten minutes at most).
const CODE_LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// Longest `state` that is echoed.
const MAX_STATE: usize = 2048;

/// A valid authorization request, ready for the consent page.
#[derive(Debug, Clone)]
pub struct Checked {
    pub client: Client,
    /// Where the answer goes.
    pub redirect_uri: RedirectUri,
    /// The requested scopes.
    pub scopes: Scopes,
    challenge: Challenge,
    state: Option<String>,
}

/// An answer that goes back to the app: the URI to redirect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub String);

/// Why a request does not reach the consent page.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The app or the address is unknown: never redirect there (RFC 6749, 3.1.2.4).
    #[error("{0}")]
    Shown(&'static str),
    /// The request is invalid, and the app is told by redirect; but not through a visitor who is
    /// not logged in, if the app is not approved (RFC 9700, 4.11.2): anybody can make such an app,
    /// and its invalid request would make this server an open redirector.
    #[error("the authorization request is refused: {why}")]
    Refused {
        client: Box<Client>,
        /// The answer for the app.
        answer: Answer,
        /// The same for a person.
        why: String,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Parses an authorization request from its query.
pub async fn check_request(state: &AppState, query: &str) -> Result<Checked, RequestError> {
    let mut values = HashMap::new();
    let mut repeated = false;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        repeated |= values.insert(name.into_owned(), value.into_owned()).is_some();
    }
    let shown = RequestError::Shown;
    if repeated {
        return Err(shown("The app's request names a parameter twice. Tell the app's maker."));
    }
    let mut take = |name: &str| values.remove(name).filter(|value| !value.is_empty());
    let client_id = take("client_id")
        .ok_or(shown("The app's request names no client_id. Tell the app's maker."))?;
    let client: Result<_, StoreError> =
        state.store.read(move |tables| tables.client(&client_id)).await;
    let client = client?.ok_or(shown(
        "No app has this client_id. It may have been removed; tell the app's maker.",
    ))?;
    let redirect_uri = take("redirect_uri")
        .and_then(|uri| RedirectUri::parse(&uri).ok())
        .filter(|asked| client.redirect_uris.iter().any(|registered| registered.allows(asked)))
        .ok_or(shown(
            "The app wants to be answered at an address that is not registered for it. \
             Its maker has to register the exact redirect_uri.",
        ))?;

    let echo = take("state");
    let refuse = |error: &str, description: &str| {
        let pairs = [("error", error), ("error_description", description)];
        RequestError::Refused {
            client: Box::new(client.clone()),
            answer: answer(state, &redirect_uri, echo.as_deref(), &pairs),
            why: description.to_owned(),
        }
    };
    if echo.as_ref().is_some_and(|echo| echo.len() > MAX_STATE) {
        return Err(shown("The app's request has a state of more than 2048 bytes."));
    }
    if take("response_type").as_deref() != Some("code") {
        return Err(refuse("unsupported_response_type", "response_type must be code"));
    }
    // Without a method `plain` applies (RFC 7636, 4.3), which is refused.
    if take("code_challenge_method").as_deref() != Some("S256") {
        return Err(refuse(
            "invalid_request",
            "PKCE is required: code_challenge_method must be S256",
        ));
    }
    let challenge = take("code_challenge").and_then(|text| Challenge::parse(&text).ok());
    let Some(challenge) = challenge else {
        let description = "code_challenge must be the base64url SHA-256 of the code_verifier";
        return Err(refuse("invalid_request", description));
    };
    let scopes = match take("scope") {
        None => Ok(client.scopes.clone()),
        Some(words) => words.parse::<Scopes>(),
    };
    let scopes = match scopes {
        Ok(scopes) if scopes.is_subset(&client.scopes) => scopes.offered(),
        _ => Scopes::default(),
    };
    // Scopes that no endpoint requires are dropped (RFC 6749, 3.3); the token endpoint's answer
    // shows it.
    if scopes.is_empty() {
        let description = "the app may not ask for this scope; see its approved_scopes";
        return Err(refuse("invalid_scope", description));
    }
    Ok(Checked { redirect_uri, scopes, challenge, state: echo, client })
}

/// The account consents: returns a code. An app that is not approved serves only its owner.
pub async fn approve(
    state: &AppState,
    request: Checked,
    account: &Account,
) -> Result<Answer, StoreError> {
    let now = state.clock.now();
    let code = PlainToken::generate(PlainTokenKind::Code, &*state.random);
    let grant = Grant {
        id: random::uuid(&*state.random),
        client_id: request.client.client_id.clone(),
        account: account.id,
        scopes: request.scopes.clone(),
        created_at: now,
        revoked_at: None,
    };
    let row = Code {
        hash: code.hashed(),
        grant: grant.id,
        redirect_uri: request.redirect_uri.as_str().to_owned(),
        challenge: request.challenge,
        expires_at: now + CODE_LIFETIME,
        used_at: None,
    };
    let may = state
        .store
        .write(move |tables| {
            // It may have been suspended or removed since the request was read.
            let client = tables.client(&grant.client_id)?;
            if !client.is_some_and(|client| client.serves(grant.account)) {
                consent::deny(tables, &grant.client_id, grant.account, now)?;
                return Ok(false);
            }
            consent::give(tables, &grant, "authorization_code")?;
            tables.insert_code(&row)?;
            Ok::<bool, StoreError>(true)
        })
        .await?;
    if !may {
        return Ok(refusal(state, &request, "the app is not approved and serves its owner only"));
    }
    let code = code.into_secret();
    let pairs = [("code", code.expose())];
    Ok(answer(state, &request.redirect_uri, request.state.as_deref(), &pairs))
}

/// The account refuses.
pub async fn deny(
    state: &AppState,
    request: &Checked,
    account: &Account,
) -> Result<Answer, StoreError> {
    let (client_id, account, now) =
        (request.client.client_id.clone(), account.id, state.clock.now());
    let noted = state.store.write(move |tables| consent::deny(tables, &client_id, account, now));
    noted.await?;
    Ok(refusal(state, request, "the account's owner said no"))
}

fn refusal(state: &AppState, request: &Checked, description: &str) -> Answer {
    let pairs = [("error", "access_denied"), ("error_description", description)];
    answer(state, &request.redirect_uri, request.state.as_deref(), &pairs)
}

fn answer(
    state: &AppState,
    uri: &RedirectUri,
    echo: Option<&str>,
    pairs: &[(&str, &str)],
) -> Answer {
    // The issuer lets the app tell servers apart (RFC 9207, 2).
    let issuer = state.config.api.public_url();
    let echo = echo.map(|echo| ("state", echo));
    let pairs = pairs.iter().copied().chain(echo).chain([("iss", issuer.as_str())]);
    Answer(uri.with_query(pairs))
}
