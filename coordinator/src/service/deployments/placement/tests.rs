use buddo_runtime::clock::Clock as _;
use buddo_shared::host_wire::report::{Failure, HostStatus};
use buddo_shared::model::id::HostId;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::Connection;

use super::*;
use crate::domain::capacity::Load;
use crate::domain::scheduler::{ClosedHosts, NoRoom};
use crate::service::deployments::DeployError;
use crate::store::StoreError;
use crate::testing::{World, deploys as deployments, owner, request};

async fn write<F>(world: &World, work: F)
where
    F: Fn(&mut dyn Tables) -> Result<(), StoreError> + Send + 'static,
{
    world.state.store.write(work).await.unwrap();
}

/// The name of the host that a new app is placed on.
async fn placed(world: &World, name: &str) -> Result<String, DeployError> {
    let made = deployments::create(&world.state, owner(1), None, request(name), None).await?;
    Ok(made.deployment.host_server.unwrap())
}

async fn lose(world: &World, id: HostId) {
    let since = world.clock.now();
    write(world, move |tables| tables.set_unreachable(id, since)).await;
}

#[tokio::test]
async fn fm_69_a_host_unreachable_for_an_hour_gets_no_new_apps() {
    let world = World::new();
    let (large, _) = world.host(1, 64_000).await;
    world.host(2, 4096).await;
    assert_eq!(placed(&world, "a").await.unwrap(), "container-host-1");
    lose(&world, large).await;
    // Neither at first, while another has room, nor later.
    assert_eq!(placed(&world, "b").await.unwrap(), "container-host-2");
    world.clock.advance(LOST);
    assert_eq!(placed(&world, "c").await.unwrap(), "container-host-2");
    write(&world, |tables| {
        let small = tables.host_named("container-host-2")?.unwrap().id;
        tables.set_drained(small, Some(Timestamp::UNIX_EPOCH))
    })
    .await;
    let refused = placed(&world, "d").await.unwrap_err();
    assert!(matches!(refused, DeployError::NoRoom(NoRoom::NoHost(_))), "{refused}");
    let words = refused.to_string();
    assert!(words.contains("1 drained, 1 not reached for an hour"), "{words}");
    let back = world.clock.now();
    write(&world, move |tables| tables.set_reached(large, back)).await;
    assert_eq!(placed(&world, "e").await.unwrap(), "container-host-1");
}

#[tokio::test]
async fn fm_69_a_briefly_unreachable_host_is_the_last_resort() {
    let world = World::new();
    let (only, _) = world.host(1, 4096).await;
    lose(&world, only).await;
    assert_eq!(placed(&world, "a").await.unwrap(), "container-host-1");
}

#[tokio::test]
async fn fm_69_a_locked_host_gets_no_new_apps_and_waiting_deploys_say_why() {
    let world = World::new();
    let (only, _) = world.host(1, 4096).await;
    let made = deployments::create(&world.state, owner(1), None, request("waits"), None).await;
    let id = made.unwrap().deployment.id.parse().unwrap();
    let now = world.clock.now();
    write(&world, move |tables| tables.lock_host(only, now)).await;
    let refused = placed(&world, "more").await.unwrap_err().to_string();
    assert!(refused.contains("1 locked"), "{refused}");
    for error in [
        deployments::status(&world.state, owner(1), id).await.unwrap().last_error,
        deployments::get(&world.state, owner(1), id).await.unwrap().deployment.last_error,
    ] {
        let error = error.unwrap_or_default();
        let words = "the host container-host-1 has been locked since";
        assert!(error.starts_with(words), "{error:?}");
        assert!(error.contains("the deploy waits for it"), "{error:?}");
    }
}

#[tokio::test]
async fn a_host_keeps_a_memory_reserve() {
    let world = World::new();
    // 960 less a reserve of 414: one app of 256 MB and its own update.
    world.host(1, 960).await;
    assert!(placed(&world, "a").await.is_ok());
    let refused = placed(&world, "b").await.unwrap_err();
    assert!(matches!(refused, DeployError::NoRoom(NoRoom::Memory { .. })), "{refused}");
}

#[tokio::test]
async fn the_hosts_allocatable_memory_is_respected() {
    let world = World::new();
    let (id, _) = world.host(1, 64_000).await;
    let status: Result<_, StoreError> =
        world.state.store.read(move |tables| Ok(tables.host(id)?.unwrap().status.unwrap())).await;
    let status = HostStatus { allocatable_mb: Some(500), ..status.unwrap() };
    write(&world, move |tables| tables.set_host_status(id, &status)).await;
    let refused = placed(&world, "a").await.unwrap_err();
    assert!(matches!(refused, DeployError::NoRoom(NoRoom::Memory { .. })), "{refused}");
}

/// It takes apps again once it reports that it can start them.
#[tokio::test]
async fn fm_56_a_host_with_a_shortage_gets_no_new_apps() {
    let world = World::new();
    let (large, _) = world.host(1, 64_000).await;
    let status: Result<_, StoreError> = world
        .state
        .store
        .read(move |tables| Ok(tables.host(large)?.unwrap().status.unwrap()))
        .await;
    let status = status.unwrap();
    let [code, cause, fix] = ["host_out_of_keys", "no keys", "add some"].map(str::to_owned);
    let short = HostStatus { lacks: Some(Failure { code, cause, fix }.into()), ..status.clone() };
    write(&world, move |tables| tables.set_host_status(large, &short)).await;
    let refused = placed(&world, "a").await.unwrap_err();
    assert!(matches!(refused, DeployError::NoRoom(NoRoom::NoHost(_))), "{refused}");
    assert!(refused.to_string().contains("1 short of what a container takes"), "{refused}");
    world.host(2, 4096).await;
    assert_eq!(placed(&world, "b").await.unwrap(), "container-host-2");
    write(&world, move |tables| tables.set_host_status(large, &status)).await;
    assert_eq!(placed(&world, "c").await.unwrap(), "container-host-1");
}

/// A host in any state, with any load.
#[derive(Debug, Clone)]
struct AnyHost {
    memory_mb: u64,
    allocatable_mb: Option<u64>,
    max_memory_mb: Option<u64>,
    load: Load,
    away_s: Option<i64>,
    /// Drained, locked, refusing, short of resources, not reported yet.
    flags: [bool; 5],
}

fn any_host() -> impl Strategy<Value = AnyHost> {
    let mb = || 0..12_000u64;
    let memory_mb = prop_oneof![9 => mb(), 1 => any::<u64>()];
    let load = (mb(), 0..9000u64, 0..3000u64, 0..9_000_000u64);
    let load = load.prop_map(|(reserved_mb, containers, largest_mb, env_bytes)| Load {
        reserved_mb,
        containers: if containers > 8000 { containers } else { containers % 100 },
        largest_mb,
        env_bytes,
    });
    let seldom = || prop::bool::weighted(0.05);
    let flags = [seldom(), seldom(), seldom(), seldom(), seldom()];
    let away_s = prop::option::weighted(0.2, 3598..3603i64);
    let optional = || prop::option::weighted(0.3, 1..12_000u64);
    (memory_mb, optional(), optional(), load, away_s, flags).prop_map(
        |(memory_mb, allocatable_mb, max_memory_mb, load, away_s, flags)| AnyHost {
            memory_mb,
            allocatable_mb,
            max_memory_mb,
            load,
            away_s,
            flags,
        },
    )
}

impl AnyHost {
    /// Computed from its properties alone.
    fn candidate(&self, id: HostId, overcommit: f64) -> Candidate {
        let [drained, locked, refuses, lacks, is_new] = self.flags;
        let capacity = Capacity {
            memory_mb: self.memory_mb,
            max_memory_mb: self.max_memory_mb,
            allocatable_mb: self.allocatable_mb,
        };
        let capacity = if is_new { Capacity::default() } else { capacity };
        let availability = match self.away_s {
            _ if locked => Availability::Closed(Closed::Locked),
            _ if drained => Availability::Closed(Closed::Drained),
            Some(3600..) => Availability::Closed(Closed::Lost),
            _ if is_new => Availability::Closed(Closed::Unknown),
            _ if lacks => Availability::Closed(Closed::Short),
            None if !refuses => Availability::Open,
            _ => Availability::Away,
        };
        let (budget_mb, load) = (capacity.budget_mb(overcommit), self.load);
        Candidate { id, budget_mb, load, account_env_bytes: 0, availability }
    }

    fn keep(&self, database: &Connection, status: &HostStatus, now: Timestamp) {
        let [drained, locked, refuses, lacks, is_new] = self.flags;
        let short = || {
            let [code, cause, fix] = ["code", "cause", "fix"].map(str::to_owned);
            Failure { code, cause, fix }.into()
        };
        let status = HostStatus {
            memory_mb: self.memory_mb,
            allocatable_mb: self.allocatable_mb,
            lacks: lacks.then(short),
            ..status.clone()
        };
        let status = (!is_new).then(|| serde_json::to_string(&status).unwrap());
        let since = self.away_s.map(|s| now.as_millisecond() - s * 1000);
        let sql = "UPDATE hosts SET status = ?1, max_memory_mb = ?2, unreachable_since = ?3,
            drained_at = iif(?4, 1, NULL), locked_at = iif(?5, 1, NULL), refusal = iif(?6, '', NULL)";
        let most = self.max_memory_mb.map(u64::cast_signed);
        let params = (status, most, since, drained, locked, refuses);
        database.execute(sql, params).unwrap();
        let sql = "UPDATE host_loads SET reserved_mb = ?1, containers = ?2, largest_mb = ?3,
            env_bytes = ?4";
        let load = self.load;
        let params = [load.reserved_mb, load.containers, load.largest_mb, load.env_bytes];
        database.execute(sql, params.map(u64::cast_signed)).unwrap();
    }
}

/// The database finds exactly what the rule would choose; so a full host costs only a look at its
/// counters.
#[test]
fn the_database_query_matches_the_placement_rule() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let (id, _) = runtime.block_on(world.host(1, 4096));
    let state = &world.state;
    let status: Result<_, StoreError> = runtime
        .block_on(state.store.read(move |tables| Ok(tables.host(id)?.unwrap().status.unwrap())));
    let status = status.unwrap();
    let database = Connection::open(state.config.database()).unwrap();
    database.pragma_update(None, "synchronous", "OFF").unwrap();
    let now = world.clock.now();
    let lost_at = now.checked_sub(LOST).unwrap();
    let demand = (0..3000u64, 0..2_000_000u64)
        .prop_map(|(memory_mb, env_bytes)| Demand { memory_mb, env_bytes });
    let overcommit = prop_oneof![Just(1.0), Just(0.5), Just(1.3), 0.1..100.0f64];
    let mut runner = TestRunner::new(ProptestConfig { cases: 500, ..ProptestConfig::default() });
    let same = runner.run(&(any_host(), demand, overcommit), |(host, demand, overcommit)| {
        host.keep(&database, &status, now);
        let search = CandidateSearch { fits: Some((demand, overcommit)), lost_at, except: &[] };
        let found: Result<_, StoreError> = runtime.block_on(state.store.read(move |tables| {
            Ok((tables.candidate_hosts(search, None, 9)?, tables.closed_hosts(lost_at)?))
        }));
        let (found, closed) = found.unwrap();
        let placed = place(demand, &[host.candidate(id, overcommit)]);
        prop_assert_eq!(!found.is_empty(), placed.is_ok());
        for one in found {
            prop_assert_eq!(candidate(&one, &[], overcommit, now), host.candidate(id, overcommit));
        }
        let why = if let Err(NoRoom::NoHost(why)) = placed { why } else { ClosedHosts::default() };
        prop_assert_eq!(closed, why);
        Ok(())
    });
    same.unwrap();
}

/// A host on which the account has used up its share is skipped.
#[tokio::test]
async fn a_host_where_the_account_has_used_its_share_is_skipped() {
    let world = World::new();
    let (large, _) = world.host(1, 64_000).await;
    assert_eq!(placed(&world, "a").await.unwrap(), "container-host-1");
    world.host(2, 4096).await;
    let database = Connection::open(world.state.config.database()).unwrap();
    let bytes = i64::try_from(MAX_ACCOUNT_ENV_BYTES).unwrap();
    database.execute("UPDATE services SET env = zeroblob(?1)", [bytes]).unwrap();
    let search = Search {
        account: crate::testing::account(1),
        demand: Demand { memory_mb: 256, env_bytes: 1 },
        overcommit: 1.0,
        now: world.clock.now(),
        from: None,
    };
    let chosen = |search| world.state.store.read(move |tables| choose(tables, search));
    assert_ne!(chosen(search).await.unwrap(), large);
    let without = Search { demand: Demand { env_bytes: 0, ..search.demand }, ..search };
    assert_eq!(chosen(without).await.unwrap(), large);
    let elsewhere = Search { from: Some(large), ..without };
    assert_ne!(chosen(elsewhere).await.unwrap(), large);
}
