//! The login and consent pages in a third-party browser: headless Chromium, driven by
//! `WebDriver`, with JavaScript switched off. What it showed is kept in `target/tmp/browser/`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use buddo_shared::api::auth::LoggedIn;
use buddo_shared::model::secret::Secret;
use buddo_tests::api::Api;
use buddo_tests::product::{Options, Product};
use buddo_tests::world::Lease;
use buddo_tests::{poll, totp};
use fantoccini::{Client, ClientBuilder, Locator};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use url::Url;

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "a-strong-password-of-ada";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_user_logs_in_with_totp_and_consents_in_a_browser() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.register(EMAIL, "ada", PASSWORD).await?;
        let api = log_in(&product.api()?).await?;
        let authenticator = totp::enroll(&api, EMAIL, PASSWORD).await?;
        let callback = listen().await?;
        let app = make_app(&api, &callback).await?;
        let client_id = app["client_id"].as_str().context("no client id")?;

        let browser = Browser::start().await?;
        let page = &browser.client;
        ensure!(
            !browser.runs_scripts().await?,
            "scripts run, but the test must show that none is needed"
        );
        let start = authorize_url(&product, client_id, &callback)?;
        page.goto(start.as_str()).await?;
        browser.labelled().await?;
        browser.keep("1-login").await?;

        // The second factor is required, and the refusal says so.
        browser.log_in("").await?;
        let refused = browser.text("[role=alert]").await?;
        ensure!(refused.contains("code"), "{refused}");
        browser.keep("2-a-code-is-wanted").await?;
        browser.log_in(&totp::code(&authenticator, 30)?).await?;
        // Until then the previous page is shown, and may vanish during inspection.
        let allow = Locator::Css("button[value=allow]");
        page.wait().at_most(PATIENCE).for_element(allow).await?;
        browser.labelled().await?;
        browser.keep("3-consent").await?;
        let asked = browser.text("main").await?;
        ensure!(asked.contains("Acceptance") && asked.contains("permanently destroy"), "{asked}");
        let policy = page.current_url().await?;
        ensure!(policy.path() == "/api/oauth/authorize", "{policy}");

        page.find(Locator::Css("button[value=allow]")).await?.click().await?;
        let back = poll::until("the way back to the app", PATIENCE, async || {
            let at = page.current_url().await?;
            ensure!(at.as_str().starts_with(&callback), "{at}");
            Ok(at)
        })
        .await?;
        ensure!(browser.text("h1").await? == "Back at the app");
        browser.keep("4-back-at-the-app").await?;
        let token = exchange(&product, &app, &callback, &back).await?;
        let deploys = product.api()?.with_token(token);
        let listed = deploys.call(Method::GET, "/api/deploy/apps", None).await?;
        ensure!(listed.status == 200, "{listed:?}");

        // Still logged in; this time the user declines.
        page.goto(start.as_str()).await?;
        page.find(Locator::Css("button[value=deny]")).await?.click().await?;
        poll::until("the refusal at the app", PATIENCE, async || {
            let at = page.current_url().await?;
            ensure!(at.as_str().starts_with(&callback), "{at}");
            ensure!(at.query_pairs().any(|pair| pair == ("error".into(), "access_denied".into())));
            Ok(())
        })
        .await?;
        browser.end().await
    })
    .await
}

async fn log_in(api: &Api) -> anyhow::Result<Api> {
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let reply = api.call(Method::POST, "/api/auth/login", Some(&body)).await?;
    Ok(api.with_token(reply.expect::<LoggedIn>(200)?.token))
}

async fn make_app(api: &Api, callback: &str) -> anyhow::Result<Value> {
    let body = json!({
        "app_name": "Acceptance",
        "redirect_uris": [callback],
        "requested_scopes": ["deploy:manage", "profile:read"],
    });
    let mut made: Value =
        api.call(Method::POST, "/api/oauth/apps", Some(&body)).await?.expect(201)?;
    Ok(made["app"].take())
}

/// The app's own page, on a port of loopback.
async fn listen() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let callback = format!("http://{}/callback", listener.local_addr()?);
    let page = Html("<!doctype html><title>The app</title><h1>Back at the app</h1>");
    let app = Router::new().route("/callback", get(move || std::future::ready(page)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(callback)
}

fn authorize_url(product: &Product<'_>, client_id: &str, callback: &str) -> anyhow::Result<Url> {
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", callback),
        ("scope", "deploy:manage profile:read"),
        ("state", "a state"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let url = format!("{}/api/oauth/authorize", product.url());
    Ok(Url::parse_with_params(&url, query)?)
}

async fn exchange(
    product: &Product<'_>,
    app: &Value,
    callback: &str,
    back: &Url,
) -> anyhow::Result<Secret> {
    let answer = |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, v)| v);
    ensure!(answer("state").as_deref() == Some("a state"), "{back}");
    let body = json!({
        "grant_type": "authorization_code",
        "code": answer("code").context("no code")?,
        "redirect_uri": callback,
        "client_id": app["client_id"],
        "client_secret": app["client_secret"],
        "code_verifier": VERIFIER,
    });
    let reply = product.api()?.call(Method::POST, "/api/oauth/token", Some(&body)).await?;
    let tokens: Value = reply.expect(200)?;
    Ok(Secret::new(tokens["access_token"].as_str().context("no token")?.to_owned()))
}

/// Chromium and its `WebDriver` (W3C) driver.
struct Browser {
    client: Client,
    _driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start() -> anyhow::Result<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("no chromedriver; run `scripts/install-packages --tests`")?;
        let mut lines = BufReader::new(driver.stdout.take().context("no output")?).lines();
        let port: u16 = loop {
            let line = lines.next_line().await?.context("chromedriver ended")?;
            if let Some((_, port)) = line.rsplit_once("successfully on port ") {
                break port.trim_end_matches('.').parse()?;
            }
        };
        let profile = tempfile::tempdir()?;
        let options = json!({
            "args": [
                "--headless=new",
                // Chromium's own sandbox does not start as root; the tests' world needs root.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--window-size=900,900",
                format!("--user-data-dir={}", profile.path().display()),
            ],
            "prefs": { "profile.managed_default_content_settings.javascript": 2 },
        });
        let mut wanted = serde_json::Map::new();
        wanted.insert("browserName".to_owned(), json!("chrome"));
        wanted.insert("goog:chromeOptions".to_owned(), options);
        // The world's own CA, which is in none of the machine's stores.
        wanted.insert("acceptInsecureCerts".to_owned(), json!(true));
        let address = format!("http://127.0.0.1:{port}");
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let client = ClientBuilder::new(connector).capabilities(wanted).connect(&address).await?;
        Ok(Self { client, _driver: driver, _profile: profile })
    }

    /// A screenshot for people.
    async fn keep(&self, name: &str) -> anyhow::Result<()> {
        let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.png")), self.client.screenshot().await?)?;
        Ok(())
    }

    async fn text(&self, css: &str) -> anyhow::Result<String> {
        Ok(self
            .client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await?
            .text()
            .await?)
    }

    async fn runs_scripts(&self) -> anyhow::Result<bool> {
        self.client
            .goto("data:text/html,<title>no</title><script>document.title='yes'</script>")
            .await?;
        Ok(self.client.title().await? != "no")
    }

    /// Each field that a person fills in has a label, the page a language and one heading.
    async fn labelled(&self) -> anyhow::Result<()> {
        self.client.find(Locator::Css("html[lang]")).await?;
        ensure!(self.client.find_all(Locator::Css("h1")).await?.len() == 1);
        for field in self.client.find_all(Locator::Css("input:not([type=hidden])")).await? {
            let id = field.attr("id").await?.context("a field without an id")?;
            self.client.find(Locator::Css(&format!("label[for={id}]"))).await?;
        }
        Ok(())
    }

    async fn log_in(&self, code: &str) -> anyhow::Result<()> {
        for (field, text) in [("email", EMAIL), ("password", PASSWORD), ("totp_code", code)] {
            let field = self.client.find(Locator::Id(field)).await?;
            field.clear().await?;
            field.send_keys(text).await?;
        }
        self.client.find(Locator::Css("button[type=submit]")).await?.click().await?;
        Ok(())
    }

    async fn end(self) -> anyhow::Result<()> {
        Ok(self.client.clone().close().await?)
    }
}
