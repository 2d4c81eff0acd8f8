use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use buddo_shared::host_wire::manifest::{AutoRollback, DeploymentSpec, Fallback, ServiceSpec};
use buddo_shared::host_wire::report::{DeploymentStatus, Phase, ServiceStatus};
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::Digest;

use super::*;
use crate::config;
use crate::process::disk_space::Measure;
use crate::testing::{desired, document, service, snapshot};

const MB: u64 = 1_000_000;

/// A disk of 100 MB that holds only images.
#[derive(Default)]
struct Storage {
    images: Mutex<Vec<LocalImage>>,
    /// Podman refuses these: a container has started using them since the list.
    refused: BTreeSet<String>,
    other: Mutex<u64>,
}

impl Storage {
    fn ids(&self) -> Vec<String> {
        self.images.lock().unwrap().iter().map(|image| image.id.clone()).collect()
    }

    fn space(&self) -> Space {
        let images: u64 = self.images.lock().unwrap().iter().map(|image| image.bytes).sum();
        let used = images + *self.other.lock().unwrap();
        Space { used, free: (100 * MB).saturating_sub(used) }
    }
}

impl Images for Storage {
    async fn images(&self) -> Result<Vec<LocalImage>, ContainersError> {
        Ok(self.images.lock().unwrap().clone())
    }

    async fn remove_image(&self, image: &LocalImage) -> Result<(), ContainersError> {
        if self.refused.contains(&image.id) {
            let message = "image is in use by a container".to_owned();
            return Err(ContainersError::Refused { operation: "remove", status: 409, message });
        }
        self.images.lock().unwrap().retain(|other| other.id != image.id);
        Ok(())
    }
}

fn digest(hex: char) -> Digest {
    Digest::parse(&format!("sha256:{}", hex.to_string().repeat(64))).unwrap()
}

/// The image of this digest, in a repository of its own.
fn image(hex: char, megabytes: u64) -> LocalImage {
    let name = format!("ghcr.io/a/{hex}@{}", digest(hex));
    LocalImage {
        id: hex.to_string(),
        names: vec![ImageReference::parse(&name).unwrap()],
        former: Vec::new(),
        digest: Some(digest(hex)),
        foreign: false,
        bytes: megabytes * MB,
        in_use: false,
    }
}

fn reference(hex: char) -> ImageReference {
    ImageReference::parse(&format!("ghcr.io/a/{hex}:v1")).unwrap()
}

struct Host {
    storage: Arc<Storage>,
    image_gc: ImageGc<Storage>,
    unused_since: UnusedSince,
}

impl Host {
    fn new(images: Vec<LocalImage>, deployments: Vec<DeploymentSpec>, refused: &[&str]) -> Self {
        let refused = refused.iter().map(|id| (*id).to_owned()).collect();
        let storage =
            Arc::new(Storage { images: Mutex::new(images), refused, ..Storage::default() });
        let rules = config::Disk {
            reserve: 0,
            high_percent: 80,
            low_percent: 60,
            floor: 10 * MB,
            keep_unused: Duration::from_hours(24),
            collect: true,
        };
        let measured = Arc::clone(&storage);
        let measure: Measure = Arc::new(move |_: &Path| Ok(measured.space()));
        let disk_space = DiskSpace::new(rules, "/state".into(), measure);
        disk_space.images_lie_in(vec!["/images".into()]);
        let document = watch::channel(Some(Arc::new(document(deployments)))).1;
        let image_gc = ImageGc {
            images: Arc::clone(&storage),
            disk_space,
            image_leases: ImageLeases::default(),
            document,
            snapshot: watch::channel(Some(Arc::new(snapshot(true)))).1,
            facts: watch::Sender::new(HostFacts::default()),
            metrics: Metrics::default(),
            jitter: Arc::new(|| 0.0),
            reserve: Reserve::none(),
        };
        Self { storage, image_gc, unused_since: UnusedSince::default() }
    }

    async fn round(&mut self) -> Vec<String> {
        self.image_gc.round(&mut self.unused_since).await;
        self.storage.ids()
    }

    fn warnings(&self) -> Vec<String> {
        self.image_gc.facts.borrow().disk.clone()
    }
}

/// The service of this name with the image of this digest.
fn of_image(name: &str, revision: u32, hex: char) -> ServiceSpec {
    ServiceSpec {
        revision: Revision::new(revision),
        digest: Some(digest(hex)),
        public: name == "app",
        ..service(name, &reference(hex).to_string())
    }
}

/// A deployment of `now` in revision 2, with an auto rollback to `before`.
fn with_fallback(now: Vec<ServiceSpec>, before: Vec<ServiceSpec>) -> DeploymentSpec {
    let services = before.try_into().unwrap();
    let fallback = Fallback { revision: Revision::FIRST, services };
    DeploymentSpec {
        revision: Revision::new(2),
        services: now.try_into().unwrap(),
        auto_rollback: Some(Box::new(AutoRollback { seconds: 300, fallback })),
        ..desired(1, "ghcr.io/a/a:v1")
    }
}

/// A deployment that runs `a`, would be rolled back to `b`, and can restore `c`.
fn needs_three() -> DeploymentSpec {
    DeploymentSpec {
        kept_images: vec![reference('c').pinned(&digest('c'))],
        ..with_fallback(vec![of_image("app", 2, 'a')], vec![of_image("app", 1, 'b')])
    }
}

/// The images of all services stay, and those of its fallback; so does what a host resolved by
/// itself.
#[tokio::test(start_paused = true)]
async fn each_service_keeps_its_image() {
    let tagged = ServiceSpec { digest: None, ..of_image("cache", 2, 'd') };
    let app = with_fallback(
        vec![of_image("app", 2, 'a'), of_image("worker", 2, 'b'), tagged],
        vec![of_image("app", 1, 'c'), of_image("worker", 1, 'e')],
    );
    let all = ['a', 'b', 'c', 'd', 'e', 'f', '1'];
    let mut host = Host::new(all.map(|hex| image(hex, 10)).to_vec(), vec![app.clone()], &[]);
    let status = |name: &str, hex| ServiceStatus {
        name: name.parse().unwrap(),
        revision: Revision::new(2),
        phase: Phase::Live,
        digest: Some(digest(hex)),
        failure: None,
        replicas: Vec::new(),
    };
    let mut told = snapshot(true);
    told.deployments = vec![crate::testing::deployment_snapshot(DeploymentStatus {
        services: vec![status("cache", 'd'), status("other", 'f')],
        ..crate::testing::status(app.id)
    })];
    host.image_gc.snapshot = watch::channel(Some(Arc::new(told))).1;
    *host.storage.other.lock().unwrap() = 25 * MB;
    assert_eq!(host.round().await, ["a", "b", "c", "d", "e", "f"]);
}

/// What a deployment runs, what it falls back to and what can be restored all stay, however
/// full the disk is; so does what a container uses.
#[tokio::test(start_paused = true)]
async fn image_gc_removes_only_unneeded_images_and_stops_at_the_low_mark() {
    let app = needs_three();
    let tagged = LocalImage {
        names: vec![reference('d'), reference('d').pinned(&digest('d'))],
        ..image('d', 10)
    };
    let used = LocalImage { in_use: true, ..image('e', 10) };
    let images = vec![
        image('a', 10),
        image('b', 10),
        image('c', 10),
        tagged,
        used,
        image('1', 20),
        image('2', 9),
        image('3', 9),
    ];
    let mut host = Host::new(images, vec![app, desired(2, "ghcr.io/a/d:v1")], &[]);
    assert_eq!(host.storage.space().percent(), 88);
    // 88 % is above the high mark; the largest first, then on to below 60 %, no further.
    assert_eq!(host.round().await, ["a", "b", "c", "d", "e", "3"]);
    assert!(host.warnings().is_empty(), "{:?}", host.warnings());
    assert_eq!(host.round().await.len(), 6, "below the high mark, young ones stay");
    tokio::time::advance(Duration::from_hours(24)).await;
    assert_eq!(host.round().await, ["a", "b", "c", "d", "e"], "a day unused is enough");
    // Nothing is left to collect: that is reported, and what is needed stays.
    *host.storage.other.lock().unwrap() = 35 * MB;
    assert_eq!(host.round().await.len(), 5);
    assert!(host.warnings()[0].contains("85 % full"), "{:?}", host.warnings());
    *host.storage.other.lock().unwrap() = 45 * MB;
    host.round().await;
    assert!(host.warnings()[0].contains("no image is pulled"), "{:?}", host.warnings());
    *host.storage.other.lock().unwrap() = 0;
    host.round().await;
    assert!(host.warnings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_removal_does_not_hold_up_the_others() {
    let images = vec![image('1', 50), image('2', 40)];
    let mut host = Host::new(images, Vec::new(), &["1"]);
    assert_eq!(host.round().await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_leased_image_stays_until_the_lease_ends() {
    let mut host = Host::new(vec![image('1', 90)], Vec::new(), &[]);
    let lease = host.image_gc.image_leases.lease(&reference('1')).await;
    assert_eq!(host.round().await, ["1"]);
    drop(lease);
    assert!(host.round().await.is_empty());
}

/// What a moved tag left behind: an operation may want it by its digest, and whatever the host
/// needs it for, that alone makes it needed.
#[tokio::test(start_paused = true)]
async fn fm_33_an_untagged_image_is_removed_unless_leased_or_needed() {
    let nameless =
        |hex| LocalImage { names: Vec::new(), former: vec![reference(hex)], ..image(hex, 20) };
    let app = needs_three();
    let images = ['a', 'b', 'c', '1'].map(nameless).to_vec();
    let mut host = Host::new(images, vec![app], &[]);
    *host.storage.other.lock().unwrap() = 15 * MB;
    let lease = host.image_gc.image_leases.lease(&reference('1')).await;
    assert_eq!(host.round().await, ["a", "b", "c", "1"]);
    drop(lease);
    assert_eq!(host.round().await, ["a", "b", "c"]);
}

/// Without a document, or before the first pass with it, nothing is known to be unneeded.
#[tokio::test(start_paused = true)]
async fn images_stay_until_a_pass_has_seen_the_document() {
    for (document, snapshot) in [
        (None, Some(Arc::new(snapshot(true)))),
        (Some(Arc::new(document(Vec::new()))), None),
        (Some(Arc::new(document(Vec::new()))), {
            let mut older = snapshot(true);
            older.host.document = None;
            Some(Arc::new(older))
        }),
    ] {
        let mut host = Host::new(vec![image('1', 90)], Vec::new(), &[]);
        host.image_gc.document = watch::channel(document).1;
        host.image_gc.snapshot = watch::channel(snapshot).1;
        assert_eq!(host.round().await, ["1"]);
    }
}

/// A host without images, with a reserve of its disk in this folder.
fn with_reserve(folder: &Path) -> (Host, Reserve) {
    let reserve = Reserve::new(folder.join("reserve"), MIB);
    let mut host = Host::new(Vec::new(), Vec::new(), &[]);
    host.image_gc.reserve = reserve.clone();
    (host, reserve)
}

#[tokio::test(start_paused = true)]
async fn a_missing_reserve_is_warned_about_until_it_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (mut host, reserve) = with_reserve(folder.path());
    *host.storage.other.lock().unwrap() = 99 * MB;
    host.round().await;
    let told = |host: &Host| host.warnings().iter().any(|w| w.contains("the reserve of 1 MiB"));
    assert!(told(&host) && !reserve.is_whole(), "{:?}", host.warnings());
    *host.storage.other.lock().unwrap() = 0;
    host.round().await;
    assert!(!told(&host) && reserve.is_whole(), "{:?}", host.warnings());
}

#[tokio::test(start_paused = true)]
async fn a_released_reserve_is_restored_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (host, reserve) = with_reserve(folder.path());
    let keeping = tokio::spawn(host.image_gc.run());
    let whole = async || {
        while !reserve.is_whole() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PRESSED, whole()).await.expect("it is made");
    assert!(reserve.let_go());
    tokio::time::timeout(PRESSED, whole()).await.expect("it is made only at the next regular look");
    keeping.abort();
}
