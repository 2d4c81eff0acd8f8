//! `buddo orgs`, `buddo teams`, `buddo keys`, and a key in place of a login.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::common::*;

const TEAM: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const ORG: &str = "bbbbbbbb-0000-4000-8000-000000000001";
const KEY: &str = "cccccccc-0000-4000-8000-000000000001";

fn team(id: &str, org: &str, slug: &str, personal: bool) -> Value {
    json!({ "id": id, "orgId": ORG, "orgSlug": org, "name": "Web", "slug": slug,
        "createdAt": "2026-05-21T10:00:00Z", "personal": personal, "role": "team_admin" })
}

fn api_key(extra: &Value) -> Value {
    let mut key = json!({ "id": KEY, "teamId": TEAM, "name": "ci", "hint": "buddo_key_Ab3d",
        "scopes": ["deployments:read", "deployments:write"], "createdBy": ACCOUNT,
        "createdAt": "2026-05-21T10:00:00Z", "expiresAt": "2026-08-19T10:00:00Z",
        "lastUsedAt": null });
    key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    key
}

fn answer(body: impl serde::Serialize) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

/// A world with an own team and one of an organisation.
async fn world() -> World {
    let world = World::logged_in().await;
    let teams =
        json!([team(ACCOUNT, "@myoperator", "default", true), team(TEAM, "acme", "web", false)]);
    world.mock("GET", "/api/teams", answer(teams)).await;
    let org = json!({ "id": ORG, "name": "Acme", "slug": "acme", "plan": "free",
        "createdAt": "2026-05-21T10:00:00Z", "personal": false, "payerId": ACCOUNT,
        "role": "org_owner" });
    world.mock("GET", "/api/orgs", answer(json!([org]))).await;
    let members = json!([{ "accountId": ACCOUNT, "username": "myoperator", "role": "org_owner",
        "joinedAt": "2026-05-21T10:00:00Z" }]);
    world.mock("GET", &format!("/api/orgs/{ORG}/members"), answer(members)).await;
    world
}

#[tokio::test]
async fn a_new_key_is_printed_to_stdout_and_the_notes_to_stderr() {
    let world = world().await;
    let path = format!("/api/teams/{TEAM}/keys");
    let made = api_key(&json!({ "key": "buddo_key_TEXT" }));
    world.mock("POST", &path, ResponseTemplate::new(201).set_body_json(made)).await;
    let input = format!("{PASSWORD}\n");
    let ran = world.buddo_with(&["keys", "create", "ci", "--team", "acme/web"], &input).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "buddo_key_TEXT\n"), "{ran}");
    assert!(ran.err.contains("not shown again") && ran.err.contains("acme/web"), "{ran}");
    let sent: Value = world.requests("POST", &path).await[0].body_json().unwrap();
    let wanted = json!({ "name": "ci", "scopes": ["deployments:read", "deployments:write"],
        "expiresInDays": 90, "password": PASSWORD });
    assert_eq!(sent, wanted);
    let args = ["keys", "create", "ci", "--team", TEAM, "--scope", "deployments:read", "--json"];
    let ran = world.buddo_with(&args, &input).await;
    assert_eq!(ran.json()["key"], "buddo_key_TEXT", "{ran}");
    let ran = world.buddo(&["keys", "create", "ci"]).await;
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.err.contains("BUDDO_PASSWORD"), "{ran}");
}

#[tokio::test]
async fn creating_a_key_prompts_for_a_totp_code_if_needed() {
    let world = world().await;
    let path = format!("/api/teams/{TEAM}/keys");
    let problem = json!({ "type": "about:blank", "title": "x", "status": 403, "detail": "a code",
        "error": "a code", "code": "reauthentication_failed", "totp_required": true });
    world.mock("POST", &path, ResponseTemplate::new(403).set_body_json(problem)).await;
    let input = format!("{PASSWORD}\ncanary-totp\n");
    let ran = world.buddo_with(&["keys", "create", "ci", "--team", TEAM], &input).await;
    assert_ne!(ran.code, 0, "{ran}");
    let sent: Vec<Value> =
        world.requests("POST", &path).await.iter().map(|r| r.body_json().unwrap()).collect();
    assert_eq!((sent.len(), &sent[1]["totpCode"]), (2, &json!("canary-totp")));
}

#[tokio::test]
async fn lists_and_revokes_keys_of_the_personal_team_by_name() {
    let world = world().await;
    let path = format!("/api/teams/{ACCOUNT}/keys");
    world.mock("GET", &path, answer(json!([api_key(&json!({}))]))).await;
    let ran = world.buddo(&["keys", "list"]).await;
    insta::assert_snapshot!(ran.out, @r"
    Name  Key                Scopes                              Last used  Until                 Id
    ----  ---                ------                              ---------  -----                 --
    ci    buddo_key_Ab3d...  deployments:read deployments:write  never      2026-08-19T10:00:00Z  cccccccc-0000-4000-8000-000000000001
    ");
    let gone = answer(json!({ "message": "API key revoked" }));
    world.mock("DELETE", &format!("{path}/{KEY}"), gone).await;
    let ran = world.buddo(&["keys", "revoke", "ci"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "API key revoked\n"), "{ran}");
    let ran = world.buddo(&["keys", "revoke", "other"]).await;
    assert_eq!(ran.code, 4, "{ran}");
}

#[tokio::test]
async fn an_api_key_in_the_environment_replaces_a_login() {
    let world = World::new().await;
    world.mock("GET", APPS, listed("running")).await;
    let run = async || {
        let mut command = world.command(&["list"]);
        finish(command.env("BUDDO_API_KEY", "buddo_key_TEXT\n").spawn().unwrap()).await
    };
    let ran = run().await;
    assert_eq!(ran.code, 0, "{ran}");
    let sent = &world.requests("GET", APPS).await[0];
    assert_eq!(sent.headers["authorization"], "Bearer buddo_key_TEXT");
    world.api.reset().await;
    world.mock("GET", APPS, problem(401, "invalid_token", "the API key was revoked")).await;
    let ran = run().await;
    assert_eq!(ran.code, 3, "{ran}");
    assert_eq!(
        ran.err,
        "error: the API key was revoked\n\
         hint: BUDDO_API_KEY holds a key that the API does not accept: set it to another one, made \
         with `buddo keys create NAME`, or unset it to use your login\n"
    );
    assert_eq!(world.requests("POST", "/api/oauth/token").await.len(), 0);
}

/// Runs `buddo` with a key in its environment.
async fn with_key(world: &World, args: &[&str]) -> Ran {
    finish(world.command(args).env("BUDDO_API_KEY", "buddo_key_TEXT").spawn().unwrap()).await
}

#[tokio::test]
async fn logs_work_with_only_an_api_key() {
    let world = World::new().await;
    let logs = json!({ "logs": [
        { "id": "1", "action": "create", "status": "completed", "initiated_by": ACCOUNT,
          "inserted_at": "2026-05-21T10:00:00Z", "details": null },
    ]});
    world.mock("GET", &app("/logs"), answer(logs)).await;
    let ran = with_key(&world, &["deploy", "logs", ID]).await;
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains(ACCOUNT), "an account that nobody named is shown by its id: {ran}");
    let sent = &world.requests("GET", &app("/logs")).await[0];
    assert_eq!(sent.headers["authorization"], "Bearer buddo_key_TEXT");
}

#[tokio::test]
async fn commands_that_need_a_login_ignore_the_api_key() {
    let world = world().await;
    let path = format!("/api/orgs/{ORG}/members/{ACCOUNT}");
    world.mock("DELETE", &path, answer(json!({ "message": "Member removed" }))).await;
    let ran = with_key(&world, &["orgs", "leave", "acme"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "Member removed\n"), "{ran}");
    for (verb, path) in [("GET", "/api/orgs"), ("DELETE", &*path)] {
        let sent = &world.requests(verb, path).await[0];
        assert_eq!(sent.headers["authorization"], "Bearer canary-access-1", "{verb} {path}");
    }
    // Names of teams are the login's to know; the deployment is the key's to make.
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let args = [&CREATE[..], &["--team", "acme/web", "--no-follow"]].concat();
    assert_eq!(with_key(&world, &args).await.code, 0);
    let sent = &world.requests("POST", APPS).await[0];
    assert_eq!(sent.headers["authorization"], "Bearer buddo_key_TEXT");

    let nobody = World::new().await;
    let ran = with_key(&nobody, &["orgs", "leave", "acme"]).await;
    assert_eq!(ran.code, 3, "{ran}");
    assert!(ran.err.contains("an API key is only for deployments"), "{ran}");
    assert!(ran.err.contains("hint: log in with: buddo login"), "{ran}");
    assert!(nobody.api.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn manages_organisations_members_and_invitations() {
    let world = world().await;
    let ran = world.buddo(&["orgs", "list"]).await;
    assert!(ran.out.contains("acme") && ran.out.contains("org_owner"), "{ran}");
    let ran = world.buddo(&["orgs", "members", "acme"]).await;
    assert!(ran.out.contains("myoperator"), "{ran}");
    let path = format!("/api/orgs/{ORG}/invitations");
    let invitation = json!({ "id": KEY, "email": "two@example.com", "role": "org_member",
        "teamId": TEAM, "teamRole": "viewer", "invitedBy": ACCOUNT,
        "createdAt": "2026-05-21T10:00:00Z", "expiresAt": "2026-05-28T10:00:00Z" });
    let made = ResponseTemplate::new(201).set_body_json(&invitation);
    world.mock("POST", &path, made).await;
    let args = ["orgs", "invite", "acme", "two@example.com", "--team", "acme/web", "--team-role"];
    let ran = world.buddo(&[&args[..], &["viewer"]].concat()).await;
    assert_eq!(ran.code, 0, "{ran}");
    let sent: Value = world.requests("POST", &path).await[0].body_json().unwrap();
    assert_eq!(sent, json!({ "email": "two@example.com", "teamId": TEAM, "teamRole": "viewer" }));
    world.mock("GET", &path, answer(json!([invitation]))).await;
    let gone = answer(json!({ "message": "Invitation taken back; its link is void" }));
    world.mock("DELETE", &format!("{path}/{KEY}"), gone).await;
    let ran = world.buddo(&["orgs", "uninvite", "acme", "two@example.com"]).await;
    assert_eq!(ran.code, 0, "{ran}");
    // The whole link will do, and standard input keeps it out of the shell's history.
    let org = world.buddo(&["orgs", "list", "--json"]).await.json()[0].clone();
    world.mock("POST", "/api/invitations/accept", answer(org)).await;
    let link = "https://api.example/invitation?token=buddo_in_TEXT\n";
    let ran = world.buddo_with(&["orgs", "accept"], link).await;
    assert_eq!(ran.code, 0, "{ran}");
    let sent = &world.requests("POST", "/api/invitations/accept").await[0];
    assert_eq!(sent.body_json::<Value>().unwrap(), json!({ "token": "buddo_in_TEXT" }));
    let ran = world.buddo(&["orgs", "leave", "nowhere"]).await;
    assert_eq!(ran.code, 4, "{ran}");
}

#[tokio::test]
async fn the_team_option_selects_the_team() {
    let world = world().await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let args = [&CREATE[..], &["--team", "acme/web", "--no-follow"]].concat();
    let ran = world.buddo(&args).await;
    assert_eq!(ran.code, 0, "{ran}");
    let sent = &world.requests("POST", APPS).await[0];
    assert_eq!(sent.url.query(), Some(&*format!("team_id={TEAM}")));
    world.mock("GET", APPS, listed("running")).await;
    assert_eq!(world.buddo(&["list", "--team", "acme/web"]).await.code, 0);
    let sent = &world.requests("GET", APPS).await[0];
    assert_eq!(sent.url.query(), Some(&*format!("limit=100&team_id={TEAM}")));
}

#[tokio::test]
async fn reads_every_page_of_teams() {
    let world = World::logged_in().await;
    let on_page = |slug, next: &str| {
        let page = answer(json!([team(TEAM, "acme", slug, false)]));
        if next.is_empty() { page } else { page.insert_header("link", next) }
    };
    wiremock::Mock::given(wiremock::matchers::query_param("after", "x"))
        .respond_with(on_page("last", ""))
        .with_priority(1)
        .mount(&world.api)
        .await;
    let next = "</api/teams?limit=100&after=x>; rel=\"next\"";
    world.mock("GET", "/api/teams", on_page("first", next)).await;
    let ran = world.buddo(&["teams", "list"]).await;
    assert!(ran.out.contains("acme/first") && ran.out.contains("acme/last"), "{ran}");
}
