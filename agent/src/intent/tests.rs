use std::sync::atomic::{AtomicI64, Ordering};

use buddo_shared::id::{HostId, Revision};
use buddo_shared::image::ImageReference;
use buddo_shared::limits::Limits;
use buddo_shared::manifest::{RunState, SCHEMA, Strategy};
use buddo_shared::name::{HostName, Subdomain};
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use buddo_shared::signed::Signer;
use uuid::Uuid;

use super::*;

const NOW: i64 = 1_800_000_000;

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct World {
    dir: tempfile::TempDir,
    signer: Signer,
    clock: Arc<SetClock>,
    store: Store,
    intent: Intent<SetClock>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::generate().unwrap();
        let clock = Arc::new(SetClock(AtomicI64::new(NOW)));
        let (store, intent) = restore(&dir, &signer, &clock).await;
        Self { dir, signer, clock, store, intent }
    }

    /// As after a restart of the agent.
    async fn reopen(self) -> Self {
        let Self { dir, signer, clock, store, intent } = self;
        drop((intent, store));
        let (store, intent) = restore(&dir, &signer, &clock).await;
        Self { dir, signer, clock, store, intent }
    }

    fn envelope(&self, epoch: u64, generation: u64, zone: &str) -> Bytes {
        self.envelope_at(epoch, generation, zone, NOW)
    }

    fn envelope_at(&self, epoch: u64, generation: u64, zone: &str, issued: i64) -> Bytes {
        self.signer.sign(&manifest(epoch, generation, zone, issued)).unwrap().bytes.into()
    }

    /// One that needs more room than the one before.
    fn large_envelope(&self, generation: u64) -> Bytes {
        let mut manifest = manifest(1, generation, "two.example", NOW);
        let names = (0..500).map(|n| HostName::parse(&format!("www-{n}.example.org")).unwrap());
        manifest.deployments.push(Desired {
            id: DeploymentId::new(Uuid::from_u128(2)),
            revision: Revision::FIRST,
            subdomain: Subdomain::parse("blog").unwrap(),
            run: RunState::Stopped,
            image: ImageReference::parse("ghcr.io/a/b:1").unwrap(),
            digest: None,
            port: Port::DEFAULT,
            limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
            domains: names.collect(),
            probe: Probe::default(),
            strategy: Strategy::Rolling,
            env: None,
            registry_credentials: None,
            guard: None,
            kept_images: Vec::new(),
        });
        self.signer.sign(&manifest).unwrap().bytes.into()
    }

    fn zone(&self) -> Option<String> {
        let document = self.intent.subscribe().borrow().clone();
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

async fn restore(
    dir: &tempfile::TempDir,
    signer: &Signer,
    clock: &Arc<SetClock>,
) -> (Store, Intent<SetClock>) {
    let store = Store::open(&dir.path().join("agent.db"), 0).unwrap();
    let host = HostId::new(Uuid::from_u128(1));
    let verifier = Verifier::new(host, std::slice::from_ref(signer.public())).unwrap();
    let intent = Intent::restore(verifier, store.clone(), Arc::clone(clock)).await.unwrap();
    (store, intent)
}

#[tokio::test]
async fn an_accepted_document_is_announced_and_survives_a_restart() {
    let world = World::new().await;
    let accepted = world.intent.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    assert_eq!(accepted.generation, Generation { epoch: 1, generation: 7 });
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    let world = world.reopen().await;
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    // And its place in the order is remembered too.
    let older = world.intent.offer(world.envelope(1, 6, "old.example")).await;
    assert!(matches!(older, Err(Refusal::Stale { .. })));
}

#[tokio::test]
async fn fm_35_an_older_document_and_other_content_are_refused_and_alarm() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    let older = world.intent.offer(world.envelope(1, 6, "two.example")).await;
    assert!(matches!(older, Err(Refusal::Stale { .. })));
    let other = world.intent.offer(world.envelope(1, 7, "two.example")).await;
    assert!(matches!(other, Err(Refusal::Conflict(_))));
    assert!(world.intent.alarm().borrow().as_ref().unwrap().contains("other content"));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    world.intent.offer(world.envelope(1, 8, "two.example")).await.unwrap();
    assert!(world.intent.alarm().borrow().is_none());
}

#[tokio::test]
async fn fm_09_a_repeated_document_is_acknowledged_again_without_effect() {
    let world = World::new().await;
    let first = world.intent.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    let mut current = world.intent.subscribe();
    current.mark_unchanged();
    let again = world.intent.offer(world.envelope(1, 7, "one.example")).await.unwrap();
    assert_eq!(first, again);
    assert!(!current.has_changed().unwrap());
}

#[tokio::test]
async fn fm_38_a_higher_epoch_recovers_from_the_last_generation() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, u64::MAX, "one.example")).await.unwrap();
    let world = world.reopen().await;
    world.intent.offer(world.envelope(2, 1, "two.example")).await.unwrap();
    assert_eq!(world.zone().as_deref(), Some("two.example"));
}

#[tokio::test]
async fn fm_11_a_clock_far_ahead_refuses_new_documents_and_keeps_the_old_one() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    world.clock.0.store(NOW + 365 * 86_400, Ordering::SeqCst);
    let refused = world.intent.offer(world.envelope(1, 2, "two.example")).await;
    assert!(matches!(refused, Err(Refusal::Expired { .. })));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    // The jump left no trace: when the clock is right again, documents are accepted.
    world.clock.0.store(NOW + 10, Ordering::SeqCst);
    world.intent.offer(world.envelope(1, 2, "two.example")).await.unwrap();
}

#[tokio::test]
async fn fm_12_a_clock_in_1970_does_not_revive_an_expired_document() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    let world = world.reopen().await;
    world.clock.0.store(0, Ordering::SeqCst);
    let stale = world.envelope_at(1, 2, "two.example", NOW - 7_200);
    assert!(matches!(world.intent.offer(stale).await, Err(Refusal::Expired { .. })));
    world.intent.offer(world.envelope(1, 3, "two.example")).await.unwrap();
}

#[tokio::test]
async fn a_forged_document_changes_nothing() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    let thief = World { signer: Signer::generate().unwrap(), ..World::new().await };
    let forged = thief.envelope(1, 2, "evil.example");
    assert!(matches!(world.intent.offer(forged).await, Err(Refusal::Unverified(_))));
    assert_eq!(world.zone().as_deref(), Some("one.example"));
}

#[tokio::test]
async fn fm_13_a_full_disk_leaves_the_old_document_in_force_and_says_so() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    world.store.fill().await;
    let refused = world.intent.offer(world.large_envelope(2)).await;
    assert!(matches!(refused, Err(Refusal::Store(_))), "acknowledged and not stored: {refused:?}");
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    let alarm = world.intent.alarm().borrow().clone().unwrap();
    for part in ["the old one stays in force", "free disk space", "database or disk is full"] {
        assert!(alarm.contains(part), "{part:?} is missing in: {alarm}");
    }
    // Its place in the order was not taken, and nothing of it is on disk.
    world.store.make_room().await;
    let world = world.reopen().await;
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    world.intent.offer(world.large_envelope(2)).await.unwrap();
    assert!(world.intent.alarm().borrow().is_none());
}

#[tokio::test]
async fn fm_14_what_the_database_does_not_confirm_is_not_acknowledged() {
    let world = World::new().await;
    world.intent.offer(world.envelope(1, 1, "one.example")).await.unwrap();
    world.store.refuse_writes().await;
    for _ in 0..2 {
        let refused = world.intent.offer(world.envelope(1, 2, "two.example")).await;
        assert!(matches!(refused, Err(Refusal::Store(_))), "{refused:?}");
        assert_eq!(world.zone().as_deref(), Some("one.example"));
    }
    let world = world.reopen().await;
    assert_eq!(world.zone().as_deref(), Some("one.example"));
    world.intent.offer(world.envelope(1, 2, "two.example")).await.unwrap();
}
