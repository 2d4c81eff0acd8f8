use super::*;
use crate::crypto::random::SystemRandom;
use crate::testing::World;

const TTL: Duration = Duration::from_secs(30);

fn leases(world: &World, ttl: Duration) -> Arc<HostLeases> {
    let instance = Instance::new(&SystemRandom);
    let (store, random) = (world.state.store.clone(), Arc::clone(&world.state.random));
    Arc::new(HostLeases::new(store, random, Metrics::default(), instance, ttl))
}

async fn held(leases: &Arc<HostLeases>, host: HostId) -> Option<HeldLease> {
    match leases.acquire(host, Timestamp::UNIX_EPOCH).await.unwrap() {
        Acquired::Held(lease) => Some(lease),
        Acquired::Elsewhere(_) => None,
    }
}

async fn lease(world: &World, host: HostId) -> Option<Lease> {
    let read: Result<_, StoreError> = world.state.store.read(move |t| t.lease(host)).await;
    read.unwrap()
}

#[tokio::test]
async fn a_released_lease_is_handed_over_at_once() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let (one, other) = (leases(&world, TTL), leases(&world, TTL));
    let first = held(&one, host).await.unwrap();
    assert!(held(&other, host).await.is_none());
    drop(first);
    assert!(held(&other, host).await.is_none(), "it was not given back yet");
    one.release_all().await;
    assert!(held(&other, host).await.is_some());
    assert!(held(&one, host).await.is_none());
}

/// On the runtime's own clock, which jumps to the moment at which the holder gives up; the
/// database's clock has hardly moved then.
#[tokio::test(start_paused = true)]
async fn fm_77_who_cannot_renew_stops_before_the_lease_ends() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let (one, other) = (leases(&world, TTL), leases(&world, TTL));
    let begun = Instant::now();
    let mut lease = held(&one, host).await.unwrap();
    lease.lost().await;
    let stopped = begun.elapsed();
    assert!(stopped + Duration::from_secs(5) <= TTL, "{stopped:?}");
    assert!(stopped > TTL / 2, "two renewals may fail: {stopped:?}");
    assert!(held(&other, host).await.is_none(), "nobody else pushes yet");
}

#[tokio::test]
async fn a_lease_that_is_renewed_is_kept_and_one_that_nobody_uses_is_given_back() {
    let world = World::new();
    let ((host, _), (unused, _)) = (world.host(1, 4096).await, world.host(2, 4096).await);
    let (one, other) = (leases(&world, TTL), leases(&world, TTL));
    let mut kept = held(&one, host).await.unwrap();
    drop(held(&one, unused).await.unwrap());
    let before = lease(&world, host).await.unwrap();
    while lease(&world, host).await.unwrap().expires_at == before.expires_at {
        one.renew().await.unwrap();
    }
    assert!(held(&other, host).await.is_none());
    assert!(held(&other, unused).await.is_some(), "its host was not reached again");
    assert!(futures_util::FutureExt::now_or_never(kept.lost()).is_none());
}

/// A holder whose process stood still finds out at its next renewal at the latest.
#[tokio::test]
async fn a_lease_that_was_taken_is_lost() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let (one, other) = (leases(&world, TTL), leases(&world, TTL));
    let mut lease = held(&one, host).await.unwrap();
    let holder = one.holder();
    let expired: Result<_, StoreError> = world
        .state
        .store
        .write(move |tables| tables.acquire_lease(host, holder, Duration::ZERO))
        .await;
    expired.unwrap();
    assert!(held(&other, host).await.is_some());
    one.renew().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), lease.lost()).await.unwrap();
    drop(lease);
    assert!(held(&one, host).await.is_none());
}

#[test]
fn a_restart_is_the_same_coordinator_and_a_second_process_another() {
    let directory = tempfile::tempdir().unwrap();
    let claim = || Instance::claim(directory.path(), &SystemRandom).unwrap();
    let first = claim();
    let beside = claim();
    assert_ne!(first.id(), beside.id());
    let id = first.id();
    drop(first);
    assert_eq!(claim().id(), id);
}

#[test]
fn an_unreadable_id_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("instance");
    crate::process::secret_file::create(&path, &buddo_shared::model::secret::Secret::new("no id"))
        .unwrap();
    let error = Instance::claim(directory.path(), &SystemRandom).unwrap_err();
    assert!(error.to_string().contains("delete it"), "{error}");
}
