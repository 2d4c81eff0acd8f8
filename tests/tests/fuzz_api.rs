//! The API against its own OpenAPI document: schemathesis, which nobody here wrote, makes requests that
//! fit the document and requests that do not, and holds every answer against it. No answer may be a
//! failure of the server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::auth::LoggedIn;
use buddo_shared::api::oauth::{
    AppCreated, CLI_CLIENT_ID, DEPLOY_MANAGE, TEAMS_MANAGE, TOKEN_EXCHANGE, TOKEN_TYPE_JWT, Tokens,
};
use buddo_shared::secret::Secret;
use buddo_tests::product::{Options, Product};
use buddo_tests::world::Lease;
use reqwest::Method;
use serde_json::json;

/// Where `scripts/install-packages --tests` puts it.
const FOLDER: &str = "/usr/local/lib/buddo-tests/schemathesis";
/// Examples of each operation; `make fuzz-api` takes more.
const EXAMPLES: &str = "4";

#[tokio::test]
async fn no_request_makes_an_answer_that_the_document_does_not_know() -> anyhow::Result<()> {
    ensure!(
        Path::new(FOLDER).is_dir(),
        "{FOLDER} is not there; run `scripts/install-packages --tests`"
    );
    let examples = std::env::var("EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let (login, token) = credentials(&product, "fuzzed").await?;
        let (other, _) = credentials(&product, "other").await?;
        let owner = product.api()?.with_token(Secret::new(login.clone()));
        let body = json!({ "app_name": "Fuzzed", "redirect_uris": ["https://app.example/cb"] });
        let made = owner.call(Method::POST, "/api/oauth/apps", Some(&body)).await?;
        let AppCreated { app } = made.expect(201)?;
        let secret = app.client_secret.context("no secret")?;
        let mut run = Command::new("python3");
        run.args(["-m", "schemathesis.cli"])
            .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis.toml")])
            .arg("run")
            .arg(format!("{}/.well-known/openapi.json", product.url()))
            // One worker: the parser of Python 3.11 is not safe with threads (cpython#106905).
            .args(["--checks", "all", "--workers", "1", "--no-color"])
            .args(["--max-examples", &examples])
            .env("PYTHONPATH", FOLDER)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NO_PROXY", "localhost")
            .env("REQUESTS_CA_BUNDLE", product.api_ca())
            .env("BUDDO_CA", product.api_ca())
            .env("BUDDO_CLIENT_ID", app.client_id)
            .env("BUDDO_CLIENT_SECRET", secret.expose())
            .env("BUDDO_LOGIN", login)
            .env("BUDDO_TOKEN", token)
            .env("BUDDO_OTHER_LOGIN", other)
            // It remembers failures in a folder where it runs.
            .current_dir(world.layout().dir());
        let run = tokio::task::spawn_blocking(move || run.output());
        let output = tokio::time::timeout(Duration::from_mins(30), run).await???;
        let said = String::from_utf8_lossy(&output.stdout);
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}\n{log}");
        println!("{said}");
        Ok(())
    })
    .await
}

/// A login's JWT, and an access token that came of another login.
async fn credentials(product: &Product<'_>, name: &str) -> anyhow::Result<(String, String)> {
    let (email, password) = (format!("{name}@example.com"), format!("a-strong-password-{name}"));
    product.register(&email, name, &password).await?;
    let api = product.api()?;
    let mut logins = Vec::new();
    for _ in 0..2 {
        let body = json!({ "email": email, "password": password });
        let reply = api.call(Method::POST, "/api/auth/login", Some(&body)).await?;
        logins.push(reply.expect::<LoggedIn>(200)?.token);
    }
    let [login, exchanged] = &logins[..] else { anyhow::bail!("two logins") };
    let body = json!({
        "grant_type": TOKEN_EXCHANGE,
        "client_id": CLI_CLIENT_ID,
        "subject_token": exchanged.expose(),
        "subject_token_type": TOKEN_TYPE_JWT,
        "scope": format!("{DEPLOY_MANAGE} {TEAMS_MANAGE}"),
    });
    let reply = api.call(Method::POST, "/api/oauth/token", Some(&body)).await?;
    let tokens: Tokens = reply.expect(200).context("a token exchange")?;
    Ok((login.expose().to_owned(), tokens.access_token.expose().to_owned()))
}
