//! How the coordinator's database performs when large: 100,000 deployments on
//! 5,000 hosts, a million links of the audit chain, 100,000 grants.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use buddo_coordinator::auth::access::policy::{Admitted, Rule};
use buddo_coordinator::auth::access::{DeployCheck, Principal, Right};
use buddo_coordinator::auth::password::Cost;
use buddo_coordinator::auth::token::{PlainToken, PlainTokenKind};
use buddo_coordinator::config::Config;
use buddo_coordinator::crypto::random::SystemRandom;
use buddo_coordinator::crypto::vault::Vault;
use buddo_coordinator::daemon;
use buddo_coordinator::domain::encryption::EncryptionContext;
use buddo_coordinator::service::deployments;
use buddo_coordinator::service::master_key::{Rotation, Step};
use buddo_coordinator::state::AppState;
use buddo_coordinator::store::StoreError;
use buddo_coordinator::store::contract::{Action, AuditStatus, NewAudit};
use buddo_runtime::clock::{Clock as _, SystemClock};
use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::{AccountId, DeploymentId, Revision};
use buddo_shared::model::secret::Secret;
use buddo_shared::model::spec::AppSpec;
use buddo_shared::model::workload::ServiceName;
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{ms, sheet};

const DEPLOYMENTS: u32 = 100_000;
/// Batch size as in the coordinator's pruning.
const PRUNED: u32 = 500;
/// Batch size as in the coordinator's purging.
const PURGED: u32 = 100;

const CONFIG: &str = "
    zone = 'buddocloud.com'
    [limits]
    deployments_per_account = 1000000
    deployments_per_tier = 1000000
";

pub(super) async fn measure() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    let mut config: Config = toml::from_str(CONFIG)?;
    config.state_dir = directory.path().join("state");
    let cost = Cost { memory_kib: 8, passes: 1 };
    let clock = Arc::new(SystemClock);
    let state = daemon::assemble(config.clone(), clock, Arc::new(SystemRandom), cost)?;
    fill(&config.database(), &state.vault)?;
    creates(&state).await?;
    deploys_that_end(&state).await?;
    prunes(&state).await?;
    purges(&state).await?;
    rotation(&state).await
}

fn id(n: u32) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(n))
}

fn fill(path: &Path, vault: &Vault) -> anyhow::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    let key = serde_json::to_value(OpeningKey::generate()?.1)?;
    let key = key.as_str().context("a sealing key is not text")?;
    let now = SystemClock.now().as_millisecond();
    let sql = include_str!("fill.sql").replace(":sealing_key", &format!("'{key}'"));
    let transaction = connection.transaction()?;
    transaction.execute_batch(&sql.replace(":now", &now.to_string()))?;
    let env = Secret::new(format!(r#"{{"KEY":"{}"}}"#, "x".repeat(200)));
    let mut revision = transaction
        .prepare("INSERT INTO revisions (deployment_id, number, created_at) VALUES (?1, 1, 0)")?;
    let mut service = transaction.prepare(
        "INSERT INTO services (deployment_id, revision, name, introduced, public, replicas, image,
             port, env, probe, strategy)
         VALUES (?1, 1, 'app', 1, 1, 1, 'docker.io/library/nginx:latest', 8000, ?2, ?3, 'rolling')",
    )?;
    let probe = serde_json::to_string(&buddo_shared::model::probe::Probe::default())?;
    for n in 0..DEPLOYMENTS {
        let (id, first) = (DeploymentId::new(id(n)), Revision::FIRST);
        let context = EncryptionContext::Environment(id, first, ServiceName::APP);
        revision.execute([id.to_string()])?;
        service.execute(params![id.to_string(), vault.seal(context, &env)?, probe])?;
    }
    drop((revision, service));
    transaction.commit()?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

/// The account by its command line.
fn operator(n: u32) -> anyhow::Result<DeployCheck> {
    let principal = Principal::Client {
        account: AccountId::new(id(n)),
        scopes: "deploy:manage".parse()?,
        is_cli: true,
        token: PlainToken::generate(PlainTokenKind::Access, &SystemRandom).hashed(),
    };
    match Rule::Deploy(Right::Write).admit(principal) {
        Ok(Admitted::Deploy(authorization)) => Ok(authorization.check()),
        other => bail!("the operator is not admitted: {other:?}"),
    }
}

async fn create(state: &AppState, n: u32) -> anyhow::Result<Duration> {
    let request = CreateDeployment {
        subdomain: Some(format!("created-{n}")),
        image: Some("docker.io/library/nginx:latest".to_owned()),
        tier: Some("buddo-starter".to_owned()),
        ..CreateDeployment::default()
    };
    let began = Instant::now();
    let spec = AppSpec::parse(request).map_err(|errors| anyhow!("{errors:?}"))?;
    deployments::create(state, operator(n % 2000)?, None, spec, None).await?;
    Ok(began.elapsed())
}

/// `count` creates, some concurrent; how long each took, and all of them.
async fn create_some(
    state: &AppState,
    from: u32,
    count: u32,
    at_once: u32,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let began = Instant::now();
    let lanes = (0..at_once).map(async |lane| {
        let mut took = Vec::new();
        for n in (from + lane..from + count).step_by(at_once as usize) {
            took.push(create(state, n).await?);
        }
        anyhow::Ok(took)
    });
    let took = try_join_all(lanes).await?.concat();
    Ok((took, began.elapsed()))
}

async fn creates(state: &AppState) -> anyhow::Result<()> {
    create_some(state, 0, 4, 4).await?;
    let (mut took, _) = create_some(state, 10, 40, 1).await?;
    sheet::durations("create among 100,000 deployments on 5,000 hosts", &mut took, "");
    let (mut took, _) = create_some(state, 100, 320, 8).await?;
    sheet::durations("the same, 8 at once", &mut took, "p99 50 ms");
    // Commits are shared by so many that only the writer's own work remains.
    let (_, all) = create_some(state, 1000, 640, 64).await?;
    let figure = format!("{:.2} ms of the writer each", ms(all) / 640.0);
    sheet::line("the same, 64 at once", &figure, "2 ms");
    Ok(())
}

/// For a deployment that was restarted 100,000 times.
async fn deploys_that_end(state: &AppState) -> anyhow::Result<()> {
    let mut took = Vec::new();
    for n in 0..40 {
        let ended = state.store.write(move |tables| {
            let deployment = DeploymentId::new(id(0));
            tables.insert_audit(&NewAudit {
                id: id(u32::MAX - n),
                deployment,
                action: Action::Deploy,
                status: AuditStatus::Pending,
                initiated_by: None,
                at: SystemClock.now(),
                details: None,
            })?;
            let began = Instant::now();
            let (failed, now) = (AuditStatus::Failed, SystemClock.now());
            let ended = tables.finish_deploy(deployment, failed, now, None)?;
            Ok::<_, StoreError>((ended, began.elapsed()))
        });
        let (ended, elapsed) = ended.await?;
        ensure!(ended, "no deploy has ended");
        took.push(elapsed);
    }
    sheet::durations("ending a deploy after 100,000 restarts", &mut took, "1 ms");
    Ok(())
}

async fn prunes(state: &AppState) -> anyhow::Result<()> {
    let (mut took, mut all) = (Vec::new(), 0);
    for _ in 0..40 {
        let pruned = state.store.write(move |tables| {
            let now = SystemClock.now();
            let cutoff = now - SignedDuration::from_hours(1);
            let began = Instant::now();
            let pruned = tables.prune_audit_chain(cutoff, now, PRUNED)?;
            Ok::<_, StoreError>((pruned, began.elapsed()))
        });
        let (pruned, elapsed) = pruned.await?;
        all += pruned;
        took.push(elapsed);
    }
    ensure!(all == 40 * u64::from(PRUNED), "{all} entries were forgotten");
    let what = format!("forgetting {PRUNED} of 1,000,000 audit entries");
    sheet::durations(&what, &mut took, "as long with 10,000");
    Ok(())
}

async fn purges(state: &AppState) -> anyhow::Result<()> {
    for (what, later) in [
        ("looking for what has expired, where nothing has", SignedDuration::ZERO),
        ("forgetting 10,000 grants: each transaction", SignedDuration::from_hours(24 * 365)),
    ] {
        let mut took = Vec::new();
        loop {
            let purged = state.store.write(move |tables| {
                let began = Instant::now();
                let purged = tables.purge_oauth(SystemClock.now() + later, PURGED)?;
                Ok::<_, StoreError>((purged, began.elapsed()))
            });
            let (purged, elapsed) = purged.await?;
            took.push(elapsed);
            if purged == 0 {
                break;
            }
        }
        sheet::durations(what, &mut took, "");
    }
    Ok(())
}

/// How long others wait for the writer meanwhile, and how long all of it takes.
async fn rotation(state: &AppState) -> anyhow::Result<()> {
    let vault = Arc::new(Vault::open_existing(&state.config.master_key())?);
    // As the command does it: a separate process, with its own connections.
    let store = buddo_coordinator::store::Store::open(&state.config.database())?;
    let mut rotation = Rotation::new(store, vault, &state.config.state_dir)?;
    let began = Instant::now();
    let rotated = async {
        let now: Timestamp = SystemClock.now();
        while rotation.step(&SystemRandom, now).await? != Step::Ended {}
        anyhow::Ok(began.elapsed())
    };
    let mut waited = Vec::new();
    let mut rotated = std::pin::pin!(rotated);
    let all = loop {
        let write = async {
            let began = Instant::now();
            let written: Result<(), StoreError> =
                state.store.write(|tables| tables.request_reset("nobody", SystemClock.now())).await;
            written?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            anyhow::Ok(began.elapsed().saturating_sub(Duration::from_millis(5)))
        };
        tokio::select! {
            biased;
            all = &mut rotated => break all?,
            took = write => waited.push(took?),
        }
    };
    let figure = format!("{:.1} s", all.as_secs_f64());
    sheet::line("rotating the master key over 100,000 secrets", &figure, "");
    sheet::durations("others' writes meanwhile", &mut waited, "p99 50 ms");
    Ok(())
}
