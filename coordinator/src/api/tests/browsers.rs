//! Browser logins for the API: the cookie, what it gives access to, and where requests must come
//! from.

use http::header::{CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};

use super::authorize;
use super::keys::{key, own_team};
use super::orgs::{org, text};
use super::post::deploys;
use super::tokens::redeem;
use crate::testing::{Answer, ISSUER, PASSWORD, World};

/// Logs a browser in; returns the answer to the form.
async fn submit(world: &World, name: &str, redirect: &str) -> Answer {
    let page = world.get(&format!("/login?redirect={redirect}"), "").await;
    assert_eq!(page.status, 200, "{page:?}");
    let (csrf, request) = (page.hidden("csrf"), page.hidden("request"));
    let email = format!("{name}@example.com");
    let pairs =
        [("csrf", &*csrf), ("request", &*request), ("email", &*email), ("password", PASSWORD)];
    world.form("/login", ("cookie", &page.cookie()), &pairs).await
}

pub(crate) async fn log_in(world: &World, name: &str) -> String {
    let answer = submit(world, name, "/").await;
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.cookie()
}

/// A request by a browser from a page of `origin`.
async fn ask(
    world: &World,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(HeaderName::try_from(*name).unwrap(), *value);
    }
    let body = match body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            axum::body::Body::from(body.to_string())
        }
        None => axum::body::Body::empty(),
    };
    world.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_browser_logs_in_returns_to_its_page_and_logs_out() {
    let world = World::new();
    let jwt = world.member("one").await;
    let answer = submit(&world, "one", "/api/teams").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/api/teams"));
    let (name, value) = answer.guarded_cookie(2_592_000);
    assert_eq!(name, "session");
    assert!(value.starts_with("buddo_ws_"), "{value}");
    let cookie = answer.cookie();
    let me = world.browse("/api/auth/me", &cookie).await;
    assert_eq!(me.json()["user"]["username"], "one");
    // It is one of the account's sessions, and can be ended as such.
    let sessions = world.get("/api/auth/sessions", &jwt).await.json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2);
    let page = world.browse("/login", &cookie).await;
    let csrf = page.hidden("csrf");
    let foreign = world.form("/logout", ("cookie", &cookie), &[("csrf", "x")]).await;
    assert_eq!(foreign.status, 403);
    let out = world.form("/logout", ("cookie", &cookie), &[("csrf", &csrf)]).await;
    assert_eq!((out.status.as_u16(), out.header("location")), (303, "/login"));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(world.browse("/api/auth/me", &cookie).await.refusal(), (401, "invalid_token"));
}

#[tokio::test]
async fn the_login_redirect_stays_on_this_site() {
    let world = World::new();
    world.member("one").await;
    for elsewhere in ["//evil.example", "https://evil.example", "/%5Cevil.example", "evil"] {
        let answer = submit(&world, "one", elsewhere).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/login"));
        let cookie = answer.cookie();
        let again = world.browse(&format!("/login?redirect={elsewhere}"), &cookie).await;
        assert_eq!((again.status.as_u16(), again.header("location")), (200, ""), "{elsewhere}");
    }
}

#[tokio::test]
async fn cookie_requests_that_change_something_must_be_same_origin() {
    let world = World::new();
    world.member("one").await;
    let cookie = log_in(&world, "one").await;
    let create = async |headers: &[(&str, &str)], name: &str| {
        let mut all = vec![("cookie", cookie.as_str())];
        all.extend_from_slice(headers);
        ask(&world, "POST", "/api/orgs", &all, Some(json!({ "name": name }))).await
    };
    for headers in [
        &[][..],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", ISSUER), ("sec-fetch-site", "same-site")],
    ] {
        let refused = create(headers, "No").await;
        assert_eq!(refused.refusal(), (403, "cross_site_request"), "{headers:?}");
    }
    let ours = [("origin", ISSUER), ("sec-fetch-site", "same-origin")];
    assert_eq!(create(&ours, "Yes").await.status, 201);
    let orgs = world.browse("/api/orgs", &cookie).await.json();
    let names: Vec<&str> = orgs.as_array().unwrap().iter().map(|org| text(&org["name"])).collect();
    assert_eq!(names, ["one", "Yes"]);
    // A token is not a cookie: no other page can send it, so it needs no origin.
    let jwt = world.log_in("one").await;
    let both = [("authorization", &*format!("Bearer {jwt}")), ("origin", "https://evil.example")];
    assert_eq!(create(&both, "By token").await.status, 201);
    // The deploy endpoints are for programs.
    let deploys = world.browse("/api/deploy/apps", &cookie).await;
    assert_eq!(deploys.refusal(), (401, "token_missing"));
}

#[tokio::test]
async fn a_password_change_ends_browser_sessions() {
    let world = World::new();
    let jwt = world.member("one").await;
    let cookie = log_in(&world, "one").await;
    // A page that asks for consent has a session of its own.
    let app = authorize::app(&world, &jwt).await;
    let consent = authorize::request(&app["client_id"], &[]);
    let asking = authorize::browser_login(&world, "one", &consent).await;
    let other = world.log_in("one").await;
    let theirs = world.cli_tokens(&other).await;
    let ours = world.cli_tokens(&jwt).await;
    let code = authorize::code(&world, "one", &app).await;
    let apps = world.post("/api/oauth/token", "", redeem(&app, &code)).await.json();
    let team = own_team(&world, &jwt).await;
    let (_, api_key) = key(&world, &jwt, &team, &["deployments:read"]).await;
    let bystander = world.member("two").await;
    let foreign = log_in(&world, "two").await;
    let foreign_team = own_team(&world, &bystander).await;
    let (_, foreign_key) = key(&world, &bystander, &foreign_team, &["deployments:read"]).await;
    let opens = async |token: &str| deploys(&world, token).await;
    for token in [&theirs, &ours, &apps].map(|tokens| text(&tokens["access_token"])) {
        assert!(opens(token).await);
    }
    assert!(opens(&api_key).await && opens(&foreign_key).await);
    assert!(world.browse(&consent, &asking).await.text.contains("Allow"));

    let body = json!({ "current_password": PASSWORD, "new_password": "canary-password-2" });
    assert_eq!(world.post("/api/auth/change-password", &jwt, body).await.status, 200);
    // Every other login ends: browsers, and the command line tokens issued for one.
    assert_eq!(world.browse("/api/auth/me", &cookie).await.refusal(), (401, "invalid_token"));
    assert!(!world.browse(&consent, &asking).await.text.contains("Allow"));
    assert_eq!(world.get("/api/auth/me", &other).await.refusal(), (401, "invalid_token"));
    assert!(!opens(text(&theirs["access_token"])).await);
    let body = json!({ "grant_type": "refresh_token", "client_id": "buddo-cli",
        "refresh_token": theirs["refresh_token"] });
    let refreshed = world.post("/api/oauth/token", "", body).await;
    assert_eq!(refreshed.json()["error"], "invalid_grant");
    // So do keys and app grants: nobody asked to keep them.
    assert!(!opens(&api_key).await && !opens(text(&apps["access_token"])).await);
    // The login that asked continues, with the tokens issued for it.
    assert_eq!(world.get("/api/auth/me", &jwt).await.status, 200);
    assert!(opens(text(&ours["access_token"])).await);
    // Nobody else notices.
    assert_eq!(world.browse("/api/auth/me", &foreign).await.status, 200);
    assert!(opens(&foreign_key).await);
}

#[tokio::test]
async fn an_invitation_is_accepted_by_the_button_on_its_page() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    world.member("two").await;
    let body = json!({ "email": "two@example.com", "role": "org_admin" });
    assert_eq!(world.post(&format!("{org}/invitations"), &owner, body).await.status, 201);
    let token = super::orgs::invited_token(&world, "two@example.com").await;
    let link = format!("/invitation?token={token}");
    let first = world.get(&link, "").await;
    assert_eq!(first.status, 303, "{first:?}");
    assert_eq!(
        first.header("location"),
        format!("/login?redirect=%2Finvitation%3Ftoken%3D{token}")
    );
    // Somebody else's browser is told whose invitation it is, and shown no button.
    let other = log_in(&world, "owner").await;
    let refused = world.browse(&link, &other).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("another address") && !refused.text.contains("<form"));
    let cookie = log_in(&world, "two").await;
    let page = world.browse(&link, &cookie).await;
    assert!(page.text.contains("Join Acme?") && page.text.contains("org_admin"), "{page:?}");
    let (csrf, token) = (page.hidden("csrf"), page.hidden("token"));
    let pairs = [("csrf", "x"), ("token", &*token)];
    assert_eq!(world.form("/invitation", ("cookie", &cookie), &pairs).await.status, 403);
    let pairs = [("csrf", &*csrf), ("token", &*token)];
    let joined = world.form("/invitation", ("cookie", &cookie), &pairs).await;
    assert!(joined.status == 200 && joined.text.contains("You are in Acme now"), "{joined:?}");
    let orgs = world.browse("/api/orgs", &cookie).await.json();
    assert_eq!(orgs[1]["role"], "org_admin");
    assert_eq!(world.form("/invitation", ("cookie", &cookie), &pairs).await.status, 400);
}
