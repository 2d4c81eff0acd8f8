//! Create: all refusals come before the one transaction ends.
//!
//! A deployment whose first deploy failed, so that it never served, reserves its name for its own
//! team: creating one with that name replaces it.

use std::num::NonZeroU16;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{AccountId, AppId, DeploymentId, HostId, Revision, TeamId};
use buddo_shared::model::name::{HostName, Subdomain};
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use buddo_shared::model::spec::AppSpec;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;
use serde_json::json;

use super::act::{DESTROY, carry_out, take_away};
use super::error::DeployError;
use super::{announce, owned_state, refuse_closed_tier, refuse_unproven, view};
use crate::auth::access::{DeployCheck, DeployTarget};
use crate::config::Config;
use crate::crypto::random;
use crate::domain::capacity::Demand;
use crate::domain::deployment::Deployment;
use crate::domain::encryption::EncryptionContext;
use crate::domain::lifecycle::Lifecycle;
use crate::domain::revision::RevisionRecord;
use crate::domain::service::{self, Service};
use crate::service::audit;
use crate::service::deployments::idempotency::{self, Asked, idempotent};
use crate::service::deployments::placement;
use crate::service::deployments::view::Shown;
use crate::state::{AppState, Services};
use crate::store::Tables;
use crate::store::contract::{Action, AuditStatus, Counts, Tier};

/// Creates a deployment, or returns the result of the first request with the same key.
pub async fn create(
    state: &AppState,
    check: DeployCheck,
    team: Option<TeamId>,
    spec: AppSpec,
    asked: Option<Asked>,
) -> Result<Shown, DeployError> {
    // Slow work that does not need the database is done before the transaction, which blocks all
    // other writers.
    let asked = asked.map(|Asked { key, body }| (key, state.vault.fingerprint(&body)));
    let new = New::of(state, spec)?;
    let services = owned_state(state);
    let (shown, made) = state
        .store
        .write(move |tables| {
            // The earlier answer is only for callers that still have permission, and for the same
            // team.
            let target = check.target(tables, team)?;
            let asked = asked.as_ref().map(|(key, body)| {
                let of_team = [&target.team.as_uuid().as_bytes()[..], body].concat();
                let hash = services.vault.fingerprint(&of_team);
                idempotency::Request { account: check.actor(), key: key.clone(), hash }
            });
            let work = |tables: &mut dyn Tables| make(tables, &services, check, target, &new);
            idempotent(tables, &services, asked.as_ref(), work)
        })
        .await?;
    if let Some(Made { replaced }) = made {
        announce(state, shown.deployment.host, shown.deployment.id);
        if let Some((host, id)) = replaced {
            announce(state, host, id);
            state.live.forget(id);
        }
    }
    Ok(shown)
}

/// The deployment to create, with its environment already encrypted.
struct New {
    id: DeploymentId,
    spec: AppSpec,
    env: Option<(Secret, Vec<u8>)>,
}

impl New {
    fn of(services: &Services, spec: AppSpec) -> Result<Self, DeployError> {
        let id = DeploymentId::new(random::uuid(&*services.random));
        let env = (!spec.env.is_empty()).then(|| spec.env.to_plain_json());
        let context = context_of(id);
        let seal = |env: Secret| Ok::<_, DeployError>((services.vault.seal(context, &env)?, env));
        let env = env.map(seal).transpose()?.map(|(sealed, env)| (env, sealed));
        Ok(Self { id, spec, env })
    }
}

/// The result of the transaction.
struct Made {
    /// The deployment it replaced.
    replaced: Option<(HostId, DeploymentId)>,
}

/// Checks what only the database knows, and stores deployment, revision, audit entry and
/// generation.
fn make(
    tables: &mut dyn Tables,
    services: &Services,
    check: DeployCheck,
    target: DeployTarget,
    new: &New,
) -> Result<(Shown, Made), DeployError> {
    let New { id, spec, env } = new;
    let (now, id) = (services.clock.now(), *id);
    refuse_unproven(tables, [check.actor(), target.payer])?;
    let tier =
        tables.tier(&spec.tier)?.ok_or_else(|| DeployError::TierNotFound(spec.tier.clone()))?;
    refuse_closed_tier(tables, &tier.id, target.payer)?;
    let images = &services.config.deploy.images;
    images.check(&spec.image).map_err(|error| DeployError::field("/image", error))?;
    let replaced = replace_failed(tables, services, check, target, &spec.subdomain)?;
    check_names(tables, services, spec, &tier)?;
    check_limits(tables, services, target.payer, &tier)?;
    let env_bytes = env.as_ref().map_or(0, |(env, _)| env.expose().len() as u64);
    let demand = Demand { memory_mb: tier.limits.memory_mb.into(), env_bytes };
    let overcommit = services.config.limits.memory_overcommit;
    let search = placement::Search { account: target.payer, demand, overcommit, now, from: None };
    let host = placement::choose(tables, search)?;
    let app_id = match tables.app_of(target.payer, &spec.subdomain)? {
        Some(app) => app,
        None => AppId::new(random::uuid(&*services.random)),
    };
    let deployment = deployment(id, app_id, target, host, spec, &tier, now);
    let seal = |(env, sealed): &(Secret, Vec<u8>)| {
        services.vault.seal_again(context_of(id), env, sealed.clone())
    };
    let env = env.as_ref().map(seal).transpose()?;
    let envs = env.into_iter().map(|env| (ServiceName::APP, env)).collect();
    let revision = RevisionRecord {
        number: Revision::FIRST,
        services: service::Services::single(app(spec)),
        domains: spec.custom_domain.iter().cloned().collect(),
        rollback_of: None,
        created_at: now,
        live_at: None,
        failure: None,
    };
    tables.insert_deployment(&deployment)?;
    tables.insert_revision(id, &revision, &envs)?;
    let created = audit::of_operator(services, id, Action::Create, check, None);
    tables.insert_audit(&created)?;
    let deploy = audit::entry(services, id, Action::Deploy, AuditStatus::Pending, None);
    tables.insert_audit(&deploy)?;
    tables.bump_generation(host)?;
    Ok((view::deployment(tables, services, deployment)?, Made { replaced }))
}

/// The one service of an app that is a single container.
fn app(spec: &AppSpec) -> Service {
    Service {
        name: ServiceName::APP,
        introduced: Revision::FIRST,
        replicas: NonZeroU16::MIN,
        image: spec.image.clone(),
        digest: spec.image.digest().cloned(),
        port: spec.port,
        probe: Probe::default(),
        strategy: spec.strategy,
    }
}

/// What its environment is bound to.
const fn context_of(id: DeploymentId) -> EncryptionContext {
    EncryptionContext::Environment(id, Revision::FIRST, ServiceName::APP)
}

/// Destroys the deployment that holds the name if it is the team's own and never served: creating
/// one with that name is meant to repair it. A later refusal undoes this, since it is one
/// transaction.
fn replace_failed(
    tables: &mut dyn Tables,
    services: &Services,
    check: DeployCheck,
    target: DeployTarget,
    subdomain: &Subdomain,
) -> Result<Option<(HostId, DeploymentId)>, DeployError> {
    let holder = match tables.deployment_named(subdomain)? {
        Some(id) => tables.deployment(id)?,
        None => None,
    };
    let Some(holder) = holder else { return Ok(None) };
    if holder.team != Some(target.team) || !holder.failed_at_first() {
        return Ok(None);
    }
    let destroyed =
        carry_out(tables, services, check, holder.id, DESTROY, |tables, services, d| {
            take_away(tables, services.clock.now(), d)?;
            Ok(Some(json!({ "cause": "its first deploy failed; another of its name replaces it" })))
        })?;
    Ok(Some((destroyed.host, destroyed.id)))
}

fn check_names(
    tables: &dyn Tables,
    services: &Services,
    spec: &AppSpec,
    tier: &Tier,
) -> Result<(), DeployError> {
    if tables.subdomain_taken(&spec.subdomain)? {
        return Err(DeployError::field("/subdomain", "is taken; choose another name"));
    }
    let Some(domain) = &spec.custom_domain else { return Ok(()) };
    if !tier.custom_domain_allowed {
        let detail = format!(
            "is not possible on the tier {}; leave it out, or choose a tier with \
             custom_domain_allowed",
            tier.slug
        );
        return Err(DeployError::field("/custom_domain", detail));
    }
    if is_ours(&services.config, domain) {
        return Err(DeployError::field(
            "/custom_domain",
            "belongs to the platform; use a domain of your own, or leave it out: the app is \
             served at its subdomain anyway",
        ));
    }
    if tables.custom_domain_taken(domain)? {
        return Err(DeployError::field(
            "/custom_domain",
            "is bound to another deployment; destroy that one first, or use another name",
        ));
    }
    Ok(())
}

/// Whether `domain` is in the platform's zone or is the API's own name: bound to an app, it would
/// take visitors from another app, or credentials from the platform.
fn is_ours(config: &Config, domain: &HostName) -> bool {
    let url = config.api.public_url();
    let public = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let public = public.split(['/', ':']).next().unwrap_or_default();
    let named = |name: &str| name.eq_ignore_ascii_case(domain.as_str());
    domain.is_within(&config.zone)
        || named(public)
        || config.api.names.iter().any(|name| named(name))
}

/// Failed first deploys do not count, up to as many as the limit itself.
pub(super) fn check_limits(
    tables: &dyn Tables,
    services: &Services,
    account: AccountId,
    tier: &Tier,
) -> Result<(), DeployError> {
    let limits = &services.config.limits;
    let Counts { in_all, on_tier } = tables.count_deployments(account, &tier.id)?;
    let limit = limits.deployments_per_account;
    if in_all.against(limit) >= limit {
        return Err(DeployError::LimitReached { limit, of: "of this account".to_owned() });
    }
    match limits.deployments_per_tier.or(tier.max_per_account) {
        Some(limit) if on_tier.against(limit) >= limit => {
            let of = format!("on the tier {}", tier.slug);
            Err(DeployError::LimitReached { limit, of })
        }
        _ => Ok(()),
    }
}

fn deployment(
    id: DeploymentId,
    app_id: AppId,
    target: DeployTarget,
    host: HostId,
    spec: &AppSpec,
    tier: &Tier,
    now: Timestamp,
) -> Deployment {
    let suffix = &id.as_uuid().simple().to_string()[..6];
    Deployment {
        id,
        app_id,
        account: target.payer,
        team: Some(target.team),
        tier_id: tier.id.clone(),
        host,
        subdomain: spec.subdomain.clone(),
        custom_domain: spec.custom_domain.clone(),
        lifecycle: Lifecycle::NEW,
        run: RunState::Running,
        revision: Revision::FIRST,
        serving: None,
        container_name: format!("{}-{suffix}", spec.subdomain),
        health: None,
        last_health_check: None,
        failure: None,
        trouble: None,
        held: None,
        restarts: 0,
        limits: tier.limits,
        billing_status: None,
        deployed_at: None,
        stopped_at: None,
        inserted_at: now,
    }
}
