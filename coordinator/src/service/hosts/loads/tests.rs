//! The counters always match a recount.

use std::collections::BTreeMap;

use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::report::{Failure, HostStatus};
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::secret::Secret;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::Connection;

use super::*;
use crate::store::Tables;
use crate::store::contract::Load;
use crate::testing::story::Story;
use crate::testing::{World, deploys as deployments, owner, request, services};

/// An operation on deployments.
#[derive(Debug, Clone)]
enum Doing {
    Create {
        env_bytes: usize,
    },
    Restart(prop::sample::Index),
    /// A revision with more services, each with an environment.
    AddServices(prop::sample::Index),
    Stop(prop::sample::Index),
    Destroy(prop::sample::Index),
    /// To the other host, like an evacuation.
    Move(prop::sample::Index),
    /// Another amount of memory.
    Resize(prop::sample::Index, u32),
    /// Deletes all revisions but the current one.
    ForgetOld(prop::sample::Index),
    /// Changes that end in an error, and so are rolled back.
    Fail(prop::sample::Index),
    /// A host becomes unreachable, and comes back.
    Lose,
    Report {
        memory_mb: u64,
        allocatable_mb: Option<u64>,
        lacks: bool,
    },
    Bound(Option<u64>),
    Drain(bool),
    Lock,
    Remove,
    Refuse,
    /// Acknowledges its newest document, which clears its refusal.
    Acknowledge,
    /// It joins again: no longer locked or removed.
    Rejoin,
}

fn doing() -> impl Strategy<Value = Doing> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..2000usize).prop_map(|env_bytes| Doing::Create { env_bytes }),
        2 => any().prop_map(Doing::Restart),
        2 => any().prop_map(Doing::AddServices),
        1 => any().prop_map(Doing::Stop),
        2 => any().prop_map(Doing::Destroy),
        2 => any().prop_map(Doing::Move),
        2 => (any(), 1..4096u32).prop_map(|(which, memory)| Doing::Resize(which, memory)),
        1 => any().prop_map(Doing::ForgetOld),
        1 => any().prop_map(Doing::Fail),
        1 => Just(Doing::Lose),
        1 => report(),
        1 => prop::option::of(1..65_536u64).prop_map(Doing::Bound),
        1 => prop_oneof![Just(Doing::Drain(true)), Just(Doing::Drain(false))],
        1 => prop_oneof![Just(Doing::Lock), Just(Doing::Remove), Just(Doing::Refuse)],
        1 => prop_oneof![Just(Doing::Acknowledge), Just(Doing::Rejoin)],
    ]
}

fn report() -> impl Strategy<Value = Doing> {
    let memory_mb = prop_oneof![1..65_536u64, Just(u64::MAX)];
    (memory_mb, prop::option::of(1..65_536u64), any::<bool>()).prop_map(
        |(memory_mb, allocatable_mb, lacks)| Doing::Report { memory_mb, allocatable_mb, lacks },
    )
}

struct Fleet {
    world: World,
    hosts: [HostId; 2],
    made: Vec<DeploymentId>,
    names: usize,
}

impl Fleet {
    async fn new() -> Self {
        let world = World::with(|config| {
            config.limits.deployments_per_account = 1000;
            config.limits.deployments_per_tier = Some(1000);
        });
        let (first, _) = world.host(1, 60_000).await;
        let (second, _) = world.host(2, 50_000).await;
        Self { world, hosts: [first, second], made: Vec::new(), names: 0 }
    }

    fn database(&self) -> Connection {
        Connection::open(self.world.state.config.database()).unwrap()
    }

    async fn carry_out(&mut self, doing: &Doing) {
        let state = self.world.state.clone();
        let made = std::mem::take(&mut self.made);
        let one =
            |index: &prop::sample::Index| (!made.is_empty()).then(|| made[index.index(made.len())]);
        // Refusals of a destroyed deployment are part of the test.
        match doing {
            Doing::Create { env_bytes } => {
                self.names += 1;
                let env = BTreeMap::from([("KEY".to_owned(), Secret::new("x".repeat(*env_bytes)))]);
                let request = CreateDeployment {
                    env_vars: (*env_bytes > 0).then_some(env),
                    ..request(&format!("app-{}", self.names))
                };
                let created = deployments::create(&state, owner(1), None, request, None).await;
                if let Ok(created) = created {
                    self.made.push(created.deployment.id.parse().unwrap());
                }
            }
            Doing::Restart(index)
            | Doing::AddServices(index)
            | Doing::Stop(index)
            | Doing::Destroy(index) => {
                if let Some(id) = one(index) {
                    to_deployment(&state, id, doing).await;
                }
            }
            Doing::Move(index) => {
                if let Some(id) = one(index) {
                    let sql =
                        "UPDATE deployments SET host_id = iif(host_id = ?2, ?3, ?2) WHERE id = ?1";
                    let [first, second] = self.hosts.map(|host| host.to_string());
                    self.database().execute(sql, (id.to_string(), first, second)).unwrap();
                }
            }
            Doing::Resize(index, memory) => {
                if let Some(id) = one(index) {
                    let sql = "UPDATE deployments SET memory_limit_mb = ?2 WHERE id = ?1";
                    self.database().execute(sql, (id.to_string(), memory)).unwrap();
                }
            }
            Doing::ForgetOld(index) => {
                if let Some(id) = one(index) {
                    let forgotten = state.store.write(move |tables| {
                        let current = tables.deployment(id)?.map(|found| found.revision);
                        let all = tables.revisions(id)?;
                        let old: Vec<_> = all.iter().map(|row| row.number).collect();
                        let old: Vec<_> =
                            old.into_iter().filter(|number| Some(*number) != current).collect();
                        tables.forget_revisions(id, &old)
                    });
                    let forgotten: Result<(), StoreError> = forgotten.await;
                    forgotten.unwrap();
                }
            }
            Doing::Fail(index) => {
                if let Some(id) = one(index) {
                    let failed = state.store.write(move |tables| {
                        tables.erase_env(id)?;
                        Err::<(), _>(StoreError::Busy)
                    });
                    assert!(matches!(failed.await, Err(StoreError::Busy)));
                }
            }
            Doing::Lose => {
                let (host, now) = (self.hosts[0], state.clock.now());
                let lost = state.store.write(move |tables| {
                    match tables.host(host)?.and_then(|host| host.unreachable_since) {
                        None => tables.set_unreachable(host, now),
                        Some(_) => tables.set_reached(host, now),
                    }
                });
                let lost: Result<(), StoreError> = lost.await;
                lost.unwrap();
            }
            Doing::Report { .. }
            | Doing::Bound(_)
            | Doing::Drain(_)
            | Doing::Lock
            | Doing::Remove
            | Doing::Refuse
            | Doing::Acknowledge
            | Doing::Rejoin => {
                let (host, now, doing) = (self.hosts[1], state.clock.now(), doing.clone());
                let done: Result<(), StoreError> =
                    state.store.write(move |tables| to_host(tables, host, now, &doing)).await;
                done.unwrap();
            }
        }
        self.made = [made, std::mem::take(&mut self.made)].concat();
    }
}

/// Operations of an operator on a deployment, which may be destroyed already.
async fn to_deployment(state: &AppState, id: DeploymentId, doing: &Doing) {
    match doing {
        Doing::Restart(_) => drop(deployments::restart(state, owner(1), id).await),
        Doing::Stop(_) => drop(deployments::stop(state, owner(1), id).await),
        Doing::Destroy(_) => drop(deployments::destroy(state, owner(1), id).await),
        _ => {
            let shown = deployments::get(state, owner(1), id).await;
            if shown.is_ok_and(|shown| shown.deployment.status.as_str() != "destroyed") {
                services::deploy(state, id, &["cache", "db"]).await;
            }
        }
    }
}

/// Operations on a host, not on its deployments.
fn to_host(
    tables: &mut dyn Tables,
    id: HostId,
    now: Timestamp,
    doing: &Doing,
) -> Result<(), StoreError> {
    let host = tables.host(id)?.unwrap();
    match doing {
        Doing::Report { memory_mb, allocatable_mb, lacks } => {
            let failure = || {
                let [code, cause, fix] = ["code", "cause", "fix"].map(str::to_owned);
                Failure { code, cause, fix }.into()
            };
            // A removed host has no status.
            let Some(status) = host.status else { return Ok(()) };
            let status = HostStatus {
                memory_mb: *memory_mb,
                allocatable_mb: *allocatable_mb,
                lacks: lacks.then(failure),
                ..status
            };
            tables.set_host_status(id, &status)
        }
        Doing::Bound(mb) => tables.set_max_memory(id, *mb),
        Doing::Drain(drain) => tables.set_drained(id, drain.then_some(now)),
        Doing::Lock => tables.lock_host(id, now),
        Doing::Remove => tables.remove_host(id, now),
        Doing::Refuse => tables.set_refusal(id, "it does not take it"),
        Doing::Acknowledge => tables.set_acknowledged(id, host.wanted),
        _ => tables.upsert_host(&host),
    }
}

#[test]
fn stored_loads_always_match_a_recount() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let all = prop::collection::vec(doing(), 1..40);
    let kept = runner.run(&all, |all| {
        runtime.block_on(async {
            let mut fleet = Fleet::new().await;
            for doing in &all {
                fleet.carry_out(doing).await;
                let wrong: Result<Vec<HostId>, StoreError> =
                    fleet.world.state.store.read(|tables| tables.miscounted_hosts(9)).await;
                prop_assert_eq!(wrong.unwrap(), Vec::new(), "after {:?}", doing);
            }
            Ok(())
        })
    });
    kept.unwrap();
}

async fn load(world: &World, host: HostId) -> Load {
    let load: Result<Load, StoreError> =
        world.state.store.read(move |tables| tables.load(host)).await;
    load.unwrap()
}

#[tokio::test]
async fn a_hosts_load_follows_its_deployments() {
    let story = Story::begin().await;
    let Load { reserved_mb, containers, env_bytes, largest_mb } =
        load(&story.world, story.host).await;
    assert_eq!((reserved_mb, containers, env_bytes, largest_mb), (256, 1, 0, 256));
    deployments::destroy(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!(load(&story.world, story.host).await, Load::default());
}

#[tokio::test]
async fn a_wrong_load_is_detected_reported_and_corrected() {
    let story = Story::begin().await;
    let state = &story.world.state;
    assert!(sweep(state).await.unwrap().is_empty());
    let right = load(&story.world, story.host).await;
    let database = Connection::open(state.config.database()).unwrap();
    for sql in [
        "UPDATE host_loads SET reserved_mb = 1",
        "UPDATE host_loads SET containers = 7, largest_mb = 9",
        "UPDATE host_loads SET env_bytes = 5, placement_rank = 1",
        "DELETE FROM host_loads",
    ] {
        database.execute_batch(sql).unwrap();
        assert_eq!(sweep(state).await.unwrap(), [story.host], "{sql}");
        assert_eq!(load(&story.world, story.host).await, right, "{sql}");
        assert!(sweep(state).await.unwrap().is_empty(), "{sql}");
    }
    let told = crate::api::scrape::text(state).await.unwrap();
    assert!(told.contains("host_loads_corrected_total 4"), "{told}");
}
