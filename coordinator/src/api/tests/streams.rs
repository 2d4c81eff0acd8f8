//! Event streams end when their reader's authorization does.

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use http::Request;
use http::header::AUTHORIZATION;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::keys::key;
use super::orgs::{delete, id_of, joins, org, put, team, text};
use crate::api::{router, scrape};
use crate::service::admin::{self, AdminContext};
use crate::testing::World;

const APPS: &str = "/api/deploy/apps";

/// A team's deployment, and a developer of that team who watches it.
struct Stage {
    world: World,
    owner: String,
    developer: String,
    /// Tokens of the developer's command line, and a key that the developer made.
    tokens: Value,
    key: (String, String),
    org: String,
    team: String,
    app: String,
}

/// The credential that a stream is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Cli,
    Key,
}

/// What revokes the authorization.
#[derive(Debug, Clone, Copy)]
enum Loss {
    KeyRevoked,
    KeyExpired,
    TokenRevoked,
    TokenExpired,
    LoginEnded,
    Suspended,
    LeftTheTeam,
    LeftTheOrg,
}

/// An open stream.
struct Events(BodyDataStream);

impl Events {
    async fn next(&mut self) -> Option<String> {
        let chunk = self.0.next().await?;
        Some(String::from_utf8(chunk.unwrap().to_vec()).unwrap())
    }

    /// The same; if nothing comes, time passes.
    async fn later(&mut self) -> Option<String> {
        tokio::time::pause();
        let next = self.next().await;
        tokio::time::resume();
        next
    }
}

impl Stage {
    async fn set() -> Self {
        let world = World::new();
        world.host(1, 16_384).await;
        let owner = world.member("owner").await;
        let org = org(&world, &owner, "Acme").await;
        let team = team(&world, &owner, &org, "Web").await;
        let id = team.rsplit('/').next().unwrap();
        let body = json!({ "teamId": id, "teamRole": "developer" });
        let developer = joins(&world, &owner, &org, "dev", body).await;
        let tokens = world.cli_tokens(&developer).await;
        let scopes = ["deployments:read", "deployments:write"];
        let key = key(&world, &developer, &team, &scopes).await;
        let body = json!({ "subdomain": "my-app", "image": "docker.io/library/nginx:latest",
            "tier": "buddo-starter" });
        let made = world.post(&format!("{APPS}?team_id={id}"), &key.1, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let app = format!("{APPS}/{}", text(&made.json()["deployment"]["id"]));
        Self { world, owner, developer, tokens, key, org, team, app }
    }

    /// A stream whose first event was read.
    async fn watch(&self, by: By) -> Events {
        let token = match by {
            By::Cli => text(&self.tokens["access_token"]),
            By::Key => &self.key.1,
        };
        let request = Request::get(format!("{}/events", self.app))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let answer = router::build(self.world.api_state()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut events = Events(answer.into_body().into_data_stream());
        assert!(events.next().await.unwrap().contains("\"status\":\"pending\""));
        events
    }

    async fn lose(&self, loss: Loss) {
        let Self { world, owner, developer, tokens, key, org, team, .. } = self;
        let member = async |of: &str| format!("{of}/members/{}", id_of(world, developer).await);
        let answer = match loss {
            Loss::KeyRevoked => delete(world, &format!("{team}/keys/{}", key.0), owner).await,
            Loss::TokenRevoked => {
                let body = json!({ "token": tokens["refresh_token"], "client_id": "buddo-cli" });
                world.post("/api/oauth/revoke", "", body).await
            }
            Loss::LoginEnded => world.post("/api/auth/logout", developer, json!({})).await,
            Loss::LeftTheTeam => delete(world, &member(team).await, owner).await,
            Loss::LeftTheOrg => delete(world, &member(org).await, owner).await,
            Loss::KeyExpired => {
                return world.clock.advance(SignedDuration::from_hours(90 * 24));
            }
            Loss::TokenExpired => return world.clock.advance(SignedDuration::from_hours(1)),
            Loss::Suspended => {
                let context = AdminContext {
                    store: world.state.store.clone(),
                    random: world.state.random.clone(),
                    now: world.clock_now(),
                    actor: None,
                };
                return drop(admin::suspend(&context, "dev@example.com", None).await.unwrap());
            }
        };
        assert_eq!(answer.status, 200, "{loss:?}: {answer:?}");
    }

    /// The team's owner changes the deployment.
    async fn change(&self) {
        let jwt = self.world.log_in("owner").await;
        let tokens = self.world.cli_tokens(&jwt).await;
        let stop = format!("{}/stop", self.app);
        let stopped = self.world.post(&stop, text(&tokens["access_token"]), json!({})).await;
        assert_eq!(stopped.status, 200, "{stopped:?}");
    }
}

#[rstest]
#[case::key_revoked(By::Key, Loss::KeyRevoked)]
#[case::key_expired(By::Key, Loss::KeyExpired)]
#[case::key_of_a_suspended_account(By::Key, Loss::Suspended)]
#[case::key_of_who_left_the_team(By::Key, Loss::LeftTheTeam)]
#[case::key_of_who_left_the_org(By::Key, Loss::LeftTheOrg)]
#[case::grant_revoked(By::Cli, Loss::TokenRevoked)]
#[case::token_expired(By::Cli, Loss::TokenExpired)]
#[case::login_ended(By::Cli, Loss::LoginEnded)]
#[case::suspended(By::Cli, Loss::Suspended)]
#[case::left_the_team(By::Cli, Loss::LeftTheTeam)]
#[case::left_the_org(By::Cli, Loss::LeftTheOrg)]
#[tokio::test]
async fn a_stream_ends_when_its_caller_loses_access(
    #[case] by: By,
    #[case] loss: Loss,
    #[values(true, false)] something_changes: bool,
) {
    let stage = Stage::set().await;
    let mut events = stage.watch(by).await;
    stage.lose(loss).await;
    if something_changes {
        stage.change().await;
        assert_eq!(events.next().await, None, "it sent what came after");
    } else {
        assert_eq!(events.later().await, None, "it outlived the next beat");
    }
}

#[rstest]
#[tokio::test]
async fn a_stream_continues_while_its_caller_has_access(#[values(By::Cli, By::Key)] by: By) {
    let stage = Stage::set().await;
    let mut events = stage.watch(by).await;
    // What is lost belongs to somebody else, or is not needed for reading.
    let role = json!({ "role": "viewer" });
    let member = format!("{}/members/{}", stage.team, id_of(&stage.world, &stage.developer).await);
    assert_eq!(put(&stage.world, &member, &stage.owner, role).await.status, 200);
    let other = if by == By::Key { Loss::TokenRevoked } else { Loss::KeyRevoked };
    stage.lose(other).await;
    for _ in 0..3 {
        assert_eq!(events.later().await.as_deref(), Some(": \n\n"));
    }
    stage.change().await;
    assert!(events.next().await.unwrap().contains("\"status\":\"stopped\""));
}

#[rstest]
#[tokio::test]
async fn an_idle_stream_reads_at_most_once_a_beat(#[values(By::Cli, By::Key)] by: By) {
    let stage = Stage::set().await;
    let mut events = stage.watch(by).await;
    // Each scrape is a read itself.
    let reads = async || {
        let text = scrape::text(&stage.world.state).await.unwrap();
        let name = "buddo_coordinator_store_transaction_seconds_count{kind=\"read\"} ";
        let count = text.lines().find_map(|line| line.strip_prefix(name));
        count.unwrap_or_else(|| panic!("{text}")).parse::<u64>().unwrap()
    };
    let before = reads().await;
    for _ in 0..4 {
        assert_eq!(events.later().await.as_deref(), Some(": \n\n"));
    }
    // What it may see is checked at each beat, and read only if somebody has written since. A key
    // is looked up each time.
    let expected = if by == By::Key { 4 } else { 0 };
    assert_eq!(reads().await - before - 1, expected);
}
