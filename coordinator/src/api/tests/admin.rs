//! Administration through the API, and its effects on accounts.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::browsers;
use super::keys::{key, own_team};
use super::post::{deploys, is_open, log_in};
use crate::auth::totp::SharedSecret;
use crate::service::admin::{self as service, AdminError};
use crate::store::StoreError;
use crate::store::contract::AuditChainState;
use crate::testing::{Answer, PASSWORD, World};

/// A person with one-time codes.
struct Person {
    name: &'static str,
    app: SharedSecret,
}

impl Person {
    async fn enrol(world: &World, name: &'static str) -> Self {
        let jwt = world.member(name).await;
        let body = json!({ "password": PASSWORD });
        let enrolled = world.post("/api/auth/totp/enroll", &jwt, body).await.json();
        let secret = Secret::new(enrolled["secret"].as_str().unwrap());
        let app = SharedSecret::from_base32(&secret).unwrap();
        let body = json!({ "code": app.code_at(world.clock_now()) });
        assert_eq!(world.post("/api/auth/totp/confirm", &jwt, body).await.status, 200);
        Self { name, app }
    }

    /// A fresh login with a code; returns its JWT.
    async fn log_in(&self, world: &World) -> String {
        world.clock.advance(SignedDuration::from_secs(30));
        let code = self.app.code_at(world.clock_now());
        let email = format!("{}@example.com", self.name);
        let answer = log_in(world, &email, PASSWORD, &code).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }
}

async fn promote(world: &World, name: &str) {
    let id = AccountId::new(world.account_id(name).await);
    let done: Result<(), StoreError> =
        world.state.store.write(move |tables| tables.set_admin(id, true)).await;
    done.unwrap();
}

/// An administrator's JWT.
async fn admin(world: &World) -> String {
    let person = Person::enrol(world, "boss").await;
    promote(world, "boss").await;
    person.log_in(world).await
}

async fn acts(world: &World, jwt: &str) -> Vec<(String, bool)> {
    let list = world.get("/api/admin/audit", jwt).await.json();
    let acts = list["acts"].as_array().unwrap().iter();
    acts.map(|act| (act["action"].as_str().unwrap().to_owned(), !act["actor"].is_null())).collect()
}

const READS: [&str; 7] = [
    "/api/admin/accounts",
    "/api/admin/accounts/one@example.com",
    "/api/admin/tiers",
    "/api/admin/tiers/bitcoin-pro/accounts",
    "/api/admin/hosts",
    "/api/admin/apps",
    "/api/admin/audit",
];
const WRITES: [(&str, &str); 17] = [
    ("POST", "/api/admin/accounts/one@example.com/suspend"),
    ("POST", "/api/admin/accounts/one@example.com/resume"),
    ("POST", "/api/admin/accounts/one@example.com/promote"),
    ("POST", "/api/admin/accounts/one@example.com/demote"),
    ("POST", "/api/admin/accounts/one@example.com/clear-second-factor"),
    ("POST", "/api/admin/tiers"),
    ("PATCH", "/api/admin/tiers/buddo-starter"),
    ("PUT", "/api/admin/tiers/bitcoin-pro/accounts/one@example.com"),
    ("DELETE", "/api/admin/tiers/bitcoin-pro/accounts/one@example.com"),
    ("DELETE", "/api/admin/hosts/container-host-1"),
    ("POST", "/api/admin/hosts/container-host-1/drain"),
    ("POST", "/api/admin/hosts/container-host-1/undrain"),
    ("POST", "/api/admin/hosts/container-host-1/evacuate"),
    ("DELETE", "/api/admin/deployments/my-app"),
    ("POST", "/api/admin/apps/client_x/approve"),
    ("POST", "/api/admin/apps/client_x/reject"),
    ("POST", "/api/admin/accounts/boss@example.com/demote"),
];

async fn every_route(world: &World, bearer: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let token = Some(bearer).filter(|bearer| !bearer.is_empty());
    for path in READS {
        answers.push(world.call("GET", path, token, None).await);
    }
    for (method, path) in WRITES {
        answers.push(world.call(method, path, token, Some(json!({}))).await);
    }
    answers
}

#[tokio::test]
async fn admin_routes_need_an_administrator_with_a_recent_totp_login() {
    let world = World::new();
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    for (bearer, refusal) in [
        ("", (401, "token_missing")),
        ("eyJ.no.token", (401, "invalid_token")),
        (&*access, (401, "wrong_token_kind")),
        (&*jwt, (403, "admin_required")),
    ] {
        for answer in every_route(&world, bearer).await {
            assert_eq!(answer.refusal(), refusal, "{answer:?}");
        }
    }
    // Rejected: a login from before the codes, one without them, and an old one.
    promote(&world, "one").await;
    let late = "/api/admin/accounts";
    assert_eq!(world.get(late, &jwt).await.refusal(), (403, "admin_login_required"));
    let person = Person::enrol(&world, "two").await;
    let before = world.get(late, &jwt).await;
    assert_eq!(before.refusal(), (403, "admin_login_required"));
    promote(&world, "two").await;
    let with_code = person.log_in(&world).await;
    assert_eq!(world.get(late, &with_code).await.status, 200);
    world.clock.advance(SignedDuration::from_hours(12));
    assert_eq!(world.get(late, &with_code).await.refusal(), (403, "admin_login_required"));
    let again = person.log_in(&world).await;
    assert_eq!(world.get(late, &again).await.status, 200);
}

#[tokio::test]
async fn a_login_from_before_totp_enrolment_cannot_administer() {
    let world = World::new();
    let early = world.member("three").await;
    let body = json!({ "password": PASSWORD });
    world.clock.advance(SignedDuration::from_secs(60));
    let enrolled = world.post("/api/auth/totp/enroll", &early, body).await.json();
    let app =
        SharedSecret::from_base32(&Secret::new(enrolled["secret"].as_str().unwrap())).unwrap();
    let body = json!({ "code": app.code_at(world.clock_now()) });
    world.post("/api/auth/totp/confirm", &early, body).await;
    promote(&world, "three").await;
    let answer = world.get("/api/admin/accounts", &early).await;
    assert_eq!(answer.refusal(), (403, "admin_login_required"));
}

#[tokio::test]
async fn suspension_blocks_access_and_stops_apps_and_resuming_restores_both() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let boss = admin(&world).await;
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    let body = json!({ "subdomain": "my-app", "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter" });
    assert_eq!(world.post("/api/deploy/apps", &access, body).await.status, 201);
    let team = own_team(&world, &jwt).await;
    let (_, key) = key(&world, &jwt, &team, &["deployments:read"]).await;
    let cookie = browsers::log_in(&world, "one").await;
    let run = async || {
        let found: Result<_, StoreError> =
            world.state.store.read(move |tables| tables.deployments_for(host)).await;
        found.unwrap().remove(0).1.unwrap().run
    };
    let wanted = async || {
        let found: Result<_, StoreError> =
            world.state.store.read(move |tables| tables.host(host)).await;
        found.unwrap().unwrap().wanted
    };
    let before = wanted().await;
    let id = world.account_id("one").await;
    let path = |verb: &str| format!("/api/admin/accounts/{id}/{verb}");
    let body = json!({ "reason": "phishing" });
    let answer = world.post(&path("suspend"), &boss, body.clone()).await;
    assert_eq!(answer.json()["account"]["suspended_for"], "phishing", "{answer:?}");
    assert_eq!(world.post(&path("suspend"), &boss, body).await.refusal(), (409, "conflict"));
    assert_eq!(run().await, RunState::Suspended);
    assert!(wanted().await > before, "its host is told");

    let suspended = (403, "account_suspended");
    assert_eq!(world.get("/api/deploy/apps", &key).await.refusal(), suspended);
    assert_eq!(world.browse("/api/auth/me", &cookie).await.refusal(), suspended);
    assert_eq!(world.get("/api/auth/me", &jwt).await.refusal(), suspended);
    assert_eq!(world.get("/api/deploy/apps", &access).await.refusal(), suspended);
    let login = log_in(&world, "one@example.com", PASSWORD, "").await;
    assert_eq!(login.refusal(), suspended);
    assert!(login.json()["detail"].as_str().unwrap().contains("phishing"));
    // With a wrong password it is not revealed.
    let wrong = log_in(&world, "one@example.com", "wrong-password-1", "").await;
    assert_eq!(wrong.refusal(), (401, "invalid_credentials"));
    let refresh = json!({ "grant_type": "refresh_token", "client_id": "buddo-cli",
        "refresh_token": tokens["refresh_token"] });
    let refused = world.post("/api/oauth/token", "", refresh.clone()).await;
    assert_eq!((refused.status.as_u16(), &refused.body["error"]), (400, &json!("invalid_grant")));
    let exchange = json!({ "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_id": "buddo-cli", "subject_token": jwt,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt" });
    assert_eq!(world.post("/api/oauth/token", "", exchange).await.status, 400);

    assert_eq!(world.post(&path("resume"), &boss, json!({})).await.status, 200);
    assert_eq!(run().await, RunState::Running);
    assert!(is_open(&world, &jwt).await && deploys(&world, &access).await);
    assert_eq!(world.post("/api/oauth/token", "", refresh).await.status, 200);
    log_in(&world, "one@example.com", PASSWORD, "").await.json();
    let acts = acts(&world, &boss).await;
    assert_eq!(
        acts,
        [("account_resumed".to_owned(), true), ("account_suspended".to_owned(), true)]
    );
    let log = super::post::activity(&world, &jwt).await;
    assert!(
        log.contains(&"suspended".to_owned()) && log.contains(&"resumed".to_owned()),
        "{log:?}"
    );
    let state: Result<AuditChainState, StoreError> =
        world.state.store.read(|tables| tables.verify_audit_chain()).await;
    assert!(matches!(state.unwrap(), AuditChainState::Whole { .. }));
}

#[tokio::test]
async fn clears_a_lost_second_factor_and_protects_administrators() {
    let world = World::new();
    let boss = admin(&world).await;
    let person = Person::enrol(&world, "one").await;
    let jwt = person.log_in(&world).await;
    let path = |name: &str, verb: &str| format!("/api/admin/accounts/{name}@example.com/{verb}");
    let post = async |name: &str, verb: &str| world.post(&path(name, verb), &boss, json!({})).await;
    assert_eq!(post("one", "clear-second-factor").await.status, 200);
    assert!(!is_open(&world, &jwt).await, "its sessions have ended");
    assert_eq!(log_in(&world, "one@example.com", PASSWORD, "").await.status, 200);
    assert_eq!(post("one", "promote").await.refusal(), (409, "conflict"), "it has no codes");

    Person::enrol(&world, "two").await;
    assert_eq!(post("two", "promote").await.json()["account"]["is_admin"], true);
    assert_eq!(post("two", "clear-second-factor").await.refusal(), (409, "conflict"));
    for verb in ["suspend", "demote"] {
        assert_eq!(post("boss", verb).await.refusal(), (409, "conflict"), "{verb} oneself");
    }
    assert_eq!(post("two", "demote").await.json()["account"]["is_admin"], false);
    assert_eq!(post("nobody", "resume").await.refusal(), (404, "not_found"));
}

#[tokio::test]
async fn lists_are_paged() {
    let world = World::new();
    let boss = admin(&world).await;
    for name in ["one", "two", "three", "four"] {
        world.register(name).await;
    }
    let mut path = "/api/admin/accounts?limit=2&q=EXAMPLE".to_owned();
    let mut names = Vec::new();
    loop {
        let answer = world.get(&path, &boss).await;
        let accounts = answer.json()["accounts"].as_array().unwrap().clone();
        assert!(accounts.len() <= 2);
        names.extend(accounts.iter().map(|account| account["username"].clone()));
        let Some(next) = answer.header("link").strip_suffix(">; rel=\"next\"") else { break };
        path = next.trim_start_matches('<').to_owned();
    }
    assert_eq!(Value::from(names), json!(["boss", "one", "two", "three", "four"]));
    let link = world.get("/api/admin/accounts?limit=1&q=o%26", &boss).await;
    assert_eq!(link.header("link"), "");
    let link = world.get("/api/admin/accounts?limit=1&q=%40EXAMPLE", &boss).await;
    let next = "</api/admin/accounts?limit=1&after=1&q=%40EXAMPLE>; rel=\"next\"";
    assert_eq!(link.header("link"), next);
    for list in ["accounts", "audit"] {
        for bad in ["?limit=0", "?limit=101", "?after=x"] {
            let answer = world.get(&format!("/api/admin/{list}{bad}"), &boss).await;
            assert_eq!(answer.refusal(), (422, "validation_failed"), "{list}{bad}");
        }
    }
}

#[tokio::test]
async fn changes_to_tiers_hosts_and_apps_are_audited() {
    let world = World::new();
    let boss = admin(&world).await;
    world.host(1, 4096).await;
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    let app = super::authorize::app(&world, &jwt).await;
    let client_id = app["client_id"].as_str().unwrap();

    let tier = json!({ "slug": "big", "payment_method": "bitcoin", "monthly_cost_sats": 9,
        "memory_limit_mb": 512, "cpu_limit_millicores": 500 });
    assert_eq!(world.post("/api/admin/tiers", &boss, tier.clone()).await.status, 201);
    assert_eq!(world.post("/api/admin/tiers", &boss, tier).await.pointers(), ["/slug"]);
    let wrong = json!({ "memory_limit_mb": 1, "monthly_cost_points": 3 });
    let answer = world.call("PATCH", "/api/admin/tiers/big", Some(&boss), Some(wrong)).await;
    assert_eq!(answer.pointers(), ["/monthly_cost_points", "/memory_limit_mb"]);
    let body = json!({ "max_per_account": 1, "open_to_all": true });
    let answer = world.call("PATCH", "/api/admin/tiers/big", Some(&boss), Some(body)).await;
    assert_eq!(answer.json()["tier"]["max_per_account"], 1);

    let deploy = async |name: &str| {
        let body = json!({ "subdomain": name, "image": "docker.io/library/nginx:latest",
            "tier": "big" });
        world.post("/api/deploy/apps", &access, body).await
    };
    let host = |verb: &str| format!("/api/admin/hosts/container-host-1{verb}");
    let drained = world.post(&host("/drain"), &boss, json!({})).await.json();
    assert!(drained["host"]["drained_at"].is_string(), "{drained}");
    assert_eq!(deploy("app-a").await.refusal(), (503, "no_host_available"));
    world.post(&host("/undrain"), &boss, json!({})).await.json();
    assert_eq!(deploy("app-a").await.status, 201);
    let refused = world.call("DELETE", &host(""), Some(&boss), None).await;
    assert_eq!(refused.refusal(), (409, "conflict"));
    let done = world.post(&host("/evacuate"), &boss, json!({})).await.json();
    assert_eq!((&done["moved"], &done["left"][0]["subdomain"]), (&json!(0), &json!("app-a")));
    assert!(done["host"]["drained_at"].is_string(), "{done}");
    let destroy = |name: &str| format!("/api/admin/deployments/{name}");
    let done = world.call("DELETE", &destroy("app-a"), Some(&boss), None).await;
    assert_eq!(done.status, 200, "{done:?}");
    let gone = world.call("DELETE", &destroy("app-a"), Some(&boss), None).await;
    assert_eq!(gone.refusal(), (404, "not_found"));

    let path = |verb: &str| format!("/api/admin/apps/{client_id}/{verb}");
    for (verb, approved) in [("approve", true), ("reject", false)] {
        let decided = world.post(&path(verb), &boss, json!({})).await.json();
        assert_eq!(decided["app"]["is_approved"], approved);
    }
    let listed = world.get("/api/admin/apps", &boss).await.json();
    assert_eq!(listed["apps"][0]["client_id"], client_id);
    let acts = acts(&world, &boss).await;
    let words: Vec<&str> = acts.iter().map(|(act, _)| &**act).collect();
    assert_eq!(
        words,
        [
            "app_reject",
            "app_approve",
            "deployment_destroy",
            "host_evacuated",
            "host_evacuate",
            "host_undrain",
            "host_drain",
            "tier_change",
            "tier_add"
        ]
    );
    assert!(acts.iter().all(|(_, by_account)| *by_account));

    super::authorize::app(&world, &jwt).await;
    for (list, limit, sizes) in [("apps", 1, [1, 1]), ("audit", 5, [5, 4])] {
        let first = world.get(&format!("/api/admin/{list}?limit={limit}"), &boss).await;
        let next = first.header("link").strip_suffix(">; rel=\"next\"").unwrap();
        let second = world.get(next.trim_start_matches('<'), &boss).await;
        assert_eq!(second.header("link"), "");
        let member = if list == "apps" { "apps" } else { "acts" };
        let [first, second] =
            [first, second].map(|page| page.json()[member].as_array().unwrap().clone());
        assert_eq!([first.len(), second.len()], sizes, "{list}");
        assert!(first.iter().all(|row| !second.contains(row)), "{list}");
    }
}

#[tokio::test]
async fn fm_69_an_evacuation_continues_after_its_client_disconnects() {
    let world = World::new();
    let boss = admin(&world).await;
    world.host(1, 4096).await;
    let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
    // Its first transaction waits for this one, and its client hangs up meanwhile.
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let path = "/api/admin/hosts/container-host-1/evacuate";
    let asked = world.post(path, &boss, json!({}));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), asked).await;
    assert!(waited.is_err(), "it cannot have ended");
    database.execute_batch("COMMIT").unwrap();
    for _ in 0..500 {
        if acts(&world, &boss).await.iter().any(|(act, _)| act == "host_evacuated") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the evacuation stopped in the middle");
}

#[tokio::test]
async fn admin_routes_are_rate_limited() {
    let world = World::with(|config| {
        let limits = "reads = { requests = 3, seconds = 60 }";
        let reads = toml::from_str::<crate::config::RateLimits>(limits).unwrap().reads;
        config.rate_limits.reads = reads;
    });
    let boss = admin(&world).await;
    let statuses = [
        world.get("/api/admin/tiers", &boss).await.status,
        world.get("/api/admin/hosts", &boss).await.status,
        world.get("/api/admin/apps", &boss).await.status,
        world.get("/api/admin/audit", &boss).await.status,
    ];
    assert_eq!(statuses.map(|status| status.as_u16()), [200, 200, 200, 429]);
}

#[tokio::test]
async fn allowing_an_account_a_tier_is_audited() {
    let world = World::new();
    let boss = admin(&world).await;
    for name in ["one", "two", "three"] {
        world.register(name).await;
    }
    let path =
        |slug: &str, name: &str| format!("/api/admin/tiers/{slug}/accounts/{name}@example.com");
    let decide = async |method: &str, slug: &str, name: &str| {
        world.call(method, &path(slug, name), Some(&boss), None).await
    };
    assert_eq!(decide("PUT", "none", "one").await.refusal(), (404, "tier_not_found"));
    assert_eq!(decide("PUT", "bitcoin-pro", "nobody").await.refusal(), (404, "not_found"));
    assert_eq!(decide("DELETE", "bitcoin-pro", "one").await.refusal(), (409, "conflict"));
    for name in ["one", "two", "three"] {
        assert_eq!(decide("PUT", "bitcoin-pro", name).await.status, 200);
    }
    assert_eq!(decide("PUT", "bitcoin-pro", "one").await.refusal(), (409, "conflict"));
    let list = "/api/admin/tiers/bitcoin-pro/accounts";
    let first = world.get(&format!("{list}?limit=2"), &boss).await;
    let names = |answer: &Answer| -> Vec<Value> {
        let accounts = answer.json()["accounts"].as_array().unwrap().clone();
        accounts.iter().map(|account| account["username"].clone()).collect()
    };
    assert_eq!(names(&first), ["one", "two"]);
    let next = first.header("link").trim_start_matches('<').replace(">; rel=\"next\"", "");
    assert_eq!(names(&world.get(&next, &boss).await), ["three"]);
    assert_eq!(decide("DELETE", "bitcoin-pro", "one").await.status, 200);
    assert_eq!(names(&world.get(list, &boss).await), ["two", "three"]);
    let tiers = world.get("/api/admin/tiers", &boss).await.json();
    let open = tiers["tiers"].as_array().unwrap().iter();
    let open: Vec<Value> = open.map(|tier| tier["open_to_all"].clone()).collect();
    assert_eq!(open, [true, false], "points are open to all, money is not");
    let acts: Vec<String> = acts(&world, &boss).await.into_iter().map(|(act, _)| act).collect();
    assert_eq!(acts, ["tier_deny", "tier_allow", "tier_allow", "tier_allow"]);
}

#[tokio::test]
async fn an_administrator_demoted_or_suspended_mid_request_is_refused() {
    let world = World::new();
    world.host(1, 4096).await;
    let jwt = admin(&world).await;
    Person::enrol(&world, "two").await;
    let app = super::authorize::app(&world, &jwt).await;
    let app = app["client_id"].as_str().unwrap();
    let context = async |name: &str| {
        let id = AccountId::new(world.account_id(name).await);
        let found: Result<_, StoreError> =
            world.state.store.read(move |tables| tables.account(id)).await;
        service::admin_context(&world.state, &found.unwrap().unwrap())
    };
    let (boss, two) = (context("boss").await, context("two").await);
    let (boss_name, two_name) = ("boss@example.com", "two@example.com");
    // Both were admitted before either acted.
    for suspended in [false, true] {
        promote(&world, "two").await;
        if suspended {
            service::suspend(&boss, two_name, None).await.unwrap();
        } else {
            service::demote(&boss, two_name).await.unwrap();
        }
        let tier = json!({ "slug": "big", "payment_method": "bitcoin", "monthly_cost_sats": 1,
            "memory_limit_mb": 64, "cpu_limit_millicores": 100 });
        let tier = serde_json::from_value(tier).unwrap();
        let (host, starter) = ("container-host-1", "buddo-starter");
        let refused = [
            service::suspend(&two, boss_name, None).await.err(),
            service::resume(&two, two_name).await.err(),
            service::promote(&two, two_name).await.err(),
            service::demote(&two, boss_name).await.err(),
            service::clear_second_factor(&two, two_name).await.err(),
            service::add_tier(&two, tier).await.err(),
            service::change_tier(&two, starter, service::TierChange::default()).await.err(),
            service::allow_tier(&two, starter, two_name).await.err(),
            service::deny_tier(&two, starter, two_name).await.err(),
            service::drain(&two, host).await.err(),
            service::undrain(&two, host).await.err(),
            service::remove_host(&two, host).await.err(),
            service::approve_client(&two, app).await.err(),
            service::reject_client(&two, app).await.err(),
        ];
        for (n, error) in refused.iter().enumerate() {
            assert!(matches!(error, Some(AdminError::NotAdmin)), "{n}: {error:?}");
        }
    }
    assert_eq!(world.get("/api/admin/tiers", &jwt).await.status, 200);
}
