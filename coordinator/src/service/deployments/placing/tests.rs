use buddo_shared::id::HostId;
use buddo_shared::report::{Failure, HostStatus};

use super::*;
use crate::clock::Clock as _;
use crate::domain::place::NoRoom;
use crate::service::deployments::{self, DeployError};
use crate::testing::{World, owner, request};

async fn write<F>(world: &World, work: F)
where
    F: FnOnce(&mut dyn Tables) -> Result<(), StoreError> + Send + 'static,
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
async fn fm_69_a_host_not_reached_for_an_hour_gets_no_new_app() {
    let world = World::new();
    let (large, _) = world.host(1, 64_000).await;
    world.host(2, 4096).await;
    assert_eq!(placed(&world, "a").await.unwrap(), "container-host-1");
    lose(&world, large).await;
    // Neither at once, while another has room, nor later.
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
async fn fm_69_a_host_away_for_a_moment_is_the_last_resort() {
    let world = World::new();
    let (only, _) = world.host(1, 4096).await;
    lose(&world, only).await;
    assert_eq!(placed(&world, "a").await.unwrap(), "container-host-1");
}

#[tokio::test]
async fn fm_69_a_locked_host_gets_no_new_app_and_those_that_wait_say_so() {
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
        assert!(error.starts_with("the host container-host-1 is locked since"), "{error:?}");
        assert!(error.contains("the deploy waits for it"), "{error:?}");
    }
}

#[tokio::test]
async fn a_host_is_full_before_it_swaps() {
    let world = World::new();
    // 960 less 414 in reserve: one app of 256 MB and its own update.
    world.host(1, 960).await;
    assert!(placed(&world, "a").await.is_ok());
    let refused = placed(&world, "b").await.unwrap_err();
    assert!(matches!(refused, DeployError::NoRoom(NoRoom::Memory { .. })), "{refused}");
}

#[tokio::test]
async fn what_a_hosts_administrator_allows_counts() {
    let world = World::new();
    let (id, _) = world.host(1, 64_000).await;
    let status: Result<_, StoreError> =
        world.state.store.read(move |tables| Ok(tables.host(id)?.unwrap().status.unwrap())).await;
    let status = HostStatus { allocatable_mb: Some(500), ..status.unwrap() };
    write(&world, move |tables| tables.set_host_status(id, &status)).await;
    let refused = placed(&world, "a").await.unwrap_err();
    assert!(matches!(refused, DeployError::NoRoom(NoRoom::Memory { .. })), "{refused}");
}

/// It takes apps again once it says that it can start them.
#[tokio::test]
async fn fm_56_a_host_that_lacks_what_a_container_takes_gets_no_new_app() {
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
