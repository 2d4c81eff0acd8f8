//! Apps: registered by an account so that it, or others, may use the API by OAuth.

use buddo_shared::api::oauth::{
    App, AppCreated, AppList, CreateApp, DEVICE_CODE, EditApp, RotateSecret,
};
use buddo_shared::api::problem::FieldError;
use buddo_shared::id::AccountId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::app_form::{Parsed, parse, parse_edit};
use crate::auth::token::{Kind, PlainToken};
use crate::crypto::random;
use crate::domain::identity::Scope;
use crate::state::AppState;
use crate::store::contract::{Account, Act, Client, NewAct};
use crate::store::{StoreError, Tables};

/// Maximum apps of an account; the list returns as many.
const MAX_APPS: usize = 100;
/// Longest time that a replaced secret stays valid: a day.
const MAX_OVERLAP: i64 = 24 * 60 * 60;

/// Errors of the app use cases.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Some fields are invalid; each is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// The account's mail address is not confirmed.
    #[error(
        "confirm your email address first: open the link in the verification mail, or ask for \
         a new one with POST /api/auth/send-verification"
    )]
    EmailUnverified,
    /// No such app.
    #[error("there is no app with this client_id; GET /api/oauth/my-apps lists yours")]
    NotFound,
    /// The app belongs to someone else.
    #[error("the app belongs to another account; GET /api/oauth/my-apps lists yours")]
    Forbidden,
    /// The app has no secret.
    #[error("the app is a public client, which has no secret; make a confidential one")]
    Public,
    /// The app does not act for the account.
    #[error("no app with this id is connected; GET /api/user/connected-apps lists them")]
    NotConnected,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers an app of `owner` and returns its secret, only this once.
pub async fn create_app(
    state: &AppState,
    owner: &Account,
    request: CreateApp,
) -> Result<AppCreated, AppError> {
    if owner.email_verified_at.is_none() {
        return Err(AppError::EmailUnverified);
    }
    let Parsed {
        name,
        redirect_uris,
        scopes,
        is_public,
        device_flow,
        description,
        logo_url,
        website_url,
    } = parse(request).map_err(AppError::Invalid)?;
    let is_approved = scopes.iter().all(Scope::is_harmless);
    let secret = (!is_public).then(|| PlainToken::generate(Kind::ClientSecret, &*state.random));
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
    let mut app = view(&client);
    app.client_secret = secret.map(PlainToken::into_secret);
    let owner = owner.id;
    state
        .store
        .write(move |tables| {
            if tables.clients_of(owner)?.len() >= MAX_APPS {
                let detail =
                    format!("would be app {}; an account may have {MAX_APPS}", MAX_APPS + 1);
                return Err(AppError::Invalid(vec![FieldError::new("/app_name", detail)]));
            }
            tables.insert_client(&client)?;
            let details = json!({
                "app_name": client.name,
                "scopes": client.scopes.words(),
                "redirect_uris": client.redirect_uris.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "is_public": client.secret.is_none(),
            });
            note(tables, Act::AppMade, &client, client.created_at, details)
        })
        .await?;
    Ok(AppCreated { app })
}

/// An app as shown publicly.
pub async fn app(state: &AppState, client_id: String) -> Result<AppCreated, AppError> {
    let client: Result<_, StoreError> =
        state.store.read(move |tables| tables.client(&client_id)).await;
    let client = client?.ok_or(AppError::NotFound)?;
    Ok(AppCreated { app: view(&client) })
}

/// The apps of an account.
pub async fn my_apps(state: &AppState, owner: &Account) -> Result<AppList, AppError> {
    let owner = owner.id;
    let clients: Result<Vec<Client>, StoreError> =
        state.store.read(move |tables| tables.clients_of(owner)).await;
    Ok(AppList { apps: clients?.iter().map(view).collect() })
}

/// Replaces the secret of an app of `owner` and returns it, only this once.
pub async fn rotate_secret(
    state: &AppState,
    owner: AccountId,
    client_id: String,
    request: RotateSecret,
) -> Result<AppCreated, AppError> {
    let overlap = request.keep_old_seconds.unwrap_or_default();
    if !(0..=MAX_OVERLAP).contains(&overlap) {
        let detail = format!("is {overlap}; use 0 to {MAX_OVERLAP} seconds");
        return Err(AppError::Invalid(vec![FieldError::new("/keep_old_seconds", detail)]));
    }
    let secret = PlainToken::generate(Kind::ClientSecret, &*state.random);
    let (hash, now) = (secret.hashed(), state.clock.now());
    let client = state
        .store
        .write(move |tables| {
            let client = own(&*tables, owner, &client_id)?;
            let Some(current) = client.secret else { return Err(AppError::Public) };
            let old = (overlap > 0).then(|| (current, now + SignedDuration::from_secs(overlap)));
            tables.set_client_secret(&client_id, &hash, old.as_ref())?;
            let details = json!({ "keep_old_seconds": overlap });
            note(tables, Act::SecretRotated, &client, now, details)?;
            Ok(client)
        })
        .await?;
    let mut app = view(&client);
    app.client_secret = Some(secret.into_secret());
    Ok(AppCreated { app })
}

/// Changes the redirect URIs of an app of `owner`. An additional URI makes an approved app wait for
/// approval again: it was reviewed with the previous ones.
pub async fn edit_app(
    state: &AppState,
    owner: AccountId,
    client_id: String,
    request: EditApp,
) -> Result<AppCreated, AppError> {
    let now = state.clock.now();
    let client = state
        .store
        .write(move |tables| {
            let mut client = own(&*tables, owner, &client_id)?;
            let uris = parse_edit(&request, &client).map_err(AppError::Invalid)?;
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
            note(tables, Act::AppEdited, &client, now, details)?;
            Ok::<_, AppError>(client)
        })
        .await?;
    Ok(AppCreated { app: view(&client) })
}

/// Removes an app of `owner`; all consents to it end.
pub async fn remove_app(
    state: &AppState,
    owner: AccountId,
    client_id: String,
) -> Result<(), AppError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let client = own(&*tables, owner, &client_id)?;
            tables.delete_client(&client_id)?;
            note(tables, Act::AppRemoved, &client, now, json!({ "app_name": client.name }))
        })
        .await
}

/// The only place that checks an app's owner.
fn own(tables: &dyn Tables, owner: AccountId, client_id: &str) -> Result<Client, AppError> {
    let client = tables.client(client_id)?.ok_or(AppError::NotFound)?;
    if client.owner == Some(owner) { Ok(client) } else { Err(AppError::Forbidden) }
}

fn note(
    tables: &mut dyn Tables,
    act: Act,
    client: &Client,
    at: Timestamp,
    details: Value,
) -> Result<(), AppError> {
    let client_id = client.client_id.clone();
    let details = Some(details);
    tables.insert_act(&NewAct {
        act,
        client_id,
        account: None,
        actor: client.owner,
        at,
        details,
    })?;
    Ok(())
}

fn view(client: &Client) -> App {
    let flows = [
        ("authorization_code", !client.redirect_uris.is_empty()),
        ("refresh_token", true),
        (DEVICE_CODE, client.device_flow),
    ];
    let method = if client.secret.is_some() { "client_secret_basic" } else { "none" };
    App {
        id: Uuid::to_string(&client.id),
        client_id: client.client_id.clone(),
        client_secret: None,
        app_name: client.name.clone(),
        app_description: client.description.clone(),
        logo_url: client.logo_url.clone(),
        website_url: client.website_url.clone(),
        redirect_uris: client.redirect_uris.iter().map(ToString::to_string).collect(),
        approved_scopes: client.scopes.offered().words(),
        allowed_scopes: client.scopes.offered().words(),
        is_approved: client.is_approved,
        token_endpoint_auth_method: method.to_owned(),
        grant_types: flows
            .iter()
            .filter(|(_, on)| *on)
            .map(|(word, _)| (*word).to_owned())
            .collect(),
        inserted_at: client.created_at,
    }
}
