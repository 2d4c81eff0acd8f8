use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState, SCHEMA, Trust};
use buddo_shared::host_wire::signed::Signer;
use buddo_shared::model::id::HostId;
use buddo_shared::model::name::HostName;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::trust::tests::some_ca;

const NOW: i64 = 1_800_000_000;

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn steady(&self) -> Duration {
        Duration::ZERO
    }
}

struct World {
    dir: tempfile::TempDir,
    signer: Signer,
    clock: Arc<SetClock>,
    store: Store,
    desired_state: DesiredState<SetClock>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::generate().unwrap();
        let clock = Arc::new(SetClock(AtomicI64::new(NOW)));
        let (store, desired_state) = restore(&dir, &signer, &clock).await;
        Self { dir, signer, clock, store, desired_state }
    }

    /// As after a restart of the agent.
    async fn reopen(self) -> Self {
        let Self { dir, signer, clock, store, desired_state } = self;
        drop((desired_state, store));
        let (store, desired_state) = restore(&dir, &signer, &clock).await;
        Self { dir, signer, clock, store, desired_state }
    }

    fn envelope(&self, epoch: u64, generation: u64, zone: &str) -> Bytes {
        self.envelope_at(epoch, generation, zone, NOW)
    }

    fn envelope_at(&self, epoch: u64, generation: u64, zone: &str, issued: i64) -> Bytes {
        self.signer.sign(&manifest(epoch, generation, zone, issued)).unwrap().bytes.into()
    }

    /// One that needs more space than the previous.
    fn large_envelope(&self, generation: u64) -> Bytes {
        let mut manifest = manifest(1, generation, "two.example", NOW);
        let names = (0..500).map(|n| HostName::parse(&format!("www-{n}.example.org")).unwrap());
        manifest.deployments.push(DeploymentSpec {
            run: RunState::Stopped,
            domains: names.collect(),
            ..crate::testing::desired(2, "ghcr.io/a/b:1")
        });
        self.signer.sign(&manifest).unwrap().bytes.into()
    }

    fn zone(&self) -> Option<String> {
        let document = self.desired_state.subscribe().borrow().clone();
        document.map(|d| d.manifest().zone.to_string())
    }
}

fn manifest(epoch: u64, generation: u64, zone: &str, issued: i64) -> Manifest {
    Manifest {
        schema: SCHEMA,
        host_id: HostId::new(Uuid::from_u128(1)),
        generation: Generation { epoch, generation },
        issued_at: Timestamp::from_second(issued).unwrap(),
        expires_at: Timestamp::from_second(issued + 3_600).unwrap(),
        zone: HostName::parse(zone).unwrap(),
        deployments: Vec::new(),
        trust: None,
    }
}

fn trust(signers: &[&Signer]) -> Trust {
    let signing_keys = signers.iter().map(|signer| signer.public().clone()).collect();
    Trust { signing_keys, cas: vec![some_ca()] }
}

fn trust_roots(host: HostId, signers: &[&Signer]) -> TrustRoots {
    TrustRoots::new(host, trust(signers)).unwrap()
}

async fn restore(
    dir: &tempfile::TempDir,
    signer: &Signer,
    clock: &Arc<SetClock>,
) -> (Store, DesiredState<SetClock>) {
    let store = Store::open(&dir.path().join("agent.db"), 0).unwrap();
    let host = HostId::new(Uuid::from_u128(1));
    let desired_state =
        DesiredState::restore(trust_roots(host, &[signer]), store.clone(), Arc::clone(clock))
            .await
            .unwrap();
    (store, desired_state)
}

#[tokio::test]
async fn an_accepted_document_is_announced_and_survives_a_restart() {
    let world = World::new().await;
    let accepted = world.desired_state.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    assert_eq!(accepted.generation, Generation { epoch: 1, generation: 7 });
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    let world = world.reopen().await;
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    // And its place in the order is remembered, too.
    let older = world.desired_state.offer(world.envelope(1, 6, "old.example")).await;
    assert!(matches!(older, Err(Refusal::Stale { .. })));
}

/// Code that reads deployments finds them in one place; people are shown everything that was
/// signed.
#[tokio::test]
async fn deployments_are_held_once_and_the_signed_document_can_be_rebuilt() {
    let world = World::new().await;
    let envelope = world.large_envelope(1);
    let verifier =
        TrustRoots::new(HostId::new(Uuid::from_u128(1)), trust(&[&world.signer])).unwrap();
    let signed = verifier.verifier().verify(&envelope).unwrap().into_inner();
    world.desired_state.offer(envelope).await.unwrap();
    let held = world.desired_state.subscribe().borrow().clone().unwrap();
    assert!(held.manifest().deployments.is_empty() && held.entries().len() == 1);
    assert_eq!(held.whole(), signed);
}

/// A coordinator older than the agent: what runs keeps running, and the alarm says what to do.
#[tokio::test]
async fn a_document_of_an_older_schema_is_refused_and_the_held_one_stays() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    let older = Manifest { schema: SCHEMA - 1, ..manifest(1, 8, "two.example", NOW) };
    let refused = world.desired_state.offer(world.signer.sign(&older).unwrap().bytes.into()).await;
    let Err(Refusal::Unverified(error @ VerifyError::OlderSchema(1))) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().ends_with("upgrade both to the same version"), "{error}");
    assert!(world.desired_state.alarm().borrow().as_ref().unwrap().ends_with(&error.to_string()));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    // Its place in the order is still free.
    world.desired_state.offer(world.envelope(1, 8, "two.example")).await.unwrap();
    assert_eq!(world.zone().as_deref(), Some("two.example"));
}

#[tokio::test]
async fn fm_35_an_older_or_conflicting_document_is_refused_with_an_alarm() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    let older = world.desired_state.offer(world.envelope(1, 6, "two.example")).await;
    assert!(matches!(older, Err(Refusal::Stale { .. })));
    let other = world.desired_state.offer(world.envelope(1, 7, "two.example")).await;
    assert!(matches!(other, Err(Refusal::Conflict(_))));
    assert!(world.desired_state.alarm().borrow().as_ref().unwrap().contains("other content"));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    world.desired_state.offer(world.envelope(1, 8, "two.example")).await.unwrap();
    assert!(world.desired_state.alarm().borrow().is_none());
}

#[tokio::test]
async fn fm_09_a_repeated_document_is_acknowledged_again_without_effect() {
    let world = World::new().await;
    let first = world.desired_state.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    let mut current = world.desired_state.subscribe();
    current.mark_unchanged();
    let again = world.desired_state.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    assert_eq!(first, again);
    assert!(!current.has_changed().unwrap());
}

#[tokio::test]
async fn fm_38_a_higher_epoch_recovers_from_the_last_generation() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, u64::MAX, "one.example")).await.unwrap();
    let world = world.reopen().await;
    world.desired_state.offer(world.envelope(2, 1, "two.example")).await.unwrap();
    assert_eq!(world.zone().as_deref(), Some("two.example"));
}

#[tokio::test]
async fn fm_11_a_clock_far_ahead_refuses_new_documents_and_keeps_the_old_one() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    world.clock.0.store(NOW + 365 * 86_400, Ordering::SeqCst);
    let refused = world.desired_state.offer(world.envelope(1, 2, "two.example")).await;
    assert!(matches!(refused, Err(Refusal::Expired { .. })));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    // The jump left no trace: once the clock is right again, documents are accepted.
    world.clock.0.store(NOW + 10, Ordering::SeqCst);
    world.desired_state.offer(world.envelope(1, 2, "two.example")).await.unwrap();
}

#[tokio::test]
async fn fm_12_a_clock_in_1970_does_not_revive_an_expired_document() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    let world = world.reopen().await;
    world.clock.0.store(0, Ordering::SeqCst);
    let stale = world.envelope_at(1, 2, "two.example", NOW - 7_200);
    assert!(matches!(world.desired_state.offer(stale).await, Err(Refusal::Expired { .. })));
    world.desired_state.offer(world.envelope(1, 3, "two.example")).await.unwrap();
}

#[tokio::test]
async fn fm_62_a_document_from_the_future_is_refused_and_leaves_no_trace() {
    const DAYS: i64 = 3 * 86_400;
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    for (ahead, taken) in [(DAYS, false), (301, false), (300, true)] {
        let offered =
            world.desired_state.offer(world.envelope_at(1, 2, "two.example", NOW + ahead)).await;
        match offered {
            Ok(_) => assert!(taken, "{ahead} s ahead"),
            Err(refusal) => {
                assert!(!taken && matches!(refusal, Refusal::IssuedInFuture { .. }), "{refusal}");
                let words = refusal.to_string();
                let there = Timestamp::from_second(NOW + ahead).unwrap().to_string();
                let here = Timestamp::from_second(NOW).unwrap().to_string();
                assert!(words.contains(&there) && words.contains(&here), "{words}");
            }
        }
    }
    // The coordinator's clock is right again.
    world.desired_state.offer(world.envelope_at(1, 3, "three.example", NOW + 10)).await.unwrap();
    assert_eq!(world.zone().as_deref(), Some("three.example"));
}

/// Each is as far ahead of the previous one as clocks may differ: the second is ahead of the clock.
#[tokio::test]
async fn fm_62_successive_documents_cannot_push_the_time_floor_ahead() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope_at(1, 1, "one.example", NOW + 240)).await.unwrap();
    let world = world.reopen().await;
    let refused =
        world.desired_state.offer(world.envelope_at(1, 2, "two.example", NOW + 480)).await;
    assert!(matches!(refused, Err(Refusal::IssuedInFuture { .. })), "{refused:?}");
    // One as far ahead as the first is within the bound.
    world.desired_state.offer(world.envelope_at(1, 2, "two.example", NOW + 240)).await.unwrap();
}

/// A host whose clock is behind by a little more than clocks may differ refuses each document at
/// first, and accepts the same one a moment later, when it is no longer that far ahead. The refusal
/// says so.
#[tokio::test]
async fn fm_62_a_document_slightly_ahead_is_accepted_later_as_its_refusal_says() {
    let world = World::new().await;
    for (generation, begun) in [(1, NOW), (2, NOW + 3_600)] {
        world.clock.0.store(begun, Ordering::SeqCst);
        let offered = world.envelope_at(1, generation, "one.example", begun + 330);
        let refusal = world.desired_state.offer(offered.clone()).await.unwrap_err();
        let words = refusal.to_string();
        assert!(words.contains("taken once it is less than 5 minutes ahead"), "{words}");
        world.clock.0.store(begun + 30, Ordering::SeqCst);
        world.desired_state.offer(offered).await.unwrap();
        assert!(world.desired_state.alarm().borrow().is_none());
    }
}

/// A coordinator offers it again and again, and each time it is later here.
#[tokio::test(start_paused = true)]
async fn fm_62_a_document_from_the_future_is_reported_once_an_hour() {
    let world = World::new().await;
    let ahead = world.envelope_at(1, 1, "one.example", NOW + 86_400);
    let (mut alarm, mut texts) = (world.desired_state.alarm(), 0);
    for minute in 0..150 {
        world.clock.0.store(NOW + minute * 60, Ordering::SeqCst);
        world.desired_state.offer(ahead.clone()).await.unwrap_err();
        texts += usize::from(alarm.has_changed().unwrap());
        alarm.mark_unchanged();
        tokio::time::advance(Duration::from_mins(1)).await;
    }
    assert_eq!(texts, 3);
    // A refusal that ended in between is news when it begins again.
    world.desired_state.offer(world.envelope_at(1, 1, "one.example", NOW + 9_000)).await.unwrap();
    assert!(alarm.borrow_and_update().is_none());
    world
        .desired_state
        .offer(world.envelope_at(1, 2, "one.example", NOW + 86_400))
        .await
        .unwrap_err();
    assert!(alarm.borrow_and_update().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_expired_document_is_reported_once_an_hour() {
    let world = World::new().await;
    let expired = world.envelope_at(1, 1, "one.example", NOW - 7_200);
    let (mut alarm, mut texts) = (world.desired_state.alarm(), 0);
    for minute in 0..90 {
        world.clock.0.store(NOW + minute * 60, Ordering::SeqCst);
        world.desired_state.offer(expired.clone()).await.unwrap_err();
        texts += usize::from(alarm.has_changed().unwrap());
        alarm.mark_unchanged();
        tokio::time::advance(Duration::from_mins(1)).await;
    }
    assert_eq!(texts, 2);
}

/// The coordinator's clock was a little ahead, and then was set back.
#[tokio::test]
async fn a_document_that_was_issued_earlier_does_not_lower_the_floor() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope_at(1, 1, "one.example", NOW + 200)).await.unwrap();
    world.desired_state.offer(world.envelope_at(1, 2, "two.example", NOW)).await.unwrap();
    // It expires at the last moment before the first one was issued.
    let refused =
        world.desired_state.offer(world.envelope_at(1, 3, "three.example", NOW - 3_401)).await;
    assert!(matches!(refused, Err(Refusal::Expired { .. })), "{refused:?}");
}

/// Both clocks were days ahead when a document was accepted. Then both are right again.
#[tokio::test]
async fn fm_62_a_new_epoch_or_join_resets_a_time_floor_in_the_future() {
    const DAYS: i64 = 3 * 86_400;
    for joins in [false, true] {
        let world = World::new().await;
        let (host, join) = (HostId::new(Uuid::from_u128(1)), Uuid::from_u128(1));
        world.store.belong_to(host, join).await.unwrap();
        world.clock.0.store(NOW + DAYS, Ordering::SeqCst);
        world
            .desired_state
            .offer(world.envelope_at(1, 1, "one.example", NOW + DAYS))
            .await
            .unwrap();
        world.clock.0.store(NOW, Ordering::SeqCst);
        let world = world.reopen().await;
        let refused = world.desired_state.offer(world.envelope(1, 2, "two.example")).await;
        assert!(matches!(refused, Err(Refusal::Expired { .. })), "{refused:?}");
        let world = if joins {
            world.store.belong_to(host, Uuid::from_u128(2)).await.unwrap();
            let world = world.reopen().await;
            world.desired_state.offer(world.envelope(1, 2, "two.example")).await.unwrap();
            world
        } else {
            world.desired_state.offer(world.envelope(2, 2, "two.example")).await.unwrap();
            world
        };
        let epoch = if joins { 1 } else { 2 };
        // And it stays there, even over a restart.
        world.desired_state.offer(world.envelope(epoch, 3, "three.example")).await.unwrap();
        let world = world.reopen().await;
        world.desired_state.offer(world.envelope(epoch, 4, "four.example")).await.unwrap();
        assert_eq!(world.zone().as_deref(), Some("four.example"));
    }
}

#[tokio::test]
async fn a_forged_document_changes_nothing() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    let thief = World { signer: Signer::generate().unwrap(), ..World::new().await };
    let forged = thief.envelope(1, 2, "evil.example");
    assert!(matches!(world.desired_state.offer(forged).await, Err(Refusal::Unverified(_))));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
}

#[tokio::test]
async fn fm_13_a_full_disk_keeps_the_old_document_and_raises_an_alarm() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    world.store.fill().await;
    let refused = world.desired_state.offer(world.large_envelope(2)).await;
    assert!(matches!(refused, Err(Refusal::Store(_))), "acknowledged and not stored: {refused:?}");
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    let alarm = world.desired_state.alarm().borrow().clone().unwrap();
    for part in ["the old one stays in force", "free disk space", "database or disk is full"] {
        assert!(alarm.contains(part), "{part:?} is missing in: {alarm}");
    }
    // Its place in the order was not taken, and none of it is on disk.
    world.store.make_room().await;
    let world = world.reopen().await;
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    world.desired_state.offer(world.large_envelope(2)).await.unwrap();
    assert!(world.desired_state.alarm().borrow().is_none());
}

#[tokio::test]
async fn fm_14_a_document_is_not_acknowledged_until_it_is_stored() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    world.store.refuse_writes().await;
    for _ in 0..2 {
        let refused = world.desired_state.offer(world.envelope(1, 2, "two.example")).await;
        assert!(matches!(refused, Err(Refusal::Store(_))), "{refused:?}");
        assert_eq!(world.zone().as_deref(), Some("one.example"));
    }
    let world = world.reopen().await;
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    world.desired_state.offer(world.envelope(1, 2, "two.example")).await.unwrap();
}

fn with_trust(signer: &Signer, generation: u64, trust: Trust) -> Bytes {
    let manifest = Manifest { trust: Some(trust), ..manifest(1, generation, "one.example", NOW) };
    signer.sign(&manifest).unwrap().bytes.into()
}

fn signed_by(signer: &Signer, generation: u64) -> Bytes {
    signer.sign(&manifest(1, generation, "one.example", NOW)).unwrap().bytes.into()
}

#[tokio::test]
async fn a_key_is_rotated_by_two_documents_and_survives_restarts() {
    let world = World::new().await;
    let next = Signer::generate().unwrap();
    let unknown = world.desired_state.offer(signed_by(&next, 1)).await;
    assert!(matches!(unknown, Err(Refusal::Unverified(VerifyError::UnknownKey(_)))));
    // The old key names both.
    let both = trust(&[&world.signer, &next]);
    world.desired_state.offer(with_trust(&world.signer, 2, both)).await.unwrap();
    let world = world.reopen().await;
    world.desired_state.offer(signed_by(&world.signer, 3)).await.unwrap();
    // The new key names only itself.
    world.desired_state.offer(with_trust(&next, 4, trust(&[&next]))).await.unwrap();
    let world = world.reopen().await;
    let old = world.desired_state.offer(signed_by(&world.signer, 5)).await;
    assert!(matches!(old, Err(Refusal::Unverified(VerifyError::UnknownKey(_)))), "{old:?}");
    world.desired_state.offer(signed_by(&next, 5)).await.unwrap();
    assert!(world.zone().is_some());
}

#[tokio::test]
async fn trust_takes_effect_only_once_stored() {
    let world = World::new().await;
    let next = Signer::generate().unwrap();
    world.desired_state.offer(signed_by(&world.signer, 1)).await.unwrap();
    world.store.refuse_writes().await;
    let both = || trust(&[&world.signer, &next]);
    let refused = world.desired_state.offer(with_trust(&world.signer, 2, both())).await;
    assert!(matches!(refused, Err(Refusal::Store(_))));
    let unknown = world.desired_state.offer(signed_by(&next, 3)).await;
    assert!(matches!(unknown, Err(Refusal::Unverified(VerifyError::UnknownKey(_)))));
}

#[tokio::test]
async fn a_document_that_would_lock_the_host_out_changes_nothing() {
    let world = World::new().await;
    let next = Signer::generate().unwrap();
    world.desired_state.offer(signed_by(&world.signer, 1)).await.unwrap();
    let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let no_ca = Trust { cas: vec![noise], ..trust(&[&world.signer]) };
    for bad in [trust(&[&next]), no_ca] {
        let refused =
            world.desired_state.offer(with_trust(&world.signer, 2, bad)).await.unwrap_err();
        assert!(
            matches!(refused, Refusal::Trust(_) | Refusal::Unverified(VerifyError::Trust(_))),
            "{refused}"
        );
    }
    world.desired_state.offer(signed_by(&world.signer, 2)).await.unwrap();
}

/// A thief of the signing key may have used up the last epoch, too. The host joins again, with the
/// next key; what the previous key signed no longer counts, including its order.
#[tokio::test]
async fn fm_38_a_key_rotation_recovers_from_the_last_epoch() {
    let world = World::new().await;
    world.desired_state.offer(world.envelope(u64::MAX, u64::MAX, "evil.example")).await.unwrap();
    let next = Signer::generate().unwrap();
    let World { dir, clock, store, desired_state, .. } = world;
    drop((desired_state, store));
    let (_, desired_state) = restore(&dir, &next, &clock).await;
    assert!(desired_state.subscribe().borrow().is_none(), "what a thief signed is not obeyed");
    desired_state.offer(signed_by(&next, 1)).await.unwrap();
    // From there on, its own order holds.
    let older = desired_state.offer(signed_by(&next, 0)).await;
    assert!(matches!(older, Err(Refusal::Stale { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Replayed, repeated and reordered at will: the generation in force never goes back.
    #[test]
    fn fm_09_the_generation_never_goes_back_in_any_document_order(
        places in prop::collection::vec((1..3_u64, 0..6_u64, any::<bool>()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut newest = None;
            for (epoch, generation, restart) in places {
                let place = Generation { epoch, generation };
                let offered = world.desired_state.offer(world.envelope(epoch, generation, "a.example"));
                assert_eq!(offered.await.is_ok(), newest.is_none_or(|held| place >= held));
                newest = newest.max(Some(place));
                if restart {
                    world = world.reopen().await;
                }
                let held = world.desired_state.subscribe().borrow().clone().unwrap();
                assert_eq!(Some(held.manifest().generation), newest);
            }
        });
    }
}
