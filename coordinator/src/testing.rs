//! What tests of this crate share: a whole coordinator in a directory of its own, on a clock that
//! stands still until it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::ConnectInfo;
use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::id::{AccountId, Generation, HostId};
use buddo_shared::report::HostStatus;
use buddo_shared::sealed::OpeningKey;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon;
use crate::http::router;
use crate::password::Cost;
use crate::random::SystemRandom;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::Host;

/// A clock that tests move.
#[derive(Debug)]
pub(crate) struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub(crate) fn advance(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(by).unwrap();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Rate limits out of the way; tests of them set their own.
const PATIENT: &str = "
    zone = 'buddocloud.com'
    [rate_limits]
    reads = { requests = 10000, seconds = 60 }
    writes = { requests = 10000, seconds = 60 }
    register = { requests = 10000, seconds = 60 }
    login = { requests = 10000, seconds = 60 }
    token = { requests = 10000, seconds = 60 }
    public = { requests = 10000, seconds = 60 }
";

/// A coordinator.
pub(crate) struct World {
    pub(crate) state: AppState,
    pub(crate) clock: Arc<ManualClock>,
    directory: TempDir,
}

/// What the router answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// `(status, code)` of a problem.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }

    /// The pointers of a validation problem.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors.filter_map(|error| error["pointer"].as_str()).collect()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at("2026-05-21T10:00:00Z".parse().unwrap(), change)
    }

    /// For real TLS, which looks at the machine's clock.
    pub(crate) fn today() -> Self {
        Self::at(SystemClock.now(), |_| ())
    }

    fn at(now: Timestamp, change: impl FnOnce(&mut Config)) -> Self {
        // Another test may have installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let mut config: Config = toml::from_str(PATIENT).unwrap();
        config.state_dir = directory.path().join("state");
        change(&mut config);
        let clock = Arc::new(ManualClock(Mutex::new(now)));
        let cost = Cost { memory_kib: 8, passes: 1 };
        let state = daemon::assemble(config, clock.clone(), Arc::new(SystemRandom), cost).unwrap();
        Self { state, clock, directory }
    }

    /// The same files under a fresh process's state.
    pub(crate) fn reopened(self) -> Self {
        let Self { state, clock, directory } = self;
        let config = state.config.clone();
        drop(state);
        let cost = Cost { memory_kib: 8, passes: 1 };
        let state = daemon::assemble(config, clock.clone(), Arc::new(SystemRandom), cost).unwrap();
        Self { state, clock, directory }
    }

    /// A host that has joined and told what it has.
    pub(crate) async fn host(&self, n: u128, memory_mb: u64) -> (HostId, OpeningKey) {
        let id = HostId::new(Uuid::from_u128(n));
        let (opening, sealing_key) = OpeningKey::generate().unwrap();
        let host = Host {
            id,
            name: format!("container-host-{n}"),
            address: "127.0.0.1:1".to_owned(),
            sealing_key,
            joined_at: self.clock.now(),
            wanted: Generation { epoch: 1, generation: 1 },
            acknowledged: None,
            report_seq: 0,
            status: None,
            last_seen: None,
            unreachable_since: None,
            refusal: None,
            reserved_mb: 0,
            env_bytes: 0,
        };
        let status = HostStatus {
            agent_version: "0.1.0".to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb,
            cpu_millicores: 2000,
            warnings: Vec::new(),
        };
        self.state
            .store
            .write(move |tables| {
                tables.upsert_host(&host)?;
                tables.set_host_status(id, &status)
            })
            .await
            .map_err(|error: StoreError| error)
            .unwrap();
        (id, opening)
    }

    /// Registers an operator and gets it an access token, as `buddo login` does.
    pub(crate) async fn operator(&self, name: &str) -> String {
        let email = format!("{name}@example.com");
        let password = "correct horse battery";
        let account = json!({ "email": email, "username": name, "password": password });
        let made = self.call("POST", "/api/auth/register", None, Some(account)).await;
        assert_eq!(made.status, 201, "{made:?}");
        let login = json!({ "email": email, "password": password });
        let login = self.call("POST", "/api/auth/login", None, Some(login)).await;
        let exchange = json!({
            "grant_type": buddo_shared::api::oauth::TOKEN_EXCHANGE,
            "client_id": buddo_shared::api::oauth::CLI_CLIENT_ID,
            "subject_token": login.body["token"],
            "subject_token_type": buddo_shared::api::oauth::TOKEN_TYPE_JWT,
            "scope": buddo_shared::api::oauth::DEPLOY_MANAGE,
        });
        let tokens = self.call("POST", "/api/oauth/token", None, Some(exchange)).await;
        tokens.body["access_token"].as_str().unwrap_or_else(|| panic!("{tokens:?}")).to_owned()
    }

    /// One request with a JSON body.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// One request as it is.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let peer = SocketAddr::from(([192, 0, 2, 1], 40_000));
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router::build(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

pub(crate) fn account(n: u128) -> AccountId {
    AccountId::new(Uuid::from_u128(n))
}

/// A request that is valid as it is.
pub(crate) fn request(subdomain: &str) -> CreateDeployment {
    CreateDeployment {
        subdomain: Some(subdomain.to_owned()),
        image: Some("docker.io/library/nginx:latest".to_owned()),
        tier: Some("buddo-starter".to_owned()),
        ..CreateDeployment::default()
    }
}
