//! OAuth clients: registered by an account so that it, or others, may use the API by OAuth.

use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::crypto::random;
use crate::domain::field_error::FieldError;
use crate::domain::identity::{RedirectUri, Scope, Scopes};
use crate::state::AppState;
use crate::store::contract::{Account, Client, NewOAuthAct, OAuthAct};
use crate::store::{StoreError, Tables};

/// Maximum clients of an account; the list returns as many.
const MAX_CLIENTS: usize = 100;
/// Maximum redirect URIs of a client.
const MAX_REDIRECT_URIS: usize = 10;
/// Longest time that a replaced secret stays valid.
const MAX_OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// A client to be registered.
#[derive(Debug, Clone)]
pub struct NewClient {
    pub name: String,
    pub redirect_uris: Vec<RedirectUri>,
    pub scopes: Scopes,
    /// Whether it gets no secret.
    pub is_public: bool,
    /// Whether it may run on devices without a browser.
    pub device_flow: bool,
    pub description: Option<String>,
    pub logo_url: Option<String>,
    pub website_url: Option<String>,
}

/// The flows of a client.
#[derive(Debug, Clone, Copy)]
pub struct Flows {
    pub code: bool,
    pub device: bool,
}

/// A client whose secret was just made, if it has one.
#[derive(Debug)]
pub struct ClientWithSecret {
    pub client: Client,
    pub secret: Option<Secret>,
}

/// Errors of the client use cases.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Some fields are invalid; each is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// The account's mail address is not confirmed.
    #[error(
        "confirm your email address first: open the link in the verification mail, or ask for \
         a new one with POST /api/auth/send-verification"
    )]
    EmailUnverified,
    /// No such client.
    #[error("there is no app with this client_id; GET /api/oauth/my-apps lists yours")]
    NotFound,
    /// The client belongs to someone else.
    #[error("the app belongs to another account; GET /api/oauth/my-apps lists yours")]
    Forbidden,
    /// The client has no secret.
    #[error("the app is a public client, which has no secret; make a confidential one")]
    Public,
    /// The client does not act for the account.
    #[error("no app with this id is connected; GET /api/user/connected-apps lists them")]
    NotConnected,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers a client of `owner` and returns its secret, only this once.
pub async fn create_client(
    state: &AppState,
    owner: &Account,
    new: NewClient,
) -> Result<ClientWithSecret, ClientError> {
    if owner.email_verified_at.is_none() {
        return Err(ClientError::EmailUnverified);
    }
    let NewClient {
        name,
        redirect_uris,
        scopes,
        is_public,
        device_flow,
        description,
        logo_url,
        website_url,
    } = new;
    let is_approved = scopes.iter().all(Scope::is_harmless);
    let secret =
        (!is_public).then(|| PlainToken::generate(PlainTokenKind::ClientSecret, &*state.random));
    let id = random::uuid(&*state.random);
    let public = random::uuid(&*state.random).simple();
    let client = Client {
        id,
        client_id: format!("client_{public}"),
        owner: Some(owner.id),
        secret: secret.as_ref().map(PlainToken::hashed),
        old_secret: None,
        name,
        description,
        logo_url,
        website_url,
        redirect_uris,
        is_approved,
        device_flow,
        scopes,
        created_at: state.clock.now(),
    };
    let owner = owner.id;
    let client = state
        .store
        .write(move |tables| {
            if tables.clients_of(owner)?.len() >= MAX_CLIENTS {
                let detail =
                    format!("would be app {}; an account may have {MAX_CLIENTS}", MAX_CLIENTS + 1);
                return Err(ClientError::Invalid(vec![FieldError::new("/app_name", detail)]));
            }
            tables.insert_client(&client)?;
            let details = json!({
                "app_name": client.name,
                "scopes": client.scopes.words(),
                "redirect_uris": client.redirect_uris.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "is_public": client.secret.is_none(),
            });
            note(tables, OAuthAct::AppMade, &client, client.created_at, details)?;
            Ok(client.clone())
        })
        .await?;
    Ok(ClientWithSecret { client, secret: secret.map(PlainToken::into_secret) })
}

/// A client as shown publicly.
pub async fn client(state: &AppState, client_id: String) -> Result<Client, ClientError> {
    let client: Result<_, StoreError> =
        state.store.read(move |tables| tables.client(&client_id)).await;
    client?.ok_or(ClientError::NotFound)
}

/// The clients of an account.
pub async fn clients_of(state: &AppState, owner: &Account) -> Result<Vec<Client>, StoreError> {
    let owner = owner.id;
    state.store.read(move |tables| tables.clients_of(owner)).await
}

/// Replaces the secret of a client of `owner` and returns it, only this once. The previous one
/// stays valid for `overlap`.
pub async fn rotate_secret(
    state: &AppState,
    owner: AccountId,
    client_id: String,
    overlap: SignedDuration,
) -> Result<ClientWithSecret, ClientError> {
    if !(SignedDuration::ZERO..=MAX_OVERLAP).contains(&overlap) {
        let (seconds, most) = (overlap.as_secs(), MAX_OVERLAP.as_secs());
        let detail = format!("is {seconds}; use 0 to {most} seconds");
        return Err(ClientError::Invalid(vec![FieldError::new("/keep_old_seconds", detail)]));
    }
    let secret = PlainToken::generate(PlainTokenKind::ClientSecret, &*state.random);
    let (hash, now) = (secret.hashed(), state.clock.now());
    let client = state
        .store
        .write(move |tables| {
            let client = own(&*tables, owner, &client_id)?;
            let Some(current) = client.secret else { return Err(ClientError::Public) };
            let old = overlap.is_positive().then(|| (current, now + overlap));
            tables.set_client_secret(&client_id, &hash, old.as_ref())?;
            let details = json!({ "keep_old_seconds": overlap.as_secs() });
            note(tables, OAuthAct::SecretRotated, &client, now, details)?;
            Ok(client)
        })
        .await?;
    Ok(ClientWithSecret { client, secret: Some(secret.into_secret()) })
}

/// Changes the redirect URIs of a client of `owner`. An additional URI makes an approved client
/// wait for approval again: it was reviewed with the previous ones.
pub async fn edit_client(
    state: &AppState,
    owner: AccountId,
    client_id: String,
    uris: Vec<String>,
) -> Result<Client, ClientError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let mut client = own(&*tables, owner, &client_id)?;
            let flows =
                Flows { code: !client.redirect_uris.is_empty(), device: client.device_flow };
            let mut errors = Vec::new();
            let uris = redirect_uris(&uris, flows, &mut errors);
            if !errors.is_empty() {
                return Err(ClientError::Invalid(errors));
            }
            let widens = uris.iter().any(|uri| !client.redirect_uris.contains(uri));
            if widens && !client.scopes.iter().all(Scope::is_harmless) {
                client.is_approved = false;
                tables.approve_client(&client_id, false)?;
            }
            tables.set_redirect_uris(&client_id, &uris)?;
            client.redirect_uris = uris;
            let details = json!({
                "redirect_uris":
                    client.redirect_uris.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "is_approved": client.is_approved,
            });
            note(tables, OAuthAct::AppEdited, &client, now, details)?;
            Ok(client)
        })
        .await
}

/// Removes a client of `owner`; all consents to it end.
pub async fn remove_client(
    state: &AppState,
    owner: AccountId,
    client_id: String,
) -> Result<(), ClientError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let client = own(&*tables, owner, &client_id)?;
            tables.delete_client(&client_id)?;
            note(tables, OAuthAct::AppRemoved, &client, now, json!({ "app_name": client.name }))
        })
        .await
}

/// The only place that checks a client's owner.
fn own(tables: &dyn Tables, owner: AccountId, client_id: &str) -> Result<Client, ClientError> {
    let client = tables.client(client_id)?.ok_or(ClientError::NotFound)?;
    if client.owner == Some(owner) { Ok(client) } else { Err(ClientError::Forbidden) }
}

fn note(
    tables: &mut dyn Tables,
    act: OAuthAct,
    client: &Client,
    at: Timestamp,
    details: Value,
) -> Result<(), ClientError> {
    let client_id = client.client_id.clone();
    let details = Some(details);
    tables.insert_act(&NewOAuthAct {
        act,
        client_id,
        account: None,
        actor: client.owner,
        at,
        details,
    })?;
    Ok(())
}

/// Parses the redirect URIs of a client with these flows, or names what is wrong with them.
pub fn redirect_uris(
    uris: &[String],
    flows: Flows,
    errors: &mut Vec<FieldError>,
) -> Vec<RedirectUri> {
    if flows.device && !flows.code {
        if !uris.is_empty() {
            let detail =
                "is for the flow authorization_code; leave it out, or add that to grant_types";
            errors.push(FieldError::new("/redirect_uris", detail));
        }
        return Vec::new();
    }
    if !(1..=MAX_REDIRECT_URIS).contains(&uris.len()) {
        let detail = format!("must name 1 to {MAX_REDIRECT_URIS} addresses");
        errors.push(FieldError::new("/redirect_uris", detail));
    }
    let mut parsed = Vec::new();
    for (index, uri) in uris.iter().take(MAX_REDIRECT_URIS).enumerate() {
        match RedirectUri::parse(uri) {
            Ok(uri) => parsed.push(uri),
            Err(error) => errors.push(FieldError::new(format!("/redirect_uris/{index}"), error)),
        }
    }
    parsed
}
