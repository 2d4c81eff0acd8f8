//! A coordinator with an account of each role; and for each request its own objects, tokens and
//! keys, so that no request sees another's changes.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use buddo_runtime::clock::Clock as _;
use buddo_shared::host_wire::renewal::Binding;
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::id::{AccountId, ApiKeyId, InvitationId, OrgId, TeamId};
use buddo_shared::model::secret::Secret;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::kinds::{CallerKind, Shows, Site, Who};
use crate::api::router;
use crate::auth::access::{DeployCheck, own_team};
use crate::auth::password::Password;
use crate::auth::token::api_key::ApiKeyText;
use crate::auth::token::jwt::Login;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::crypto::random::{SystemRandom, uuid};
use crate::domain::identity::{Email, KeyScope, KeyScopes, OrgRole, Scope, TeamRole, Username};
use crate::service::teams;
use crate::store::contract::{
    ApiKeyRow, Client, Grant, InvitationRow, LoginRow, NewAccount, OrgRow, TeamRow, Token,
    TokenKind,
};
use crate::store::{StoreError, Tables};
use crate::testing::{ISSUER, PASSWORD, World, deploys as deployments, request};

const APP: &str = "client_of_the_stage";
const BOTH: &[KeyScope] = &[KeyScope::DeploymentsRead, KeyScope::DeploymentsWrite];

pub(super) struct Stage {
    world: World,
    api: Router,
    hosts: Router,
    number: AtomicU64,
}

/// What one request is about.
struct Objects {
    org: OrgId,
    team: TeamId,
    key: ApiKeyId,
    invitation: InvitationId,
    login: Uuid,
    number: u64,
}

fn account(who: Who) -> AccountId {
    let number = Who::ALL.iter().position(|known| *known == who).unwrap();
    AccountId::new(Uuid::from_u128(1000 + number as u128))
}

/// The member that requests act on.
fn target() -> AccountId {
    AccountId::new(Uuid::from_u128(2000))
}

/// Another owner, who pays for the deployments.
fn payer() -> AccountId {
    AccountId::new(Uuid::from_u128(2001))
}

impl Stage {
    pub(super) async fn set() -> Self {
        let world = World::with(|config| {
            config.limits.deployments_per_account = 1_000_000;
            config.limits.deployments_per_tier = Some(1_000_000);
            config.rate_limits.denied = config.rate_limits.reads;
        });
        world.host(1, 1 << 40).await;
        let now = world.clock.now();
        let known = Password::parse(Secret::new(PASSWORD)).unwrap();
        let password = world.state.auth.hasher.choose(known, Vec::new()).await.unwrap();
        let people = Who::ALL.map(|who| (account(who), who.name()));
        write(&world, move |tables| {
            for (id, name) in people.into_iter().chain([(target(), "target"), (payer(), "payer")]) {
                let made = NewAccount {
                    id,
                    email: Email::parse(&format!("{name}@example.com")).unwrap(),
                    username: Username::parse(name).unwrap(),
                    password: password.clone(),
                    referral_code: name.to_owned(),
                    referred_by: None,
                    created_at: now,
                };
                tables.insert_account(&made)?;
                teams::make_own(tables, &made)?;
                tables.confirm_email(id, now)?;
            }
            tables.insert_client(&Client {
                id: Uuid::from_u128(3000),
                client_id: APP.to_owned(),
                owner: Some(account(Who::Owner)),
                secret: None,
                old_secret: None,
                name: "App".to_owned(),
                description: None,
                logo_url: None,
                website_url: None,
                redirect_uris: Vec::new(),
                scopes: Scope::all_of_them(),
                is_approved: true,
                device_flow: false,
                created_at: now,
            })
        })
        .await;
        let admin = account(Who::PlatformAdmin);
        // An administrator who enrolled codes long ago: every login since was made with one.
        let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
        let made = database
            .execute(
                "UPDATE accounts SET is_admin = 1, totp_secret = x'00', totp_enabled_at = 0
                 WHERE id = ?1",
                [admin.to_string()],
            )
            .unwrap();
        assert_eq!(made, 1);
        let (api, hosts) =
            (router::build(world.api_state()), router::build_for_hosts(world.api_state()));
        Self { world, api, hosts, number: AtomicU64::new(0) }
    }

    /// The status of one request.
    pub(super) async fn ask(&self, method: &str, path: &str, kind: &CallerKind) -> u16 {
        let objects = self.objects().await;
        let asked = self.path(method, path, &objects).await;
        let mut request = Request::builder().method(method).uri(asked);
        let body = match body(method, path, objects.number) {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        request = match kind.shows {
            Shows::Cookie(who, site) => {
                let origin = if site == Site::Ours { ISSUER } else { "https://evil.example" };
                let token = self.cookie(who).await;
                request.header(COOKIE, format!("session={token}")).header(ORIGIN, origin)
            }
            Shows::Certificate => request.extension(Binding([7; 32])),
            shows => match self.bearer(shows, &objects).await {
                Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
                None => request,
            },
        };
        let router = if path.starts_with("/v1/") { &self.hosts } else { &self.api };
        let answer = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        // The body is not read: an event stream's never ends.
        answer.status().as_u16()
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// A fresh organisation with a team, everybody in their roles, and the objects of requests.
    async fn objects(&self) -> Objects {
        let (now, number) = (self.world.clock.now(), self.next());
        let objects = Objects {
            org: OrgId::new(uuid(&SystemRandom)),
            team: TeamId::new(uuid(&SystemRandom)),
            key: ApiKeyId::new(uuid(&SystemRandom)),
            invitation: InvitationId::new(uuid(&SystemRandom)),
            login: uuid(&SystemRandom),
            number,
        };
        let Objects { org, team, key, invitation, login, .. } = objects;
        let owner = account(Who::Owner);
        write(&self.world, move |tables| {
            tables.insert_org(&OrgRow {
                id: org,
                name: format!("Org {number}"),
                slug: format!("org-{number}"),
                plan: "free".to_owned(),
                personal_of: None,
                payer: payer(),
                created_at: now,
            })?;
            let (name, slug) = ("Web".to_owned(), "web".to_owned());
            tables.insert_team(&TeamRow { id: team, org, name, slug, created_at: now })?;
            tables.set_org_role(org, owner, OrgRole::Owner, now)?;
            tables.set_org_role(org, payer(), OrgRole::Owner, now)?;
            tables.set_org_role(org, account(Who::OrgAdmin), OrgRole::Admin, now)?;
            let others = [Who::OrgMember, Who::TeamAdmin, Who::Developer, Who::Viewer];
            for member in others.map(account).into_iter().chain([target()]) {
                tables.set_org_role(org, member, OrgRole::Member, now)?;
            }
            for (member, role) in [
                (account(Who::TeamAdmin), TeamRole::Admin),
                (account(Who::Developer), TeamRole::Developer),
                (account(Who::Viewer), TeamRole::Viewer),
                (target(), TeamRole::Viewer),
            ] {
                tables.set_team_role(team, member, role, now)?;
            }
            tables.insert_api_key(&api_key(key, &fresh_key(), team, owner, BOTH, now))?;
            tables.insert_invitation(&InvitationRow {
                id: invitation,
                org,
                email: Email::parse("invited@example.com").unwrap(),
                role: OrgRole::Member,
                team: None,
                invited_by: owner,
                created_at: now,
                expires_at: now + SignedDuration::from_hours(1),
            })?;
            tables.insert_login(&login_of(login, owner, now), 1_000_000)
        })
        .await;
        objects
    }

    /// The path of a route about these objects.
    async fn path(&self, method: &str, path: &str, objects: &Objects) -> String {
        let mut asked = path
            .replace("{org_id}", &objects.org.to_string())
            .replace("{team_id}", &objects.team.to_string())
            .replace("{account_id}", &target().to_string())
            .replace("{key_id}", &objects.key.to_string())
            .replace("{invitation_id}", &objects.invitation.to_string())
            .replace("{client_id}", APP)
            .replace("{app_id}", &Uuid::from_u128(3000).to_string());
        if path.starts_with("/api/deploy/apps/{id}") {
            let check = DeployCheck::of(account(Who::Owner));
            let name = format!("app-{}", objects.number);
            let (state, team) = (&self.world.state, Some(objects.team));
            let made = deployments::create(state, check, team, request(&name), None).await;
            asked = asked.replace("{id}", &made.unwrap().deployment.id);
        }
        if path.contains("{app_id}") {
            self.access(APP, account(Who::Owner), Scope::ProfileRead).await;
        }
        if path == "/api/deploy/apps" {
            asked = format!("{path}?team_id={}", objects.team);
        }
        if path.starts_with("/api/admin/") {
            // Changing it would affect later requests.
            asked = asked.replace(APP, "unknown");
        }
        if (method, path) == ("DELETE", "/api/oauth/apps/{client_id}") {
            // It would end the tokens of later requests.
            asked = asked.replace(APP, "buddo-cli");
        }
        asked.replace("{id}", &objects.login.to_string())
    }

    /// The bearer token that a kind of principal sends.
    async fn bearer(&self, shows: Shows, objects: &Objects) -> Option<String> {
        Some(match shows {
            Shows::Nothing | Shows::Cookie(..) | Shows::Certificate => return None,
            Shows::Text(text) => text.to_owned(),
            Shows::Jwt(who) => self.jwt(who).await,
            Shows::App(scope) => self.access(APP, account(Who::Owner), scope).await,
            Shows::Cli(who, scope) => self.access(CLI_CLIENT_ID, account(who), scope).await,
            Shows::Key(who, scopes) => self.key(objects.team, who, scopes, true).await,
            Shows::OtherTeamsKey => {
                self.key(own_team(account(Who::Stranger)), Who::Stranger, BOTH, true).await
            }
            Shows::ExpiredKey => self.key(objects.team, Who::Owner, BOTH, false).await,
        })
    }

    async fn jwt(&self, who: Who) -> String {
        let (now, id) = (self.world.clock.now(), uuid(&SystemRandom));
        let row = login_of(id, account(who), now);
        write(&self.world, move |tables| tables.insert_login(&row, 1_000_000)).await;
        let login = Login { account: account(who), epoch: 0, session: id };
        self.world.state.auth.jwt.issue(login, now).unwrap().expose().to_owned()
    }

    async fn cookie(&self, who: Who) -> String {
        let (now, id) = (self.world.clock.now(), uuid(&SystemRandom));
        let token = PlainToken::generate(PlainTokenKind::WebSession, &SystemRandom);
        let (hash, row) = (token.hashed(), login_of(id, account(who), now));
        write(&self.world, move |tables| {
            tables.insert_login(&row, 1_000_000)?;
            tables.insert_web_session(&hash, id)
        })
        .await;
        token.into_secret().expose().to_owned()
    }

    async fn access(&self, client_id: &str, account: AccountId, scope: Scope) -> String {
        let (now, id) = (self.world.clock.now(), uuid(&SystemRandom));
        let token = PlainToken::generate(PlainTokenKind::Access, &SystemRandom);
        let (hash, client_id) = (token.hashed(), client_id.to_owned());
        write(&self.world, move |tables| {
            let scopes: crate::domain::identity::Scopes = [scope].into_iter().collect();
            tables.insert_grant(&Grant {
                id,
                client_id: client_id.clone(),
                account,
                scopes: scopes.clone(),
                created_at: now,
                revoked_at: None,
            })?;
            tables.insert_token(&Token {
                hash,
                kind: TokenKind::Access,
                grant: id,
                scopes,
                issued_at: now,
                expires_at: now + SignedDuration::from_hours(1),
                used_at: None,
            })
        })
        .await;
        token.into_secret().expose().to_owned()
    }

    async fn key(&self, team: TeamId, who: Who, scopes: &[KeyScope], holds: bool) -> String {
        let now = self.world.clock.now();
        let text = fresh_key();
        let id = ApiKeyId::new(uuid(&SystemRandom));
        let mut row = api_key(id, &text, team, account(who), scopes, now);
        if !holds {
            row.expires_at = now;
        }
        write(&self.world, move |tables| tables.insert_api_key(&row)).await;
        text.into_secret().expose().to_owned()
    }
}

async fn write<F>(world: &World, work: F)
where
    F: Fn(&mut dyn Tables) -> Result<(), StoreError> + Send + 'static,
{
    let written: Result<(), StoreError> = world.state.store.write(work).await;
    written.unwrap();
}

fn fresh_key() -> ApiKeyText {
    ApiKeyText::generate(&SystemRandom)
}

fn api_key(
    id: ApiKeyId,
    text: &ApiKeyText,
    team: TeamId,
    account: AccountId,
    scopes: &[KeyScope],
    now: Timestamp,
) -> ApiKeyRow {
    ApiKeyRow {
        id,
        hash: text.hashed(),
        team,
        account,
        name: "key".to_owned(),
        hint: text.hint(),
        scopes: scopes.iter().copied().collect::<KeyScopes>(),
        created_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        last_used_at: None,
    }
}

fn login_of(id: Uuid, account: AccountId, now: Timestamp) -> LoginRow {
    LoginRow {
        id,
        account,
        created_at: now,
        last_used_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        address: "192.0.2.1".to_owned(),
        user_agent: None,
    }
}

/// A body with which the request is valid; where none is listed, an admitted principal is told that
/// it is missing.
fn body(method: &str, path: &str, number: u64) -> Option<Value> {
    Some(match (method, path) {
        ("POST", "/api/deploy/apps") => {
            serde_json::to_value(request(&format!("new-{number}"))).unwrap()
        }
        ("POST", "/api/orgs") => json!({ "name": format!("New {number}") }),
        ("PUT", "/api/orgs/{org_id}" | "/api/teams/{team_id}") => json!({ "name": "Other" }),
        ("PUT", "/api/orgs/{org_id}/members/{account_id}") => json!({ "role": "org_admin" }),
        ("POST", "/api/orgs/{org_id}/invitations") => json!({ "email": "new@example.com" }),
        ("POST", "/api/invitations/accept") => json!({ "token": "unknown" }),
        ("POST", "/api/orgs/{org_id}/teams") => json!({ "name": "New" }),
        ("PUT", "/api/teams/{team_id}/members/{account_id}") => json!({ "role": "viewer" }),
        ("POST", "/api/teams/{team_id}/keys") => {
            json!({ "name": "new", "scopes": ["deployments:read", "deployments:write"],
                "password": PASSWORD })
        }
        _ => return None,
    })
}
