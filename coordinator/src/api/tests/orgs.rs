//! Organisations, teams, and who is in them.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::domain::identity::{OrgRole, TeamRole};
use crate::store::StoreError;
use crate::store::contract::Suspension;
use crate::tasks::mail::{self, Mailer};
use crate::testing::{Answer, PASSWORD, World};

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

pub(super) async fn put(world: &World, path: &str, jwt: &str, body: Value) -> Answer {
    world.call("PUT", path, Some(jwt), Some(body)).await
}

pub(super) async fn delete(world: &World, path: &str, jwt: &str) -> Answer {
    world.call("DELETE", path, Some(jwt), None).await
}

/// The account id behind a JWT.
pub(super) async fn id_of(world: &World, jwt: &str) -> String {
    text(&world.get("/api/auth/me", jwt).await.json()["user"]["id"]).to_owned()
}

/// Makes an organisation; returns its path.
pub(crate) async fn org(world: &World, jwt: &str, name: &str) -> String {
    let made = world.post("/api/orgs", jwt, json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{made:?}");
    format!("/api/orgs/{}", text(&made.json()["id"]))
}

/// Makes a team; returns its path.
pub(super) async fn team(world: &World, jwt: &str, org: &str, name: &str) -> String {
    let made = world.post(&format!("{org}/teams"), jwt, json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{made:?}");
    format!("/api/teams/{}", text(&made.json()["id"]))
}

/// The last mail to `to`, decoded.
async fn mailed(world: &World, to: &str) -> String {
    let config = &world.state.config;
    let mailer = Mailer::new(&config.mail, &config.state_dir).unwrap();
    mail::pass(&world.state, &mailer).await.unwrap();
    let directory = config.state_dir.join("mail");
    let mut mails: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (std::fs::metadata(&path).unwrap().modified().unwrap(), path))
        .collect();
    mails.sort();
    let mails = mails.iter().rev().map(|(_, path)| std::fs::read_to_string(path).unwrap());
    let mut to_them = mails.filter(|mail| mail.contains(&format!("To: {to}")));
    let mail = to_them.next().unwrap_or_else(|| panic!("no mail to {to}"));
    mail.replace("=\r\n", "").replace("=3D", "=").replace("&#x2f;", "/")
}

/// The token in the newest invitation to `to`.
pub(crate) async fn invited_token(world: &World, to: &str) -> String {
    let mail = mailed(world, to).await;
    let (_, rest) = mail.split_once("/invitation?token=").unwrap_or_else(|| panic!("{mail}"));
    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
}

/// Lets `name` join with a role through an invitation mail; returns their JWT.
pub(super) async fn joins(
    world: &World,
    owner: &str,
    org: &str,
    name: &str,
    body: Value,
) -> String {
    let jwt = world.member(name).await;
    let email = format!("{name}@example.com");
    let mut invite = json!({ "email": email });
    invite.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let invited = world.post(&format!("{org}/invitations"), owner, invite).await;
    assert_eq!(invited.status, 201, "{invited:?}");
    let token = invited_token(world, &email).await;
    let accepted = world.post("/api/invitations/accept", &jwt, json!({ "token": token })).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    jwt
}

#[tokio::test]
async fn every_account_has_a_fixed_personal_organisation_and_team() {
    let world = World::new();
    let jwt = world.member("My-op_1").await;
    let id = id_of(&world, &jwt).await;
    let orgs = world.get("/api/orgs", &jwt).await.json();
    assert_eq!(
        orgs,
        json!([{ "id": id, "name": "My-op_1", "slug": "@my-op_1", "plan": "free",
            "createdAt": "2026-05-21T10:00:00Z", "personal": true, "payerId": id,
            "role": "org_owner" }])
    );
    let teams = world.get("/api/teams", &jwt).await.json();
    assert_eq!(
        teams,
        json!([{ "id": id, "orgId": id, "orgSlug": "@my-op_1", "name": "Default",
            "slug": "default", "createdAt": "2026-05-21T10:00:00Z", "personal": true,
            "role": "team_admin" }])
    );
    let own = format!("/api/orgs/{id}");
    let refused = [
        delete(&world, &own, &jwt).await,
        delete(&world, &format!("{own}/members/{id}"), &jwt).await,
        delete(&world, &format!("/api/teams/{id}"), &jwt).await,
        put(&world, &own, &jwt, json!({ "slug": "other" })).await,
        put(&world, &format!("{own}/members/{id}"), &jwt, json!({ "role": "org_member" })).await,
        world.post(&format!("{own}/teams"), &jwt, json!({ "name": "More" })).await,
        world.post(&format!("{own}/invitations"), &jwt, json!({ "email": "a@b.example" })).await,
    ];
    for refused in refused {
        assert_eq!(refused.refusal(), (409, "in_use"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_suspended_payers_organisation_is_not_taken_over() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let other = joins(&world, &owner, &org, "other", json!({ "role": "org_owner" })).await;
    let id = buddo_shared::model::id::AccountId::new(world.account_id("owner").await);
    let now = world.clock_now();
    let suspend = async |suspended: bool| {
        let suspension = suspended.then_some(Suspension { since: now, reason: None });
        let write =
            world.state.store.write(move |tables| tables.set_suspended(id, suspension.as_ref()));
        let done: Result<(), StoreError> = write.await;
        done.unwrap();
    };
    suspend(true).await;
    let path = format!("{org}/take-over");
    let refused = world.post(&path, &other, json!({})).await;
    assert_eq!(refused.refusal(), (409, "in_use"), "{refused:?}");
    assert!(refused.body["detail"].as_str().unwrap().contains("suspended"));
    suspend(false).await;
    world.unverify("other");
    assert_eq!(world.post(&path, &other, json!({})).await.refusal(), (403, "email_unverified"));
    let own = world.get(&org, &owner).await.json();
    assert_eq!(own["payerId"], json!(id));
}

#[tokio::test]
async fn an_invitation_never_lowers_a_role() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let web = team(&world, &owner, &org, "Web").await;
    let team_id = web.rsplit('/').next().unwrap();
    let jwt = world.member("one").await;
    let invite = json!({ "email": "one@example.com", "teamId": team_id, "teamRole": "viewer" });
    let invited = world.post(&format!("{org}/invitations"), &owner, invite).await;
    assert_eq!(invited.status, 201, "{invited:?}");
    let token = invited_token(&world, "one@example.com").await;
    // Meanwhile somebody adds them with a higher role.
    let id = buddo_shared::model::id::AccountId::new(world.account_id("one").await);
    let (org_id, team_id) =
        (org.rsplit('/').next().unwrap().parse().unwrap(), team_id.parse().unwrap());
    let now = world.clock_now();
    let write = world.state.store.write(move |tables| {
        tables.set_org_role(org_id, id, OrgRole::Admin, now)?;
        tables.set_team_role(team_id, id, TeamRole::Admin, now)
    });
    let done: Result<(), StoreError> = write.await;
    done.unwrap();
    let accepted = world.post("/api/invitations/accept", &jwt, json!({ "token": token })).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    assert_eq!(accepted.json()["role"], "org_admin");
    let read = world.state.store.read(move |tables| tables.membership(id, team_id));
    let membership: Result<_, StoreError> = read.await;
    assert_eq!(membership.unwrap().unwrap().team_role, Some(TeamRole::Admin));
}

#[tokio::test]
async fn an_organisation_needs_a_verified_owner_and_an_unused_slug() {
    let world = World::new();
    world.register("one").await;
    let jwt = world.log_in("one").await;
    let early = world.post("/api/orgs", &jwt, json!({ "name": "Acme" })).await;
    assert_eq!(early.refusal(), (403, "email_unverified"));
    let jwt = world.member("two").await;
    org(&world, &jwt, "Acme Inc.").await;
    for (body, pointer) in [
        (json!({ "name": "acme, inc" }), "/slug"),
        (json!({ "name": "X", "slug": "@two" }), "/slug"),
        (json!({ "name": "日本" }), "/slug"),
        (json!({ "name": " " }), "/name"),
    ] {
        let refused = world.post("/api/orgs", &jwt, body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.pointers()), (422, vec![pointer]), "{body}");
    }
    for number in 1..10 {
        org(&world, &jwt, &format!("Org {number}")).await;
    }
    let more = world.post("/api/orgs", &jwt, json!({ "name": "One more" })).await;
    assert_eq!(more.refusal(), (409, "limit_reached"));
}

#[tokio::test]
async fn an_invitation_works_once_for_its_address_within_seven_days() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let invite = async || {
        let body = json!({ "email": "Two@Example.com" });
        let answer = world.post(&format!("{org}/invitations"), &owner, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        (answer.json(), invited_token(&world, "Two@Example.com").await)
    };
    let accept = async |jwt: &str, token: &str| {
        world.post("/api/invitations/accept", jwt, json!({ "token": token })).await
    };
    let (_, token) = invite().await;
    let mail = mailed(&world, "Two@Example.com").await;
    assert!(mail.contains("owner invites you to the organisation acme on Buddo"), "{mail}");

    // Another account, an account without a confirmed address, and too late.
    let other = world.member("other").await;
    assert_eq!(accept(&other, &token).await.refusal(), (403, "forbidden"));
    world.register("two").await;
    let early = world.log_in("two").await;
    assert_eq!(accept(&early, &token).await.refusal(), (403, "email_unverified"));
    let id = id_of(&world, &early).await.parse().unwrap();
    let now = world.clock_now();
    let confirmed: Result<(), StoreError> =
        world.state.store.write(move |tables| tables.confirm_email(id, now)).await;
    confirmed.unwrap();
    world.clock.advance(SignedDuration::from_hours(7 * 24));
    let two = world.log_in("two").await;
    let owner = world.log_in("owner").await;
    assert_eq!(accept(&two, &token).await.refusal(), (400, "invalid_link"));
    assert_eq!(accept(&two, "nonsense").await.refusal(), (400, "invalid_link"));

    // A second one replaces the first, and a withdrawn one is void.
    let invitations = format!("{org}/invitations");
    let again = || world.post(&invitations, &owner, json!({ "email": "two@example.com" }));
    assert_eq!(again().await.status, 201);
    let first = invited_token(&world, "two@example.com").await;
    world.clock.advance(SignedDuration::from_secs(1));
    let second = again().await.json();
    let newer = invited_token(&world, "two@example.com").await;
    assert_eq!(accept(&two, &first).await.refusal(), (400, "invalid_link"));
    let path = format!("{invitations}/{}", text(&second["id"]));
    assert_eq!(world.get(&invitations, &owner).await.json().as_array().unwrap().len(), 1);
    assert_eq!(delete(&world, &path, &owner).await.status, 200);
    assert_eq!(accept(&two, &newer).await.refusal(), (400, "invalid_link"));
    assert_eq!(delete(&world, &path, &owner).await.status, 404);

    assert_eq!(again().await.status, 201);
    let token = invited_token(&world, "two@example.com").await;
    let joined = accept(&two, &token).await;
    assert_eq!((joined.status.as_u16(), &joined.json()["role"]), (200, &json!("org_member")));
    assert_eq!(accept(&two, &token).await.refusal(), (400, "invalid_link"), "single use");
    let member = again().await;
    assert_eq!((member.status.as_u16(), member.pointers()), (422, vec!["/email"]));
}

#[tokio::test]
async fn an_admins_invitations_end_with_their_role() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let admin = joins(&world, &owner, &org, "adam", json!({ "role": "org_admin" })).await;
    let body = json!({ "email": "two@example.com" });
    assert_eq!(world.post(&format!("{org}/invitations"), &admin, body).await.status, 201);
    let token = invited_token(&world, "two@example.com").await;
    let path = format!("{org}/members/{}", id_of(&world, &admin).await);
    assert_eq!(put(&world, &path, &owner, json!({ "role": "org_member" })).await.status, 200);
    let two = world.member("two").await;
    let late = world.post("/api/invitations/accept", &two, json!({ "token": token })).await;
    assert_eq!(late.refusal(), (400, "invalid_link"));
}

#[tokio::test]
async fn an_admin_manages_only_members_and_cannot_grant_admin() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let admin = joins(&world, &owner, &org, "adam", json!({ "role": "org_admin" })).await;
    let member = joins(&world, &owner, &org, "member", json!({})).await;
    let owner_path = format!("{org}/members/{}", id_of(&world, &owner).await);
    let admin_path = format!("{org}/members/{}", id_of(&world, &admin).await);
    let member_path = format!("{org}/members/{}", id_of(&world, &member).await);
    let role = |role: &str| json!({ "role": role });
    let invitations = format!("{org}/invitations");
    for refused in [
        put(&world, &owner_path, &admin, role("org_member")).await,
        put(&world, &admin_path, &admin, role("org_owner")).await,
        put(&world, &member_path, &admin, role("org_admin")).await,
        delete(&world, &owner_path, &admin).await,
        world
            .post(&invitations, &admin, json!({ "email": "a@b.example", "role": "org_owner" }))
            .await,
        world
            .post(&invitations, &admin, json!({ "email": "a@b.example", "role": "org_admin" }))
            .await,
        delete(&world, &org, &admin).await,
        world.post(&format!("{org}/take-over"), &admin, json!({})).await,
        put(&world, &admin_path, &member, role("org_member")).await,
        delete(&world, &admin_path, &member).await,
        world.post(&invitations, &member, json!({ "email": "a@b.example" })).await,
        world.get(&format!("{org}/activity"), &member).await,
    ] {
        assert_eq!(refused.refusal(), (403, "role_required"), "{refused:?}");
    }
    let members = world.get(&format!("{org}/members"), &member).await.json();
    let roles: Vec<&str> =
        members.as_array().unwrap().iter().map(|member| text(&member["role"])).collect();
    assert_eq!(roles, ["org_owner", "org_admin", "org_member"], "nothing has changed");
    assert_eq!(delete(&world, &member_path, &admin).await.status, 200);
    assert_eq!(world.get(&org, &member).await.refusal(), (404, "not_found"));
}

#[tokio::test]
async fn the_last_owner_or_payer_cannot_leave_until_replaced() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let two = joins(&world, &owner, &org, "two", json!({})).await;
    let own = format!("{org}/members/{}", id_of(&world, &owner).await);
    let others = format!("{org}/members/{}", id_of(&world, &two).await);
    let member = json!({ "role": "org_member" });
    assert_eq!(delete(&world, &own, &owner).await.refusal(), (409, "in_use"));
    assert_eq!(put(&world, &own, &owner, member.clone()).await.refusal(), (409, "in_use"));
    let promoted = put(&world, &others, &owner, json!({ "role": "org_owner" })).await;
    assert_eq!(promoted.status, 200);
    // There is another owner, who has not agreed to pay.
    assert_eq!(delete(&world, &own, &owner).await.refusal(), (409, "in_use"));
    assert_eq!(delete(&world, &own, &two).await.refusal(), (409, "in_use"));
    assert_eq!(put(&world, &own, &two, member).await.refusal(), (409, "in_use"));
    let body = json!({ "password": PASSWORD });
    let ended = world.post("/api/auth/delete-account", &owner, body.clone()).await;
    assert_eq!(ended.refusal(), (409, "in_use"), "others are in it");
    let taken = world.post(&format!("{org}/take-over"), &two, json!({})).await;
    assert_eq!(taken.json()["payerId"], id_of(&world, &two).await);
    assert_eq!(delete(&world, &own, &owner).await.status, 200, "leaves");
    // The last one cannot leave, but the organisation ends with the account.
    assert_eq!(delete(&world, &others, &two).await.refusal(), (409, "in_use"));
    assert_eq!(world.post("/api/auth/delete-account", &two, body).await.status, 200);
    assert_eq!(world.get(&org, &owner).await.status, 404);
    let again = world.post("/api/orgs", &owner, json!({ "name": "Acme" })).await;
    assert_eq!(again.status, 201, "the short name is free: {again:?}");
}

#[tokio::test]
async fn only_organisation_members_can_join_a_team() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let team = team(&world, &owner, &org, "Web").await;
    let stranger = world.member("stranger").await;
    let path = format!("{team}/members/{}", id_of(&world, &stranger).await);
    let viewer = json!({ "role": "viewer" });
    assert_eq!(put(&world, &path, &owner, viewer.clone()).await.refusal(), (404, "not_found"));
    assert_eq!(world.get(&team, &stranger).await.refusal(), (404, "not_found"));

    let id = team.rsplit('/').next().unwrap();
    let body = json!({ "teamId": id, "teamRole": "developer" });
    let dev = joins(&world, &owner, &org, "dev", body).await;
    assert_eq!(world.get(&team, &dev).await.json()["role"], "developer");
    let member = joins(&world, &owner, &org, "member", json!({})).await;
    assert_eq!(world.get(&team, &member).await.refusal(), (404, "not_found"), "not in the team");
    assert_eq!(world.get(&format!("{org}/teams"), &member).await.json(), json!([]));

    // Another organisation's team cannot be assigned.
    let theirs = super::orgs::org(&world, &stranger, "Other").await;
    let invite = json!({ "email": "a@b.example", "teamId": id });
    let refused = world.post(&format!("{theirs}/invitations"), &stranger, invite).await;
    assert_eq!((refused.status.as_u16(), refused.pointers()), (422, vec!["/teamId"]));

    let own = format!("{team}/members/{}", id_of(&world, &dev).await);
    assert_eq!(put(&world, &own, &dev, json!({ "role": "team_admin" })).await.status, 403);
    assert_eq!(delete(&world, &own, &dev).await.status, 200, "leaves");
    assert_eq!(world.get(&team, &dev).await.status, 404);
    let renamed = put(&world, &team, &owner, json!({ "name": "Site", "slug": "site" })).await;
    assert_eq!(renamed.json()["slug"], "site");
    assert_eq!(delete(&world, &team, &owner).await.status, 200);
    assert_eq!(world.get(&team, &owner).await.status, 404);
    let log = world.get(&format!("{org}/activity"), &owner).await.json();
    let acts: Vec<&str> =
        log.as_array().unwrap().iter().rev().map(|entry| text(&entry["action"])).collect();
    assert_eq!(
        acts,
        [
            "org_made",
            "team_made",
            "member_invited",
            "member_joined",
            "member_invited",
            "member_joined",
            "team_member_removed",
            "team_renamed",
            "team_deleted"
        ]
    );
}

#[tokio::test]
async fn an_account_is_limited_to_20_invitations_an_hour() {
    let world = World::with(|config| {
        config.rate_limits.invitations = crate::config::RateLimits::default().invitations;
    });
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let path = format!("{org}/invitations");
    for number in 0..20 {
        let body = json!({ "email": format!("a{number}@b.example") });
        assert_eq!(world.post(&path, &owner, body).await.status, 201);
    }
    let refused = world.post(&path, &owner, json!({ "email": "more@b.example" })).await;
    assert_eq!(refused.refusal(), (429, "rate_limited"));
}

/// Every entry of a list, fetched one by one.
async fn page_by_page(world: &World, path: &str, jwt: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut next = format!("{path}?limit=1");
    loop {
        let answer = world.get(&next, jwt).await;
        let page = answer.json();
        let page = page.as_array().unwrap_or_else(|| panic!("{answer:?}"));
        assert!(page.len() <= 1, "{answer:?}");
        entries.extend(page.clone());
        let Some(link) = answer.header("link").strip_suffix(">; rel=\"next\"") else { break };
        next = link.trim_start_matches('<').to_owned();
        assert!(next.starts_with(&format!("{path}?")), "{next}");
    }
    entries
}

#[tokio::test]
async fn paging_through_a_list_returns_the_whole_list() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    team(&world, &owner, &org, "Ops").await;
    let team = team(&world, &owner, &org, "Web").await;
    let two = joins(&world, &owner, &org, "two", json!({})).await;
    let member = id_of(&world, &two).await;
    for account in [id_of(&world, &owner).await, member] {
        let path = format!("{team}/members/{account}");
        assert_eq!(put(&world, &path, &owner, json!({ "role": "viewer" })).await.status, 200);
    }
    for name in ["one", "more"] {
        let body = json!({ "email": format!("{name}@example.org") });
        assert_eq!(world.post(&format!("{org}/invitations"), &owner, body).await.status, 201);
        let body = json!({ "name": name, "scopes": ["deployments:read"], "password": PASSWORD });
        assert_eq!(world.post(&format!("{team}/keys"), &owner, body).await.status, 201);
    }
    let lists = [
        "/api/orgs".to_owned(),
        format!("{org}/members"),
        format!("{org}/invitations"),
        format!("{org}/teams"),
        format!("{org}/activity"),
        "/api/teams".to_owned(),
        format!("{team}/members"),
        format!("{team}/keys"),
    ];
    for list in lists {
        let whole = world.get(&list, &owner).await;
        assert_eq!((whole.status.as_u16(), whole.header("link")), (200, ""), "{list}");
        let whole = whole.json().as_array().unwrap().clone();
        assert!(whole.len() >= 2, "{list}: {whole:?}");
        assert_eq!(page_by_page(&world, &list, &owner).await, whole, "{list}");
        for wrong in ["limit=0", "limit=101", "after=nothing"] {
            let refused = world.get(&format!("{list}?{wrong}"), &owner).await;
            assert_eq!(refused.refusal(), (422, "validation_failed"), "{list}?{wrong}");
        }
    }
}
