//! Apps, and the authorization code flow through its pages.

use rstest::rstest;
use serde_json::{Value, json};

use crate::testing::{Answer, ISSUER, PASSWORD, World};

/// RFC 7636, appendix B.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(super) const REDIRECT: &str = "http://localhost:9876/callback";

/// Makes an app as the quickstart does; the answer's `app`.
pub(super) async fn app(world: &World, jwt: &str) -> Value {
    let body = json!({
        "app_name": "My Deploy App",
        "redirect_uris": [REDIRECT],
        "requested_scopes": ["deploy:manage"],
    });
    let answer = world.post("/api/oauth/apps", jwt, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["app"].clone()
}

/// The path of an authorization request; `changes` replace parameters, or drop them if empty.
pub(super) fn request(client_id: &Value, changes: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", client_id.as_str().unwrap()),
        ("redirect_uri", REDIRECT),
        ("scope", "deploy:manage"),
        ("state", "a b&c"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name, value));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    format!("/api/oauth/authorize?{}", query.extend_pairs(pairs).finish())
}

/// Hidden fields of a page, as its form sends them.
pub(super) fn hidden_pairs(page: &Answer, names: &[&'static str]) -> Vec<(&'static str, String)> {
    names.iter().map(|name| (*name, page.hidden(name))).collect()
}

/// Logs in on the page; the cookie of the session.
pub(super) async fn browser_login(world: &World, name: &str, path: &str) -> String {
    let page = world.get(path, "").await;
    assert_eq!(page.status, 200, "{page:?}");
    let email = format!("{name}@example.com");
    let pairs = [
        ("csrf", page.hidden("csrf")),
        ("request", page.hidden("request")),
        ("email", email),
        ("password", PASSWORD.to_owned()),
    ];
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let cookie = page.cookie();
    let answer = world.form("/api/oauth/authorize/login", ("cookie", &cookie), &pairs).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(answer.header("location"), path);
    answer.cookie()
}

/// Decides on the consent page.
pub(super) async fn decide(world: &World, path: &str, session: &str, decision: &str) -> Answer {
    let page = world.browse(path, session).await;
    let (csrf, request) = (page.hidden("csrf"), page.hidden("request"));
    let pairs = [("csrf", csrf.as_str()), ("request", &request), ("decision", decision)];
    world.form("/api/oauth/authorize/consent", ("cookie", session), &pairs).await
}

/// A parameter of the URI that an answer redirects to.
pub(super) fn parameter(answer: &Answer, name: &str) -> Option<String> {
    let uri = url::Url::parse(answer.header("location")).unwrap_or_else(|_| panic!("{answer:?}"));
    uri.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// A code for `name`'s account.
pub(super) async fn code(world: &World, name: &str, app: &Value) -> String {
    let path = request(&app["client_id"], &[]);
    let session = browser_login(world, name, &path).await;
    let answer = decide(world, &path, &session, "allow").await;
    parameter(&answer, "code").unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn creating_an_app_matches_the_docs_and_shows_the_secret_once() {
    let world = World::new();
    let jwt = world.member("one").await;
    let made = app(&world, &jwt).await;
    insta::assert_json_snapshot!(made, {
        ".id" => "[id]", ".client_id" => "[client]", ".client_secret" => "[secret]",
    }, @r#"
    {
      "allowed_scopes": [
        "deploy:manage"
      ],
      "app_description": null,
      "app_name": "My Deploy App",
      "approved_scopes": [
        "deploy:manage"
      ],
      "client_id": "[client]",
      "client_secret": "[secret]",
      "grant_types": [
        "authorization_code",
        "refresh_token"
      ],
      "id": "[id]",
      "inserted_at": "2026-05-21T10:00:00Z",
      "is_approved": false,
      "logo_url": null,
      "redirect_uris": [
        "http://localhost:9876/callback"
      ],
      "token_endpoint_auth_method": "client_secret_basic",
      "website_url": null
    }
    "#);
    let client_id = made["client_id"].as_str().unwrap();
    let public = world.get(&format!("/api/oauth/apps/{client_id}"), "").await;
    assert_eq!(public.json()["app"]["app_name"], "My Deploy App");
    assert!(!public.text.contains("\"client_secret\""));
    let mine = world.get("/api/oauth/my-apps", &jwt).await;
    assert_eq!(mine.json()["apps"][0]["client_id"], made["client_id"]);
    assert!(!mine.text.contains("\"client_secret\""));
    assert_eq!(world.get("/api/oauth/apps/client_nobody", "").await.status, 404);
    let other = world.member("two").await;
    assert_eq!(world.get("/api/oauth/my-apps", &other).await.json(), json!({ "apps": [] }));
}

#[rstest]
#[case(json!({ "app_name": null }), "/app_name")]
#[case(json!({ "app_name": "a\u{7}" }), "/app_name")]
#[case(json!({ "redirect_uris": [] }), "/redirect_uris")]
#[case(json!({ "redirect_uris": [REDIRECT, "http://a.example/cb"] }), "/redirect_uris/1")]
#[case(json!({ "redirect_uris": ["https://a.example/#x"] }), "/redirect_uris/0")]
#[case(json!({ "requested_scopes": ["deploy:manage", "root"] }), "/requested_scopes/1")]
#[case(json!({ "logo_url": "javascript:alert(1)" }), "/logo_url")]
#[tokio::test]
async fn a_bad_app_names_the_field(#[case] change: Value, #[case] pointer: &str) {
    let world = World::new();
    let jwt = world.member("one").await;
    let mut body = json!({ "app_name": "A", "redirect_uris": [REDIRECT] });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = world.post("/api/oauth/apps", &jwt, body).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.json()["errors"][0]["pointer"], pointer);
    assert_eq!(world.get("/api/oauth/my-apps", &jwt).await.json(), json!({ "apps": [] }));
}

#[tokio::test]
async fn a_read_only_app_is_approved_at_once() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({ "app_name": "A", "redirect_uris": [REDIRECT],
        "requested_scopes": ["profile:read", "points:read"] });
    let answer = world.post("/api/oauth/apps", &jwt, body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["app"]["is_approved"], true);
}

#[tokio::test]
async fn an_unused_published_scope_is_accepted_but_never_granted() {
    let world = World::new();
    let jwt = world.member("one").await;
    let published =
        ["profile:read", "points:read", "points:spend", "deploy:manage", "app:balance:read"];
    let body =
        json!({ "app_name": "A", "redirect_uris": [REDIRECT], "requested_scopes": published });
    let made = world.post("/api/oauth/apps", &jwt, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let app = &made.json()["app"];
    for field in ["allowed_scopes", "approved_scopes"] {
        assert_eq!(app[field], json!(["profile:read", "deploy:manage"]), "{field}");
    }
    let metadata = world.get("/.well-known/oauth-authorization-server", "").await.json();
    assert_eq!(metadata["scopes_supported"], json!(["profile:read", "deploy:manage"]));
    // Requested together with others it is left out, and the person is not asked about it.
    let path = request(&app["client_id"], &[("scope", "profile:read points:read points:spend")]);
    let session = browser_login(&world, "one", &path).await;
    let consent = world.browse(&path, &session).await;
    assert!(consent.text.contains("See your username"), "{consent:?}");
    assert!(!consent.text.contains("Buddo points"), "{consent:?}");
    // On its own it leaves nothing to allow.
    let path = request(&app["client_id"], &[("scope", "points:read")]);
    let refused = world.browse(&path, &session).await;
    assert_eq!(parameter(&refused, "error").as_deref(), Some("invalid_scope"), "{refused:?}");
}

#[tokio::test]
async fn rfc9207_2_the_answer_has_code_state_and_issuer() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "one", &path).await;
    let answer = decide(&world, &path, &session, "allow").await;
    assert_eq!(answer.status, 303);
    assert!(answer.header("location").starts_with("http://localhost:9876/callback?code=buddo_ac_"));
    assert_eq!(parameter(&answer, "state").as_deref(), Some("a b&c"));
    assert_eq!(parameter(&answer, "iss").as_deref(), Some(ISSUER));
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
}

#[tokio::test]
async fn rfc6749_4_1_2_1_a_denial_is_returned_to_the_app() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "one", &path).await;
    let answer = decide(&world, &path, &session, "deny").await;
    assert_eq!(parameter(&answer, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&answer, "code"), None);
}

#[tokio::test]
async fn only_its_owner_can_authorize_an_unapproved_app() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.member("two").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "two", &path).await;
    let answer = decide(&world, &path, &session, "allow").await;
    assert_eq!(parameter(&answer, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&answer, "code"), None);
}

#[rstest]
#[case::other_host(&[("redirect_uri", "https://evil.example/callback")])]
#[case::other_path(&[("redirect_uri", "http://localhost:9876/callback/evil")])]
#[case::missing(&[("redirect_uri", "")])]
#[case::no_client(&[("client_id", "client_nobody")])]
#[tokio::test]
async fn rfc6749_3_1_2_4_never_redirects_to_an_unregistered_uri(#[case] changes: &[(&str, &str)]) {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let answer = world.get(&request(&app["client_id"], changes), "").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.headers.get("location").is_none());
    assert!(!answer.text.contains("evil"));
}

#[rstest]
#[case::rfc7636_4_3_a_missing_method_means_plain(&[("code_challenge_method", "")], "invalid_request")]
#[case::rfc7636_4_3_plain(&[("code_challenge_method", "plain")], "invalid_request")]
#[case::rfc7636_4_4_1_no_challenge(&[("code_challenge", "")], "invalid_request")]
#[case::bad_challenge(&[("code_challenge", "short")], "invalid_request")]
#[case::rfc6749_3_1_1_other_type(&[("response_type", "token")], "unsupported_response_type")]
#[case::rfc6749_3_3_scope_beyond_the_apps(&[("scope", "points:spend")], "invalid_scope")]
#[case::unknown_scope(&[("scope", "root")], "invalid_scope")]
#[tokio::test]
async fn errors_are_returned_only_to_approved_apps_or_their_owner(
    #[case] changes: &[(&str, &str)],
    #[case] error: &str,
) {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let owner = browser_login(&world, "one", &request(&app["client_id"], &[])).await;
    let wrong = request(&app["client_id"], changes);
    // RFC 9700, 4.11.2: anybody can make an app that is not approved.
    world.member("two").await;
    let other = browser_login(&world, "two", &request(&app["client_id"], &[])).await;
    for stranger in ["", &other] {
        let answer = world.browse(&wrong, stranger).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.headers.get("location").is_none());
        assert!(answer.text.contains("not valid"), "{answer:?}");
    }
    let answer = world.browse(&wrong, &owner).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let client_id = app["client_id"].as_str().unwrap().to_owned();
    let approve = world.state.store.write(move |tables| tables.approve_client(&client_id, true));
    approve.await.map_err(|error: crate::store::StoreError| error).unwrap();
    let answer = world.browse(&wrong, "").await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(answer.header("location").starts_with(REDIRECT));
    assert_eq!(parameter(&answer, "error").as_deref(), Some(error));
    assert_eq!(parameter(&answer, "state").as_deref(), Some("a b&c"));
}

#[tokio::test]
async fn rfc6749_3_1_a_repeated_parameter_is_refused() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]) + "&redirect_uri=https%3A%2F%2Fevil.example";
    assert_eq!(world.get(&path, "").await.status, 400);
}

#[tokio::test]
async fn rfc9700_4_16_pages_are_not_framed_and_run_no_script() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "one", &path).await;
    for page in [world.get(&path, "").await, world.browse(&path, &session).await] {
        assert_eq!(page.header("x-frame-options"), "DENY");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(policy.contains("form-action 'self' http://localhost:9876;"), "{policy}");
        assert!(!policy.contains("script-src") && !page.text.contains("<script"));
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(page.headers.get("access-control-allow-origin").is_none(), "no CORS");
        assert!(page.text.contains("<html lang=\"en\">") && page.text.contains("<h1>"));
    }
}

#[tokio::test]
async fn names_of_apps_are_escaped_in_pages() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({ "app_name": "<script>alert(1)</script>", "redirect_uris": [REDIRECT] });
    let app = world.post("/api/oauth/apps", &jwt, body).await.json();
    let path = request(&app["app"]["client_id"], &[("scope", "profile:read")]);
    let page = world.get(&path, "").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("<script") && page.text.contains("&lt;script"));
}

#[tokio::test]
async fn rfc9700_4_7_cross_site_forms_are_refused() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let query = path.split_once('?').unwrap().1;

    let page = world.get(&path, "").await;
    let csrf = page.hidden("csrf");
    let pairs = [
        ("csrf", csrf.as_str()),
        ("request", query),
        ("email", "one@example.com"),
        ("password", PASSWORD),
    ];
    let foreign = world.form("/api/oauth/authorize/login", ("cookie", ""), &pairs).await;
    assert_eq!(foreign.status, 403, "the browser was never shown the form");

    let session = browser_login(&world, "one", &path).await;
    let pairs = [("csrf", csrf.as_str()), ("request", query), ("decision", "allow")];
    let foreign = world.form("/api/oauth/authorize/consent", ("cookie", &session), &pairs).await;
    assert_eq!(foreign.status, 403, "the token of another form");
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again_without_the_password() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let page = world.get(&path, "").await;
    let (csrf, query) = (page.hidden("csrf"), page.hidden("request"));
    let pairs = [
        ("csrf", csrf.as_str()),
        ("request", &query),
        ("email", "one@example.com"),
        ("password", "wrong-canary"),
    ];
    let again = world.form("/api/oauth/authorize/login", ("cookie", &page.cookie()), &pairs).await;
    assert_eq!(again.status, 401);
    assert!(again.text.contains("role=\"alert\"") && again.text.contains("one@example.com"));
    assert!(!again.text.contains("wrong-canary"));
    assert!(!again.cookie().contains("buddo_session"));
}

#[tokio::test]
async fn logging_in_for_an_app_marks_the_browser_as_known() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let cookies = browser_login(&world, "one", &request(&app["client_id"], &[])).await;
    assert!(cookies.contains("__Host-buddo_device="), "{cookies}");
}

#[tokio::test]
async fn a_session_ends_after_30_minutes_or_when_switching_accounts() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "one", &path).await;
    let switch = decide(&world, &path, &session, "switch").await;
    assert_eq!((switch.status.as_u16(), switch.header("location")), (303, path.as_str()));
    assert!(switch.header("set-cookie").contains("Max-Age=0"));
    assert!(world.browse(&path, &session).await.text.contains("Allow My Deploy App"));
    world.clock.advance(jiff::SignedDuration::from_mins(30));
    assert!(world.browse(&path, &session).await.text.contains("Log in to continue"));
}
