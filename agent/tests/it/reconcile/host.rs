//! A host with its disk and its coordinator, and the agent that runs on it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use buddo_agent::adapters::store::Store;
use buddo_agent::config::{Drain, Network};
use buddo_agent::control::desired_state::DesiredState;
use buddo_agent::host::disk::ImageLeases;
use buddo_agent::model::host_facts::{HostFacts, LimitRule};
use buddo_agent::model::snapshot::{DeploymentSnapshot, HostSnapshot};
use buddo_agent::model::trust::TrustRoots;
use buddo_agent::ports::{DesiredStateSink as _, EventFeed, Outbox as _};
use buddo_agent::process::metrics::Metrics;
use buddo_agent::reconcile::report::Status;
use buddo_agent::reconcile::{Inputs, Reconciler, Rendered, Settings, Shared};
use buddo_runtime::clock::{Clock as _, SystemClock};
use buddo_shared::host_wire::manifest::{
    DeploymentSpec, Manifest, RunState, SCHEMA, ServiceSpec, Strategy, Trust,
};
use buddo_shared::host_wire::report::{Phase, ReportBody};
use buddo_shared::host_wire::sealed::{OpeningKey, Sealed, SealingKey};
use buddo_shared::host_wire::signed::Signer;
use buddo_shared::model::env::EnvVars;
use buddo_shared::model::id::{DeploymentId, Generation, HostId, Revision};
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::name::{HostName, Subdomain};
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::{ServiceName, SpecDigest};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::machine::{InMemory, Life, Machine, Table};

/// The host, its disk and its coordinator.
pub(crate) struct Host {
    pub(crate) machine: Arc<Machine>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) signer: Signer,
    pub(crate) opening: String,
    pub(crate) sealing: SealingKey,
    pub(crate) generation: u64,
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) life: Arc<Life>,
    pub(crate) desired_state: Arc<DesiredState<SystemClock>>,
    pub(crate) status: Status,
    pub(crate) snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    pub(crate) hints: watch::Sender<u64>,
    /// Rung when a new event stream is wanted.
    pub(crate) renew: Arc<Notify>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: Vec<tokio::task::JoinHandle<()>>,
    _facts: watch::Sender<HostFacts>,
    _healthy: watch::Sender<bool>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

pub(crate) fn app(n: u128) -> DeploymentId {
    DeploymentId::new(Uuid::from_u128(n))
}

/// The same deployment with another public service.
pub(crate) fn edited(
    desired: DeploymentSpec,
    edit: impl FnOnce(&mut ServiceSpec),
) -> DeploymentSpec {
    let mut service = desired.services.public().clone();
    edit(&mut service);
    DeploymentSpec { services: vec![service].try_into().unwrap(), ..desired }
}

impl Host {
    pub(crate) fn new() -> Self {
        let (opening, sealing) = OpeningKey::generate().unwrap();
        Self {
            machine: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
            signer: Signer::generate().unwrap(),
            opening: opening.to_text().expose().to_owned(),
            sealing,
            generation: 0,
        }
    }

    /// Starts an agent that is killed after so many calls.
    pub(crate) async fn agent(&self, calls: i64, last_has_effect: bool) -> Agent {
        let life = Arc::new(Life {
            machine: Arc::clone(&self.machine),
            calls_left: AtomicI64::new(calls),
            last_has_effect,
            killed: Notify::new(),
            lines: watch::Sender::new(0),
        });
        let store = Store::open(&self.dir.path().join("agent.db"), 0).unwrap();
        let status = Status::new(store.clone());
        let host = HostId::new(Uuid::from_u128(9));
        let signing_keys = vec![self.signer.public().clone()];
        let trust_roots =
            TrustRoots::new(host, Trust { signing_keys, cas: vec![some_ca()] }).unwrap();
        let clock = Arc::new(SystemClock);
        let desired_state =
            DesiredState::restore(trust_roots, store.clone(), Arc::clone(&clock)).await.unwrap();
        let (facts, known) =
            watch::channel(HostFacts { limits: LimitRule::Enforced, ..HostFacts::default() });
        let (hints, hinted) = watch::channel(0);
        let (healthy, seen_healthy) = watch::channel(true);
        let renew = Arc::new(Notify::new());
        let events = EventFeed {
            hints: hinted,
            named: Arc::default(),
            lines: life.lines.subscribe(),
            healthy: seen_healthy,
            renew: Arc::clone(&renew),
        };
        let world = InMemory {
            life: Arc::clone(&life),
            table: Arc::new(Table(Arc::clone(&self.machine))),
            clock,
            jitter: Arc::new(|| 0.5),
        };
        let inputs = Inputs {
            document: desired_state.subscribe(),
            alarm: desired_state.alarm(),
            facts: known,
        };
        let settings = Settings {
            network: Network {
                slot_a: Ipv4Addr::new(127, 64, 0, 0),
                slot_b: Ipv4Addr::new(127, 96, 0, 0),
                special: Ipv4Addr::new(127, 63, 0, 1),
                app_port: 8000,
            },
            drain: Drain {
                before_stop: Duration::from_millis(30),
                stop_grace: Duration::from_millis(10),
            },
            render: Arc::new(|zone, _| Rendered {
                files: [("zone.caddy".to_owned(), zone.to_string())].into(),
                zone: "zone.caddy".to_owned(),
                own: BTreeMap::new(),
            }),
            joined: true,
            key: Some(Arc::new(OpeningKey::from_text(&Secret::new(self.opening.clone())).unwrap())),
            previous: Some(self.machine.table.lock().unwrap().clone()),
            watched_exits: usize::MAX,
        };
        let shared = Shared {
            store,
            status: status.clone(),
            image_leases: ImageLeases::default(),
            metrics: Metrics::default(),
        };
        let reconciler = Reconciler::restore(world, inputs, events, settings, shared);
        let reconciler = reconciler.await.unwrap();
        let snapshot = reconciler.snapshot();
        let stop = CancellationToken::new();
        let writer = status.clone();
        let tasks = vec![
            tokio::spawn(reconciler.run(stop.clone())),
            tokio::spawn(async move {
                writer.write(&SystemClock).await.unwrap();
            }),
        ];
        Agent {
            life,
            desired_state: Arc::new(desired_state),
            status,
            snapshot,
            hints,
            renew,
            stop,
            tasks,
            _facts: facts,
            _healthy: healthy,
        }
    }

    pub(crate) fn desired(&self, n: u128, revision: u32, run: RunState) -> DeploymentSpec {
        let env = EnvVars::parse([("TOKEN".to_owned(), Secret::new(format!("v{revision}")))]);
        let plain = env.unwrap().to_plain_json();
        let service = ServiceSpec {
            name: ServiceName::APP,
            revision: Revision::new(revision),
            spec: SpecDigest::from_bytes(&[0; 32]),
            replicas: 1,
            public: true,
            image: ImageReference::parse("ghcr.io/a/b:1").unwrap(),
            digest: None,
            port: Port::DEFAULT,
            limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
            probe: Probe { start_deadline_ms: 400, ..Probe::default() },
            strategy: Strategy::Rolling,
            env: Some(Sealed::seal(&self.sealing, Sealed::ENVIRONMENT, app(n), &plain).unwrap()),
            registry_credentials: None,
        };
        DeploymentSpec {
            id: app(n),
            revision: Revision::new(revision),
            subdomain: Subdomain::parse(&format!("blog-{n}")).unwrap(),
            run,
            domains: Vec::new(),
            services: vec![service].try_into().unwrap(),
            auto_rollback: None,
            kept_images: Vec::new(),
        }
    }

    pub(crate) async fn push(&mut self, agent: &Agent, deployments: Vec<DeploymentSpec>) {
        self.generation += 1;
        let now = SystemClock.now();
        let manifest = Manifest {
            schema: SCHEMA,
            host_id: HostId::new(Uuid::from_u128(9)),
            generation: Generation { epoch: 1, generation: self.generation },
            issued_at: now,
            expires_at: now + Duration::from_hours(1),
            zone: HostName::parse("apps.example").unwrap(),
            deployments,
            trust: None,
        };
        let envelope = self.signer.sign(&manifest).unwrap();
        agent.desired_state.offer(envelope.bytes.into()).await.unwrap();
    }

    pub(crate) fn running(&self) -> Vec<String> {
        let containers = self.machine.containers.lock().unwrap();
        containers.keys().cloned().collect()
    }
}

impl Agent {
    /// Waits until an app is as `wanted`; returns that snapshot.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&[DeploymentSnapshot]) -> bool,
    ) -> Arc<HostSnapshot> {
        let mut snapshot = self.snapshot.clone();
        let seen = snapshot.wait_for(|p| p.as_ref().is_some_and(|p| wanted(&p.deployments)));
        let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
        match seen {
            Ok(Ok(seen)) => seen.clone().unwrap(),
            _ => panic!("never {what}: {:#?}", self.snapshot.borrow()),
        }
    }

    /// Waits until a report says what is `wanted`.
    pub(crate) async fn until_reported(&self, wanted: impl Fn(&ReportBody) -> bool) -> ReportBody {
        let mut changed = self.status.changed();
        let reported = async {
            loop {
                let reports = self.status.after(0, 100).await.unwrap();
                if let Some(report) = reports.into_iter().find(|report| wanted(&report.body)) {
                    return report.body;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reported).await.unwrap()
    }

    pub(crate) async fn until_live(&self, revision: u32) {
        self.until(&format!("live with r{revision}"), |apps| {
            apps.len() == 1
                && apps[0].status.phase == Phase::Live
                && apps[0].status.serving == Some(Revision::new(revision))
                && apps[0].containers.len() == 1
                && apps[0].doing.is_empty()
        })
        .await;
    }
}

pub(crate) const FOREVER: i64 = i64::MAX / 2;

/// The loop does not use authorities, but a host has at least one.
fn some_ca() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}
