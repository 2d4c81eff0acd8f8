//! The API against its own OpenAPI document: schemathesis, a third-party tool, makes requests that
//! fit the document and requests that do not, and checks every answer against it. No answer may be
//! a failure of the server.
//!
//! Runs twice: as an operator, who has no access to administration, and as an administrator.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::admin::AdminActList;
use buddo_shared::api::auth::LoggedIn;
use buddo_shared::api::oauth::{
    AppCreated, DEPLOY_MANAGE, TEAMS_MANAGE, TOKEN_EXCHANGE, TOKEN_TYPE_JWT, Tokens,
};
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::secret::Secret;
use buddo_tests::product::{IMAGE, Options, PORT, Product};
use buddo_tests::world::{Lease, PortOf, World};
use buddo_tests::{api, totp};
use reqwest::Method;
use serde_json::json;
use totp_rs::Totp;

/// Where `scripts/install-packages --tests` puts it.
const FOLDER: &str = "/usr/local/lib/buddo-tests/schemathesis";
/// Examples of each operation; `make fuzz-api` uses more.
const EXAMPLES: &str = "4";

#[tokio::test]
async fn fuzzed_requests_get_only_documented_responses() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let fuzzed = Fuzzed::of(&product).await?;
        let login = fuzzed.login.clone();
        println!("{}", try_all(&product, fuzzed, &login, &[]).await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn fuzzed_admin_requests_get_only_documented_responses() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let fuzzed = Fuzzed::of(&product).await?;
        // Acts on an account affect its apps, and a host with apps cannot be removed.
        let owner = product.api()?.with_token(Secret::new(fuzzed.token.clone()));
        owner.create(&api::request("my-app", IMAGE, PORT)).await?;
        with_codes(&product, "coded").await?;
        let login = administrator(&product, "boss").await?;
        let admin = product.api()?.with_token(Secret::new(login.clone()));
        let which = ["--include-path-regex", "^/api/admin/"];
        println!("{}", try_all(&product, fuzzed, &login, &which).await?);
        let audit = admin.call(Method::GET, "/api/admin/audit", None).await?;
        let AdminActList { acts } = audit.expect(200).context("it has shut itself out")?;
        ensure!(acts.iter().any(|act| act.actor.is_some()), "it did nothing: {acts:?}");
        let refused = refused(world).await?;
        ensure!(refused.is_empty(), "it was not let in everywhere and always: {refused:?}");
        Ok(())
    })
    .await
}

/// The coordinator's count of administration requests answered with 403.
async fn refused(world: &World) -> anyhow::Result<Vec<String>> {
    let url = format!("http://{}/metrics", world.layout().address(PortOf::Metrics));
    let metrics = reqwest::get(url).await?.error_for_status()?.text().await?;
    let counts = metrics.lines().filter(|line| line.contains("route=\"/api/admin/"));
    ensure!(counts.clone().count() > 0, "no request was counted: {metrics}");
    Ok(counts.filter(|line| line.contains("status=\"403\"")).map(str::to_owned).collect())
}

/// Runs schemathesis with `login` as its login; returns its output, or an error if any answer is
/// not as described.
async fn try_all(
    product: &Product<'_>,
    fuzzed: Fuzzed,
    login: &str,
    which: &[&str],
) -> anyhow::Result<String> {
    ensure!(
        Path::new(FOLDER).is_dir(),
        "{FOLDER} is not there; run `scripts/install-packages --tests`"
    );
    let examples = std::env::var("EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let mut run = Command::new("python3");
    run.args(["-m", "schemathesis.cli"])
        .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis.toml")])
        .arg("run")
        .arg(format!("{}/.well-known/openapi.json", product.url()))
        // One worker: the parser of Python 3.11 is not safe with threads (cpython#106905).
        .args(["--checks", "all", "--workers", "1", "--no-color"])
        .args(["--max-examples", &examples])
        .args(which)
        .env("PYTHONPATH", FOLDER)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "localhost")
        .env("REQUESTS_CA_BUNDLE", product.api_ca())
        .env("BUDDO_CA", product.api_ca())
        .env("BUDDO_CLIENT_ID", fuzzed.client_id)
        .env("BUDDO_CLIENT_SECRET", fuzzed.client_secret.expose())
        .env("BUDDO_LOGIN", login)
        .env("BUDDO_TOKEN", fuzzed.token)
        .env("BUDDO_OTHER_LOGIN", fuzzed.other_login)
        // It remembers failures in a folder where it runs.
        .current_dir(product.world.layout().dir());
    let run = tokio::task::spawn_blocking(move || run.output());
    let output = tokio::time::timeout(Duration::from_mins(30), run).await???;
    let said = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{log}");
    Ok(said.into_owned())
}

/// Its test data: an account with an OAuth app, and another account.
struct Fuzzed {
    login: String,
    token: String,
    other_login: String,
    client_id: String,
    client_secret: Secret,
}

impl Fuzzed {
    async fn of(product: &Product<'_>) -> anyhow::Result<Self> {
        let (login, token) = credentials(product, "fuzzed").await?;
        let (other_login, _) = credentials(product, "other").await?;
        let owner = product.api()?.with_token(Secret::new(login.clone()));
        let body = json!({ "app_name": "Fuzzed", "redirect_uris": ["https://app.example/cb"] });
        let made = owner.call(Method::POST, "/api/oauth/apps", Some(&body)).await?;
        let AppCreated { app } = made.expect(201)?;
        let client_secret = app.client_secret.context("no secret")?;
        Ok(Self { login, token, other_login, client_id: app.client_id, client_secret })
    }
}

fn email_of(name: &str) -> String {
    format!("{name}@example.com")
}

fn password_of(name: &str) -> String {
    format!("a-strong-password-{name}")
}

/// A login's JWT.
async fn log_in(product: &Product<'_>, name: &str, code: Option<String>) -> anyhow::Result<Secret> {
    let body = json!({ "email": email_of(name), "password": password_of(name), "totp_code": code });
    let reply = product.api()?.call(Method::POST, "/api/auth/login", Some(&body)).await?;
    Ok(reply.expect::<LoggedIn>(200)?.token)
}

/// A login's JWT, and an access token from another login.
async fn credentials(product: &Product<'_>, name: &str) -> anyhow::Result<(String, String)> {
    product.register(&email_of(name), name, &password_of(name)).await?;
    product.coordinator_command(&["admin", "tier", "allow", "bitcoin-pro", &email_of(name)])?;
    let login = log_in(product, name, None).await?;
    let exchanged = log_in(product, name, None).await?;
    let body = json!({
        "grant_type": TOKEN_EXCHANGE,
        "client_id": CLI_CLIENT_ID,
        "subject_token": exchanged.expose(),
        "subject_token_type": TOKEN_TYPE_JWT,
        "scope": format!("{DEPLOY_MANAGE} {TEAMS_MANAGE}"),
    });
    let reply = product.api()?.call(Method::POST, "/api/oauth/token", Some(&body)).await?;
    let tokens: Tokens = reply.expect(200).context("a token exchange")?;
    Ok((login.expose().to_owned(), tokens.access_token.expose().to_owned()))
}

/// An account with one-time codes, which administration requires; returns its app.
async fn with_codes(product: &Product<'_>, name: &str) -> anyhow::Result<Totp> {
    let (email, password) = (email_of(name), password_of(name));
    product.register(&email, name, &password).await?;
    let api = product.api()?.with_token(log_in(product, name, None).await?);
    totp::enroll(&api, &email, &password).await
}

/// The login JWT of an administrator; valid for twelve hours of administration.
async fn administrator(product: &Product<'_>, name: &str) -> anyhow::Result<String> {
    let authenticator = with_codes(product, name).await?;
    product.coordinator_command(&["admin", "account", "promote", &email_of(name)])?;
    let login = log_in(product, name, Some(totp::code(&authenticator, 30)?)).await?;
    Ok(login.expose().to_owned())
}
