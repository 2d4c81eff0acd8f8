//! The real binary, a home of its own, and an API that answers as the test says.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

pub(crate) const ID: &str = "550e8400-e29b-41d4-a716-446655440000";
pub(crate) const ACCOUNT: &str = "11111111-2222-4333-8444-555555555555";

/// Texts that must never be printed, whatever happens.
pub(crate) const PASSWORD: &str = "canary-password";
pub(crate) const SECRETS: [&str; 6] =
    [PASSWORD, "canary-jwt", "canary-access", "canary-refresh", "canary-env", "canary-totp"];

pub(crate) struct World {
    pub(crate) api: MockServer,
    pub(crate) home: tempfile::TempDir,
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- out\n{}--- err\n{}", self.code, self.out, self.err)
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self { api: MockServer::start().await, home: tempfile::tempdir().unwrap() }
    }

    /// A world in which `myoperator` is logged in.
    pub(crate) async fn logged_in() -> Self {
        let world = Self::new().await;
        world.answer_login(3600).await;
        let ran = world.buddo_with(&["login"], "you@example.com\ncanary-password\n").await;
        assert_eq!(ran.code, 0, "{ran}");
        world
    }

    pub(crate) async fn answer_login(&self, expires_in: i64) {
        let body = json!({ "token": "canary-jwt", "user": user() });
        self.mock("POST", "/api/auth/login", ResponseTemplate::new(200).set_body_json(body)).await;
        Mock::given(method("POST"))
            .and(path("/api/oauth/token"))
            .and(body_string_contains("token-exchange"))
            .and(body_string_contains("subject_token=canary-jwt"))
            .and(body_string_contains("client_id=buddo-cli"))
            .and(body_string_contains("scope=deploy%3Amanage"))
            .respond_with(tokens(1, expires_in))
            .mount(&self.api)
            .await;
    }

    pub(crate) async fn mock(&self, verb: &str, at: &str, answer: ResponseTemplate) {
        Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(&self.api).await;
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.home.path().join("config/buddo/credentials.json")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_buddo"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("BUDDO_API", self.api.uri())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn buddo(&self, args: &[&str]) -> Ran {
        finish(self.command(args).spawn().unwrap()).await
    }

    pub(crate) async fn buddo_with(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that fails before it asks for anything leaves its input unread.
        match stdin.write_all(input.as_bytes()).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => panic!("{error}"),
            _ => drop(stdin),
        }
        finish(child).await
    }

    pub(crate) async fn requests(&self, verb: &str, at: &str) -> Vec<wiremock::Request> {
        let all = self.api.received_requests().await.unwrap();
        all.into_iter().filter(|r| r.method.as_str() == verb && r.url.path() == at).collect()
    }
}

pub(crate) async fn finish(child: Child) -> Ran {
    let output = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output());
    let output = output.await.expect("buddo ends").unwrap();
    let ran = Ran {
        code: output.status.code().expect("buddo ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    for secret in SECRETS {
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{secret} in {ran}");
    }
    ran
}

pub(crate) fn tokens(number: u32, expires_in: i64) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "access_token": format!("canary-access-{number}"),
        "token_type": "Bearer",
        "expires_in": expires_in,
        "refresh_token": format!("canary-refresh-{number}"),
        "scope": "deploy:manage",
    }))
}

pub(crate) fn user() -> Value {
    json!({
        "id": ACCOUNT, "email": "you@example.com", "username": "myoperator", "tier": "free",
        "is_admin": false, "email_verified": true, "totp_enabled": false,
    })
}

pub(crate) fn profile() -> Value {
    let mut profile = user();
    profile["points"] = json!(0);
    profile["referral_code"] = json!("ABC123");
    profile["registration_number"] = json!(42);
    profile["inserted_at"] = json!("2026-05-21T10:00:00Z");
    profile
}

pub(crate) fn deployment(status: &str) -> Value {
    json!({
        "id": ID, "app_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "deploy_tier_id": "t",
        "container_name": "my-app-1", "container_image": "docker.io/library/nginx:latest",
        "image_digest": null, "revision": 1, "subdomain": "my-app",
        "url": "https://my-app.buddocloud.com", "custom_domain": null, "status": status,
        "health_status": "healthy", "last_health_check": "2026-05-21T10:05:00Z",
        "last_error": null, "failure": null, "warning": null, "waiting": null, "restarts": 0,
        "port": 80, "memory_limit_mb": 256, "cpu_limit_millicores": 250,
        "host_server": "container-host-1", "billing_status": null, "deployed_at": null,
        "stopped_at": null, "inserted_at": "2026-05-21T10:00:00Z",
    })
}

pub(crate) fn enveloped(code: u16, status: &str) -> ResponseTemplate {
    ResponseTemplate::new(code).set_body_json(json!({ "deployment": deployment(status) }))
}

pub(crate) fn listed(status: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "deployments": [deployment(status)] }))
}

/// `failed`: cause and fix, a line each.
pub(crate) fn status(status: &str, failed: Option<&str>) -> Value {
    json!({
        "id": ID, "status": status, "subdomain": "my-app", "health_status": null,
        "last_health_check": null, "last_error": failed, "failure": failed.map(failure),
        "warning": null, "waiting": null, "restarts": 0, "progress": null,
    })
}

pub(crate) fn failure(text: &str) -> Value {
    let (cause, fix) = text.split_once('\n').unwrap();
    json!({ "code": "some_code", "cause": cause, "fix": fix })
}

pub(crate) fn events(statuses: &[Value]) -> ResponseTemplate {
    let mut body = "retry: 1000\n: hello\n\n".to_owned();
    for (id, status) in statuses.iter().enumerate() {
        write!(body, "id: {id}\ndata: {status}\n\n").unwrap();
    }
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
}

pub(crate) fn problem(status: u16, code: &str, detail: &str) -> ResponseTemplate {
    let body = buddo_shared::api::problem::Problem::new(status, code, "Title", detail);
    let body = serde_json::to_vec(&body).unwrap();
    ResponseTemplate::new(status).set_body_raw(body, "application/problem+json")
}

pub(crate) fn tiers() -> ResponseTemplate {
    let tier = |slug: &str, points: Option<i64>, sats: Option<i64>, memory: u32| {
        json!({
            "id": slug, "name": slug.to_uppercase(), "slug": slug, "payment_method": "buddo_points",
            "monthly_cost_points": points, "monthly_cost_sats": sats, "memory_limit_mb": memory,
            "cpu_limit_millicores": memory, "custom_domain_allowed": sats.is_some(),
            "monthly_stipend_points": 10, "ad_reach_multiplier": 1.5,
        })
    };
    let both =
        [tier("buddo-starter", Some(500), None, 256), tier("bitcoin-pro", None, Some(9000), 1024)];
    ResponseTemplate::new(200).set_body_json(both)
}

pub(crate) const CREATE: [&str; 9] = [
    "deploy",
    "--name",
    "my-app",
    "--image",
    "docker.io/library/nginx:latest",
    "--port",
    "80",
    "--tier",
    "buddo-starter",
];

pub(crate) const APPS: &str = "/api/deploy/apps";

pub(crate) fn app(rest: &str) -> String {
    format!("{APPS}/{ID}{rest}")
}
