//! What tests of the API share: a coordinator on a fresh directory, asked without a network.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::config::Config;
use crate::password::Cost;
use crate::random::SystemRandom;
use crate::state::AppState;
use crate::store::StoreError;

/// Where the coordinator says that it is.
pub(crate) const ISSUER: &str = "https://api.test";
/// The password of every account.
pub(crate) const PASSWORD: &str = "canary-password-1";

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// Moves it.
    pub(crate) fn advance(&self, by: SignedDuration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A coordinator.
pub(crate) struct Kit {
    pub(crate) state: AppState,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) directory: TempDir,
    router: Router,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A cookie that it sets, as a request sends it back.
    pub(crate) fn cookie(&self) -> String {
        let set: Vec<&str> = self
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|value| value.to_str().unwrap().split(';').next().unwrap())
            .collect();
        set.join("; ")
    }

    /// The value of a hidden field of a page.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start).unwrap_or_else(|| panic!("{self:?}"));
        let value = rest.split('"').next().unwrap();
        value.replace("&amp;", "&").replace("&#x2f;", "/").replace("&quot;", "\"")
    }
}

impl Kit {
    /// With limits that tests do not meet by accident.
    pub(crate) fn new() -> Self {
        Self::with(
            r"
            [rate_limits]
            reads = { requests = 10000, seconds = 60 }
            writes = { requests = 10000, seconds = 60 }
            register = { requests = 10000, seconds = 60 }
            login = { requests = 10000, seconds = 60 }
            send_verification = { requests = 10000, seconds = 60 }
            oauth_apps = { requests = 10000, seconds = 60 }
            token = { requests = 10000, seconds = 60 }
            public = { requests = 10000, seconds = 60 }
        ",
        )
    }

    /// With a configuration of one's own.
    pub(crate) fn with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config: Config = toml::from_str(config).unwrap();
        config.state_dir = directory.path().join("state");
        config.api.public_url = Some(ISSUER.to_owned());
        let clock = Arc::new(TestClock(Mutex::new(Timestamp::constant(1_790_000_000, 0))));
        let cost = Cost { memory_kib: 16, passes: 1 };
        let state =
            crate::daemon::assemble(config, clock.clone(), Arc::new(SystemRandom), cost).unwrap();
        let router = super::router::build(state.clone());
        Self { state, clock, directory, router }
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// GET, with a bearer token unless it is empty.
    pub(crate) async fn get(&self, path: &str, bearer: &str) -> Answer {
        let mut request = Request::get(path);
        if !bearer.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// GET by a browser.
    pub(crate) async fn browse(&self, path: &str, cookie: &str) -> Answer {
        let request = Request::get(path).header(COOKIE, cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// POST of JSON, with a bearer token unless it is empty.
    pub(crate) async fn post(&self, path: &str, bearer: &str, body: Value) -> Answer {
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/json");
        if !bearer.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// POST of a form, with one more header.
    pub(crate) async fn form(
        &self,
        path: &str,
        (name, value): (&str, &str),
        pairs: &[(&str, &str)],
    ) -> Answer {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(name, value);
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Registers an account.
    pub(crate) async fn register(&self, name: &str) -> Answer {
        let body = json!({
            "email": format!("{name}@example.com"), "username": name, "password": PASSWORD,
        });
        self.post("/api/auth/register", "", body).await
    }

    /// Logs in; the JWT.
    pub(crate) async fn log_in(&self, name: &str) -> String {
        let body = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
        let answer = self.post("/api/auth/login", "", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// An account with a confirmed address; its JWT.
    pub(crate) async fn member(&self, name: &str) -> String {
        let answer = self.register(name).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["user"]["id"].as_str().unwrap().parse().unwrap();
        let now = self.clock.now();
        let confirm: Result<(), StoreError> =
            self.state.store.write(move |tables| tables.confirm_email(id, now)).await;
        confirm.unwrap();
        self.log_in(name).await
    }

    /// The CLI's tokens for a login.
    pub(crate) async fn cli_tokens(&self, jwt: &str) -> Value {
        let body = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_id": "buddo-cli",
            "subject_token": jwt,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "scope": "deploy:manage",
        });
        let answer = self.post("/api/oauth/token", "", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}
