//! Points of the standards that span endpoints: each test is named after its section.

use std::collections::BTreeMap;

use axum::body::Body;
use http::Request;
use rstest::rstest;
use serde_json::{Value, json};

use super::authorize::{
    REDIRECT, VERIFIER, app, browser_login, code, decide, hidden_pairs, parameter, request,
};
use super::tokens::redeem;
use crate::testing::{ISSUER, PASSWORD, World};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn rfc7636_4_6_only_the_matching_verifier_redeems_a_code() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    for wrong in [VERIFIER.replace('d', "e"), VERIFIER.to_lowercase(), format!("{VERIFIER}k")] {
        let mut body = redeem(&app, &code);
        body["code_verifier"] = json!(wrong);
        let answer = world.post("/api/oauth/token", "", body).await;
        assert_eq!(answer.json()["error"], "invalid_grant", "{wrong}");
    }
    assert_eq!(world.post("/api/oauth/token", "", redeem(&app, &code)).await.status, 200);
}

#[tokio::test]
async fn rfc9700_4_12_a_login_redirects_with_303_and_drops_the_password() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    for (path, action) in
        [(path.as_str(), "/api/oauth/authorize/login"), ("/device", "/device/login")]
    {
        let page = world.get(path, "").await;
        let mut pairs = hidden_pairs(&page, &["csrf", "request"]);
        pairs.extend([("email", "one@example.com".to_owned()), ("password", PASSWORD.to_owned())]);
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = world.form(action, ("cookie", &page.cookie()), &pairs).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, path));
        assert!(!format!("{answer:?}").contains(PASSWORD));
        assert_eq!(answer.guarded_cookie(1800).0, "__Host-buddo_session");
    }
    let session = browser_login(&world, "one", &path).await;
    assert_eq!(decide(&world, &path, &session, "allow").await.status, 303);
}

#[tokio::test]
async fn a_login_ignores_a_planted_session_cookie() {
    let world = World::new();
    world.member("one").await;
    let page = world.get("/device", "").await;
    let mut pairs = hidden_pairs(&page, &["csrf", "request"]);
    pairs.extend([("email", "one@example.com".to_owned()), ("password", PASSWORD.to_owned())]);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let planted = format!("__Host-buddo_session=buddo_se_{}", "A".repeat(43));
    let cookies = format!("{}; {planted}", page.cookie());
    let answer = world.form("/device/login", ("cookie", &cookies), &pairs).await;
    assert_eq!(answer.status, 303);
    assert!(!answer.cookie().contains(&planted));
    assert!(world.browse("/device", &planted).await.text.contains("Log in to"));
}

#[rstest]
#[case::authorize("/api/oauth/authorize?client_id=x")]
#[case::device("/device")]
#[case::token("/api/oauth/token")]
#[tokio::test]
async fn rfc9700_2_6_responses_have_no_cors_headers(#[case] path: &str) {
    let world = World::new();
    for method in ["GET", "POST", "OPTIONS"] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "POST")
            .body(Body::empty())
            .unwrap();
        let answer = world.send(request).await;
        let cors = answer.headers.keys().any(|name| name.as_str().starts_with("access-control"));
        assert!(!cors, "{method}: {answer:?}");
    }
}

#[tokio::test]
async fn rfc6749_3_2_parameters_are_accepted_only_in_a_post_body() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let body = redeem(&app, &code);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in body.as_object().unwrap() {
        query.append_pair(name, text(value));
    }
    let path = format!("/api/oauth/token?{}", query.finish());
    assert_eq!(world.get(&path, "").await.status, 405);
    let answer = world.form(&path, ("x-a", "b"), &[]).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(world.post("/api/oauth/token", "", body).await.status, 200, "not used up");
}

#[tokio::test]
async fn rfc6749_4_1_2_concurrent_reuse_of_a_code_succeeds_once_then_revokes() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let use_it = || world.post("/api/oauth/token", "", redeem(&app, &code));
    let answers = futures_util::future::join_all((0..50).map(|_| use_it())).await;
    let good: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(good.len(), 1);
    let access = good[0].json()["access_token"].clone();
    assert_eq!(world.get("/api/deploy/apps", text(&access)).await.status, 401);
}

#[tokio::test]
async fn rfc9700_4_14_2_concurrent_reuse_of_a_refresh_token_ends_the_grant() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let body = json!({ "grant_type": "refresh_token", "client_id": "buddo-cli",
        "refresh_token": tokens["refresh_token"] });
    let use_it = || world.post("/api/oauth/token", "", body.clone());
    let answers = futures_util::future::join_all((0..50).map(|_| use_it())).await;
    let good: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(good.len(), 1);
    for tokens in [tokens, good[0].json()] {
        assert_eq!(world.get("/api/deploy/apps", text(&tokens["access_token"])).await.status, 401);
    }
}

/// RFC 8725, 3.12, and what it means for opaque tokens: each kind is accepted only where it
/// belongs.
#[tokio::test]
async fn rfc8725_3_12_each_kind_of_token_works_only_where_it_belongs() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "one", &path).await;
    let answer = decide(&world, &path, &session, "allow").await;
    let unused = parameter(&answer, "code").unwrap();
    let cli = world.cli_tokens(&jwt).await;
    let device = json!({ "client_id": "buddo-cli" });
    let device = world.post("/api/oauth/device_authorization", "", device).await.json();
    let tokens = BTreeMap::from([
        ("jwt", jwt.clone()),
        ("access", text(&cli["access_token"]).to_owned()),
        ("refresh", text(&cli["refresh_token"]).to_owned()),
        ("code", unused),
        ("device", text(&device["device_code"]).to_owned()),
        ("user", text(&device["user_code"]).to_owned()),
        ("session", session.split_once('=').unwrap().1.to_owned()),
        ("secret", text(&app["client_secret"]).to_owned()),
    ]);
    for (kind, token) in &tokens {
        let bearer = |path: &'static str| world.get(path, token);
        assert_eq!(bearer("/api/deploy/apps").await.status == 200, *kind == "access", "{kind}");
        assert_eq!(bearer("/api/auth/me").await.status == 200, *kind == "jwt", "{kind}");
        let cookie = format!("__Host-buddo_session={token}");
        let page = world.browse("/device", &cookie).await;
        assert_eq!(page.text.contains("Connect a device"), *kind == "session", "{kind}");
        let exchange = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_id": "buddo-cli", "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        });
        let exchanged = world.post("/api/oauth/token", "", exchange).await;
        assert_eq!(exchanged.status == 200, *kind == "jwt", "{kind}");
        let device = json!({ "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "client_id": "buddo-cli", "device_code": token });
        let polled = world.post("/api/oauth/token", "", device).await.json();
        let pending = polled["error"] == "authorization_pending";
        assert_eq!(pending, *kind == "device", "{kind}: {polled}");
        let redeemed = world.post("/api/oauth/token", "", redeem(&app, token)).await;
        assert_eq!(redeemed.status == 200, *kind == "code", "{kind}");
    }
    let refresh = |token: &str| {
        let body = json!({ "grant_type": "refresh_token", "client_id": "buddo-cli",
            "refresh_token": token });
        world.post("/api/oauth/token", "", body)
    };
    for (kind, token) in &tokens {
        assert_eq!(refresh(token).await.status == 200, *kind == "refresh", "{kind}");
    }
}

#[tokio::test]
async fn rfc7009_2_1_and_rfc7662_2_1_the_client_must_authenticate() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let tokens = world.post("/api/oauth/token", "", redeem(&app, &code)).await.json();
    for path in ["/api/oauth/revoke", "/api/oauth/introspect"] {
        for change in [
            json!({ "client_id": null }),
            json!({ "client_id": "client_nobody" }),
            json!({ "client_secret": null }),
            json!({ "client_secret": format!("secret_{}", "A".repeat(43)) }),
        ] {
            let mut body = json!({ "client_id": app["client_id"],
                "client_secret": app["client_secret"], "token": tokens["access_token"] });
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let answer = world.post(path, "", body).await;
            assert_eq!(answer.status, 401, "{path} {change}");
            assert_eq!(answer.json()["error"], "invalid_client");
        }
    }
    let access = text(&tokens["access_token"]);
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 200);
}

#[tokio::test]
async fn rfc7662_2_2_a_revoked_token_is_reported_only_as_inactive() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let tokens = world.post("/api/oauth/token", "", redeem(&app, &code)).await.json();
    let about = |token: &Value| {
        json!({ "client_id": app["client_id"], "client_secret": app["client_secret"],
            "token": token, "token_type_hint": "refresh_token" })
    };
    let ask = async |token: &Value| world.post("/api/oauth/introspect", "", about(token)).await;
    let refresh = ask(&tokens["refresh_token"]).await.json();
    assert_eq!((&refresh["active"], refresh.get("token_type")), (&json!(true), None));
    assert_eq!(ask(&tokens["access_token"]).await.json()["active"], true, "a wrong hint is none");
    assert_eq!(
        world.post("/api/oauth/revoke", "", about(&tokens["refresh_token"])).await.status,
        200
    );
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        assert_eq!(ask(token).await.text, r#"{"active":false}"#);
    }
    let expired = world.post("/api/oauth/token", "", redeem(&app, "x")).await;
    assert_eq!(expired.status, 400);
}

#[tokio::test]
async fn rfc8252_7_3_a_native_app_chooses_its_loopback_port() {
    let world = World::new();
    world.member("one").await;
    let redirect = "http://127.0.0.1:51004/callback";
    let path = request(&json!("buddo-cli"), &[("redirect_uri", redirect)]);
    let session = browser_login(&world, "one", &path).await;
    let page = world.browse(&path, &session).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' http://127.0.0.1:51004;"), "{policy}");
    let answer = decide(&world, &path, &session, "allow").await;
    assert!(answer.header("location").starts_with(redirect), "{answer:?}");
    let code = parameter(&answer, "code").unwrap();
    let body = |redirect: &str| {
        json!({ "grant_type": "authorization_code", "client_id": "buddo-cli", "code": code,
            "redirect_uri": redirect, "code_verifier": VERIFIER })
    };
    let other = "http://127.0.0.1:51005/callback";
    let refused = world.post("/api/oauth/token", "", body(other)).await;
    assert_eq!(refused.json()["error"], "invalid_grant", "the very one of the request");
    assert_eq!(world.post("/api/oauth/token", "", body(redirect)).await.status, 200);
}

#[tokio::test]
async fn csp3_2_3_1_the_consent_form_can_redirect_to_an_ipv6_loopback() {
    let world = World::new();
    let redirect = "http://[::1]:51004/callback";
    let path = request(&json!("buddo-cli"), &[("redirect_uri", redirect)]);
    let page = world.get(&path, "").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' http:;"), "{policy}");
}

#[tokio::test]
async fn rfc8414_3_2_the_metadata_is_complete() {
    let world = World::new();
    let answer = world.get("/.well-known/oauth-authorization-server", "").await;
    assert!(answer.header("content-type").starts_with("application/json"));
    let mut metadata = answer.json();
    for value in metadata.as_object_mut().unwrap().values_mut() {
        if let Some(path) = value.as_str().and_then(|url| url.strip_prefix(ISSUER)) {
            *value = json!(format!("[issuer]{path}"));
        }
    }
    insta::assert_json_snapshot!(metadata);
}

#[tokio::test]
async fn rfc9700_2_1_redirect_uris_must_match_exactly() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({ "app_name": "A", "redirect_uris": ["https://a.example/cb"] });
    let app = world.post("/api/oauth/apps", &jwt, body).await.json()["app"].clone();
    let ask = async |uri: &str| {
        let changes = [("redirect_uri", uri), ("scope", "profile:read")];
        world.get(&request(&app["client_id"], &changes), "").await.status
    };
    assert_eq!(ask("https://a.example/cb").await, 200);
    for other in [
        "https://a.example/cb/",
        "https://a.example/CB",
        "https://a.example/cb?x=1",
        "https://a.example/cb/../evil",
        "https://a.example:8443/cb",
        "https://a.example.evil.example/cb",
        "https://a.example@evil.example/cb",
        "http://a.example/cb",
        REDIRECT,
    ] {
        assert_eq!(ask(other).await, 400, "{other}");
    }
}
