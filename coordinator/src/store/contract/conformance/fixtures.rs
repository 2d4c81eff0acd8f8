//! What the cases store.

use std::num::NonZeroU16;

use buddo_shared::host_wire::manifest::{RunState, Strategy};
use buddo_shared::host_wire::report::HostStatus;
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::{
    AccountId, ApiKeyId, AppId, DeploymentId, Generation, HostId, InvitationId, OrgId, Revision,
    TeamId,
};
use buddo_shared::model::limits::Limits;
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::deployment::Deployment;
use crate::domain::failure::Failure;
use crate::domain::identity::{Email, HashedToken, OrgRole, StoredHash, Username};
use crate::domain::lifecycle::{Event, Lifecycle};
use crate::domain::revision::RevisionRecord;
use crate::domain::service::{Service, Services};
use crate::store::contract::{
    ApiKeyRow, Client, Grant, Host, HostIdentity, InvitationRow, JoinTokenRow, LoginRow,
    NewAccount, OrgRow, Result, SealedEnvironments, TeamRow, Tier, Token, TokenKind,
};
use crate::store::{Store, StoreError, Tables};

pub(in crate::store) async fn write<T: Send + 'static>(
    store: &Store,
    work: impl Fn(&mut dyn Tables) -> Result<T> + Send + 'static,
) -> T {
    store.write(work).await.unwrap()
}

pub(in crate::store) async fn read<T: Send + 'static>(
    store: &Store,
    work: impl Fn(&dyn Tables) -> Result<T> + Send + 'static,
) -> T {
    store.read(work).await.unwrap()
}

/// Whether the database refuses `work`, on its own account.
pub(in crate::store) async fn refuses(
    store: &Store,
    work: impl Fn(&mut dyn Tables) -> Result<()> + Send + 'static,
) -> bool {
    matches!(store.write(work).await, Err(StoreError::Operation { .. }))
}

pub(in crate::store) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(in crate::store) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + n)
}

pub(in crate::store) fn person(n: u128) -> AccountId {
    AccountId::new(uuid(n))
}

pub(in crate::store) fn org_id(n: u128) -> OrgId {
    OrgId::new(uuid(n))
}

pub(in crate::store) fn team_id(n: u128) -> TeamId {
    TeamId::new(uuid(n))
}

pub(in crate::store) fn host_id(n: u128) -> HostId {
    HostId::new(uuid(n))
}

pub(in crate::store) fn app(n: u128) -> DeploymentId {
    DeploymentId::new(uuid(n))
}

pub(in crate::store) fn hash(text: &str) -> HashedToken {
    HashedToken::of(text)
}

pub(in crate::store) fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

pub(in crate::store) fn account(n: u128) -> NewAccount {
    NewAccount {
        id: person(n),
        email: email(&format!("p{n}@example.com")),
        username: Username::parse(&format!("person{n}")).unwrap(),
        password: StoredHash::from_stored("$".to_owned()),
        referral_code: format!("CODE{n}"),
        referred_by: None,
        created_at: at(0),
    }
}

pub(in crate::store) fn org(n: u128) -> OrgRow {
    OrgRow {
        id: org_id(n),
        name: format!("Org {n}"),
        slug: format!("org-{n}"),
        plan: "free".to_owned(),
        personal_of: None,
        payer: person(1),
        created_at: at(0),
    }
}

pub(in crate::store) fn team(n: u128, org: u128) -> TeamRow {
    TeamRow {
        id: team_id(n),
        org: org_id(org),
        name: format!("Team {n}"),
        slug: format!("team-{n}"),
        created_at: at(0),
    }
}

/// Stores person 1 with organisation 1 and team 1.
pub(in crate::store) fn settle(tables: &mut dyn Tables) -> Result<()> {
    tables.insert_account(&account(1))?;
    tables.insert_org(&org(1))?;
    tables.set_org_role(org_id(1), person(1), OrgRole::Owner, at(0))?;
    tables.insert_team(&team(1, 1))
}

pub(in crate::store) fn host(n: u128) -> Host {
    Host {
        id: host_id(n),
        name: format!("host-{n}"),
        address: "127.0.0.1:1".to_owned(),
        sealing_key: OpeningKey::generate().unwrap().1,
        joined_at: at(0),
        wanted: Generation { epoch: 0, generation: 0 },
        acknowledged: None,
        report_seq: 0,
        status: None,
        last_seen: None,
        unreachable_since: None,
        refusal: None,
        max_memory_mb: None,
        flooded_at: None,
        identity: HostIdentity::default(),
    }
}

pub(in crate::store) fn status(memory_mb: u64) -> HostStatus {
    HostStatus {
        agent_version: "1".to_owned(),
        podman_version: None,
        caddy_version: None,
        document: None,
        stale: false,
        memory_mb,
        allocatable_mb: None,
        cpu_millicores: 4000,
        warnings: Vec::new(),
        lacks: None,
    }
}

/// Stores a host that has room.
pub(in crate::store) fn join(tables: &mut dyn Tables, n: u128) -> Result<()> {
    tables.upsert_host(&host(n))?;
    tables.set_host_status(host_id(n), &status(64 * 1024))
}

/// A deployment of person 1 and team 1 on host 1.
pub(in crate::store) fn deployment(tables: &dyn Tables, n: u128) -> Result<Deployment> {
    Ok(Deployment {
        id: app(n),
        app_id: AppId::new(uuid(n)),
        account: person(1),
        team: Some(team_id(1)),
        tier_id: tables.tiers()?.remove(0).id,
        host: host_id(1),
        subdomain: format!("app-{n}").parse().unwrap(),
        custom_domain: None,
        lifecycle: Lifecycle::NEW,
        run: RunState::Running,
        revision: Revision::FIRST,
        serving: None,
        container_name: format!("app-{n}"),
        health: None,
        last_health_check: None,
        failure: None,
        trouble: None,
        held: None,
        restarts: 0,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 64 },
        billing_status: None,
        deployed_at: None,
        stopped_at: None,
        inserted_at: at(0),
    })
}

pub(in crate::store) fn revision(number: u32) -> RevisionRecord {
    RevisionRecord {
        number: Revision::new(number),
        services: Services::single(Service {
            name: ServiceName::APP,
            introduced: Revision::new(number),
            replicas: NonZeroU16::MIN,
            image: "docker.io/library/nginx:latest".parse().unwrap(),
            digest: None,
            port: Port::DEFAULT,
            probe: Probe::default(),
            strategy: Strategy::Rolling,
        }),
        domains: Vec::new(),
        rollback_of: None,
        created_at: at(0),
        live_at: None,
        failure: None,
    }
}

/// The environment of the one service of [`revision`].
pub(in crate::store) fn envs(sealed: &[u8]) -> SealedEnvironments {
    [(ServiceName::APP, sealed.to_vec())].into()
}

/// Stores deployments `numbers` of [`settle`]'s team on host 1.
pub(in crate::store) fn deploy(tables: &mut dyn Tables, numbers: &[u128]) -> Result<()> {
    for n in numbers {
        let deployment = deployment(tables, *n)?;
        tables.insert_deployment(&deployment)?;
    }
    Ok(())
}

pub(in crate::store) fn destroy(tables: &mut dyn Tables, n: u128) -> Result<()> {
    let mut lifecycle = tables.deployment(app(n))?.unwrap().lifecycle;
    lifecycle.apply(Event::Destroy).unwrap();
    tables.set_destroyed(app(n), lifecycle, at(9))
}

pub(in crate::store) fn failure(code: &str) -> Failure {
    Failure::new(code, "cause", "fix")
}

pub(in crate::store) fn tier(slug: &str) -> Tier {
    Tier {
        id: format!("tier-{slug}"),
        slug: slug.parse().unwrap(),
        name: slug.to_owned(),
        payment_method: "buddo_points".to_owned(),
        monthly_cost_points: Some(1),
        monthly_cost_sats: None,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 64 },
        custom_domain_allowed: false,
        monthly_stipend_points: 0,
        ad_reach_multiplier: 1.5,
        max_per_account: None,
        open_to_all: false,
    }
}

pub(in crate::store) fn login(n: u128, last_used: i64) -> LoginRow {
    LoginRow {
        id: uuid(n),
        account: person(1),
        created_at: at(0),
        last_used_at: at(last_used),
        expires_at: at(1000),
        address: "127.0.0.1".to_owned(),
        user_agent: None,
    }
}

pub(in crate::store) fn key(n: u128, created: i64) -> ApiKeyRow {
    ApiKeyRow {
        id: ApiKeyId::new(uuid(n)),
        hash: hash(&format!("key {n}")),
        team: team_id(1),
        account: person(1),
        name: format!("Key {n}"),
        hint: "hint".to_owned(),
        scopes: "deployments:read".parse().unwrap(),
        created_at: at(created),
        expires_at: at(1000),
        last_used_at: None,
    }
}

pub(in crate::store) fn invitation(n: u128, created: i64) -> InvitationRow {
    InvitationRow {
        id: InvitationId::new(uuid(n)),
        org: org_id(1),
        email: email(&format!("i{n}@example.com")),
        role: OrgRole::Member,
        team: None,
        invited_by: person(1),
        created_at: at(created),
        expires_at: at(1000),
    }
}

pub(in crate::store) fn client(n: u128, created: i64) -> Client {
    Client {
        id: uuid(n),
        client_id: format!("client_{n}"),
        owner: Some(person(1)),
        secret: None,
        old_secret: None,
        name: format!("App {n}"),
        description: None,
        logo_url: None,
        website_url: None,
        redirect_uris: Vec::new(),
        scopes: "profile:read".parse().unwrap(),
        is_approved: true,
        device_flow: true,
        created_at: at(created),
    }
}

pub(in crate::store) fn grant(n: u128, client: &str, created: i64) -> Grant {
    Grant {
        id: uuid(n),
        client_id: client.to_owned(),
        account: person(1),
        scopes: "profile:read".parse().unwrap(),
        created_at: at(created),
        revoked_at: None,
    }
}

pub(in crate::store) fn token(n: u128, grant: u128, expires: i64) -> Token {
    Token {
        hash: hash(&format!("token {n}")),
        kind: TokenKind::Access,
        grant: uuid(grant),
        scopes: "profile:read".parse().unwrap(),
        issued_at: at(i64::try_from(n).unwrap()),
        expires_at: at(expires),
        used_at: None,
    }
}

pub(in crate::store) fn join_token(n: u8) -> JoinTokenRow {
    JoinTokenRow {
        hash: [n; 32],
        name: format!("host-{n}"),
        max_memory_mb: None,
        expires_at: at(1000),
    }
}
