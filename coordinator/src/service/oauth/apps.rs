//! Apps: what an account registers so that it, or others, may use the API by OAuth.

use buddo_shared::api::oauth::{App, AppCreated, AppList, CreateApp};
use buddo_shared::api::problem::FieldError;
use url::Url;
use uuid::Uuid;

use crate::identity::{RedirectUri, Scope, Scopes};
use crate::random;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, Client};
use crate::token::{Kind, PlainToken};

/// Redirect URIs that an app may have.
const MAX_REDIRECT_URIS: usize = 10;
/// Apps that an account may have; the list answers as many.
const MAX_APPS: usize = 100;

/// Why a use case on apps refuses.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Fields are wrong; every one is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// The account's mail address is not confirmed.
    #[error(
        "confirm your email address first: open the link in the verification mail, or ask for \
         a new one with POST /api/auth/send-verification"
    )]
    EmailUnverified,
    /// No app has this client id.
    #[error("there is no app with this client_id; GET /api/oauth/my-apps lists yours")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A request whose fields are valid.
struct Parsed {
    name: String,
    redirect_uris: Vec<RedirectUri>,
    scopes: Scopes,
    description: Option<String>,
    logo_url: Option<String>,
    website_url: Option<String>,
}

/// Registers an app of `owner` and gives out its secret, this once.
pub async fn create_app(
    state: &AppState,
    owner: &Account,
    request: CreateApp,
) -> Result<AppCreated, AppError> {
    if owner.email_verified_at.is_none() {
        return Err(AppError::EmailUnverified);
    }
    let parsed = parse(request).map_err(AppError::Invalid)?;
    let is_approved = parsed.scopes.iter().all(Scope::is_harmless);
    let secret = PlainToken::generate(Kind::ClientSecret, &*state.random);
    let id = random::uuid(&*state.random);
    let public = random::uuid(&*state.random).simple();
    let client = Client {
        id,
        client_id: format!("client_{public}"),
        owner: Some(owner.id),
        secret: Some(secret.hashed()),
        name: parsed.name,
        description: parsed.description,
        logo_url: parsed.logo_url,
        website_url: parsed.website_url,
        redirect_uris: parsed.redirect_uris,
        is_approved,
        scopes: parsed.scopes,
        created_at: state.clock.now(),
    };
    let mut app = view(&client);
    app.client_secret = Some(secret.into_secret());
    let owner = owner.id;
    state
        .store
        .write(move |tables| {
            if tables.clients_of(owner)?.len() >= MAX_APPS {
                let detail =
                    format!("would be app {}; an account may have {MAX_APPS}", MAX_APPS + 1);
                return Err(AppError::Invalid(vec![FieldError::new("/app_name", detail)]));
            }
            Ok(tables.insert_client(&client)?)
        })
        .await?;
    Ok(AppCreated { app })
}

/// An app as everybody sees it.
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

fn view(client: &Client) -> App {
    App {
        id: Uuid::to_string(&client.id),
        client_id: client.client_id.clone(),
        client_secret: None,
        app_name: client.name.clone(),
        app_description: client.description.clone(),
        logo_url: client.logo_url.clone(),
        website_url: client.website_url.clone(),
        redirect_uris: client.redirect_uris.iter().map(ToString::to_string).collect(),
        approved_scopes: client.scopes.words(),
        allowed_scopes: client.scopes.words(),
        is_approved: client.is_approved,
        inserted_at: client.created_at,
    }
}

fn parse(request: CreateApp) -> Result<Parsed, Vec<FieldError>> {
    let mut errors = Vec::new();
    let name = name(request.app_name, &mut errors);
    let redirect_uris = redirect_uris(request.redirect_uris, &mut errors);
    let mut scopes = Vec::new();
    let asked = request.requested_scopes.unwrap_or_else(|| vec!["profile:read".to_owned()]);
    for (index, word) in asked.iter().enumerate() {
        match word.parse::<Scope>() {
            Ok(scope) => scopes.push(scope),
            Err(error) => {
                errors.push(FieldError::new(format!("/requested_scopes/{index}"), error));
            }
        }
    }
    if asked.is_empty() {
        let detail = "is empty; name at least one scope, or leave it out for profile:read";
        errors.push(FieldError::new("/requested_scopes", detail));
    }
    if request.app_description.as_ref().is_some_and(|text| text.chars().count() > 500) {
        let detail = "is longer than 500 characters; shorten it";
        errors.push(FieldError::new("/app_description", detail));
    }
    let logo_url = web_url("/logo_url", request.logo_url, &mut errors);
    let website_url = web_url("/website_url", request.website_url, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let scopes = scopes.into_iter().collect();
    let description = request.app_description;
    Ok(Parsed { name, redirect_uris, scopes, description, logo_url, website_url })
}

fn name(name: Option<String>, errors: &mut Vec<FieldError>) -> String {
    let name = name.unwrap_or_default().trim().to_owned();
    let length = name.chars().count();
    if !(1..=100).contains(&length) || name.chars().any(char::is_control) {
        let detail = "must have 1 to 100 printable characters; people read it on the consent page";
        errors.push(FieldError::new("/app_name", detail));
    }
    name
}

fn redirect_uris(uris: Option<Vec<String>>, errors: &mut Vec<FieldError>) -> Vec<RedirectUri> {
    let uris = uris.unwrap_or_default();
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

fn web_url(pointer: &str, text: Option<String>, errors: &mut Vec<FieldError>) -> Option<String> {
    let text = text?;
    let valid = text.len() <= 2048
        && Url::parse(&text).is_ok_and(|url| url.scheme() == "https" && url.has_host());
    if !valid {
        errors
            .push(FieldError::new(pointer, "must be an https address, such as https://a.example"));
    }
    Some(text)
}
