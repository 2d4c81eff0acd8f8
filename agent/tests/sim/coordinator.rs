//! The coordinator: operators' wishes, signed documents on their way, reports that come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buddo_agent::control::desired_state::DesiredState;
use buddo_agent::ports::{DesiredStateSink as _, Outbox as _, Refusal};
use buddo_agent::reconcile::report::Status;
use buddo_shared::host_wire::manifest::{
    DeploymentSpec, Manifest, RunState, SCHEMA, ServiceSpec, Strategy, Trust,
};
use buddo_shared::host_wire::report::{DeploymentStatus, ReportBody};
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
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::clock::{DAYS, SimClock, true_time};
use crate::faults::Swarm;
use crate::podman::digest_of_tag;
use crate::story::documents::{Documents, deployment};
use crate::world::{State, World};

/// The simulated host.
pub(crate) fn host() -> HostId {
    HostId::new(Uuid::from_u128(9))
}

/// Keys, made once: no rule depends on which they are.
pub(crate) struct Keys {
    /// Signs documents.
    pub(crate) signer: Signer,
    /// Another's key.
    pub(crate) foreign: Signer,
    sealing: SealingKey,
    opening: Secret,
    /// No rule depends on authorities either, but a host trusts one at least.
    ca: String,
}

impl Keys {
    /// New ones.
    pub(crate) fn generate() -> Self {
        let (opening, sealing) = OpeningKey::generate().expect("a key");
        Self {
            signer: Signer::generate().expect("a key"),
            foreign: Signer::generate().expect("a key"),
            sealing,
            opening: opening.to_text(),
            ca: some_ca(),
        }
    }

    /// Whom the host trusts.
    pub(crate) fn trust(&self) -> Trust {
        Trust { signing_keys: vec![self.signer.public().clone()], cas: vec![self.ca.clone()] }
    }

    /// The host's key.
    pub(crate) fn opening(&self) -> OpeningKey {
        OpeningKey::from_text(&self.opening).expect("a key")
    }

    /// The environment of a revision: one variable that holds its number.
    fn seal(&self, id: DeploymentId, revision: Revision) -> Sealed {
        let env = EnvVars::parse([("TOKEN".to_owned(), Secret::new(format!("v{revision}")))]);
        let plain = env.expect("valid").to_plain_json();
        Sealed::seal(&self.sealing, Sealed::ENVIRONMENT, id, &plain).expect("sealed")
    }

    /// A deployment's entry for revision `revision`, with the image of revision `image`: one public
    /// service with one replica.
    pub(crate) fn desired(&self, app: u64, n: u64, revision: u32, image: u32) -> DeploymentSpec {
        let id = deployment(n);
        let revision = Revision::new(revision);
        let services = vec![self.service(n, ServiceName::APP, revision, image)];
        DeploymentSpec {
            id,
            revision,
            subdomain: Subdomain::parse(&format!("app-{app}")).expect("valid"),
            run: RunState::Running,
            domains: Vec::new(),
            services: services.try_into().expect("services"),
            auto_rollback: None,
            kept_images: Vec::new(),
        }
    }

    /// The same, of as many services and replicas as the deployment's number says: up to three and
    /// two. One of them comes and goes with revisions.
    pub(crate) fn desired_of_several(
        &self,
        app: u64,
        n: u64,
        revision: u32,
        image: u32,
    ) -> DeploymentSpec {
        let desired = self.desired(app, n, revision, image);
        let service = |name: &str, replicas| ServiceSpec {
            replicas,
            ..self.service(n, ServiceName::parse(name).expect("valid"), desired.revision, image)
        };
        let mut services = vec![service("app", if n % 4 == 2 { 2 } else { 1 })];
        if !n.is_multiple_of(4) {
            services.push(service("worker", if n % 4 == 3 { 2 } else { 1 }));
        }
        if n % 4 == 3 && revision % 2 == 1 {
            services.push(service("queue", 1));
        }
        DeploymentSpec { services: services.try_into().expect("services"), ..desired }
    }

    fn service(&self, n: u64, name: ServiceName, revision: Revision, image: u32) -> ServiceSpec {
        let public = name == ServiceName::APP;
        let of = if public { String::new() } else { format!("-{name}") };
        ServiceSpec {
            name,
            revision,
            spec: SpecDigest::from_bytes(&[0; 32]),
            replicas: 1,
            public,
            image: ImageReference::parse(&format!("ghcr.io/a/b:{n}r{image}{of}")).expect("valid"),
            digest: None,
            port: Port::DEFAULT,
            limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
            probe: Probe {
                start_deadline_ms: 5_000,
                timeout_ms: 500,
                interval_ms: 3_000,
                ..Probe::default()
            },
            strategy: Strategy::Rolling,
            env: n.is_multiple_of(2).then(|| self.seal(deployment(n), revision)),
            registry_credentials: None,
        }
    }
}

/// The coordinator's database, and what was reported to it.
#[derive(Default)]
pub(crate) struct Books {
    /// What operators want, and what became of it.
    pub(crate) documents: Documents,
    /// What the last acknowledged document wants.
    pub(crate) held: Arc<[DeploymentSpec]>,
    /// What the one acknowledged before it wanted.
    pub(crate) held_before: Arc<[DeploymentSpec]>,
    /// The newest document.
    pub(crate) generation: u64,
    newest: Option<Bytes>,
    older: Vec<(u64, Bytes)>,
    /// The generation in which a deployment was last not to run, or not there.
    idle_in: BTreeMap<DeploymentId, u64>,
    /// What the agent said it holds.
    pub(crate) acked: u64,
    cursor: u64,
    seen: BTreeMap<u64, ReportBody>,
    /// The last level of each deployment; `Removed` stays.
    pub(crate) levels: BTreeMap<DeploymentId, ReportBody>,
    /// The host's last level.
    pub(crate) host: Option<ReportBody>,
    /// No connection until then.
    pub(crate) away_until: Option<Instant>,
}

impl Books {
    /// Empty ones.
    pub(crate) fn of(swarm: Swarm) -> Self {
        let documents = Documents::new(swarm.rollback_window_s, swarm.deaf);
        Self { documents, ..Self::default() }
    }

    /// Whether no document that the agent may still follow stops it.
    pub(crate) fn is_wanted_for_sure(&self, id: DeploymentId) -> bool {
        self.idle_in.get(&id).is_some_and(|idle| self.acked > *idle)
    }

    /// The newest document and its generation.
    pub(crate) fn newest_document(&self) -> Option<(u64, Bytes)> {
        self.newest.clone().map(|document| (self.generation, document))
    }

    /// What is wanted, as a document.
    pub(crate) fn manifest(&self, generation: u64, at: Duration) -> Manifest {
        Manifest {
            schema: SCHEMA,
            host_id: host(),
            generation: Generation { epoch: 1, generation },
            issued_at: true_time(at, 0),
            expires_at: true_time(at + Duration::from_hours(1), 0),
            zone: HostName::parse("apps.example").expect("valid"),
            deployments: self.documents.wanted.values().cloned().collect(),
            trust: None,
        }
    }

    /// Makes what is wanted the newest document.
    pub(crate) fn sign(&mut self, keys: &Keys, at: Duration) {
        self.generation += 1;
        self.documents.complete();
        for desired in self.documents.wanted.values() {
            let idle = desired.run != RunState::Running || !self.idle_in.contains_key(&desired.id);
            if idle {
                let since = if desired.run == RunState::Running {
                    self.generation - 1
                } else {
                    self.generation
                };
                self.idle_in.insert(desired.id, since);
            }
        }
        let envelope = keys.signer.sign(&self.manifest(self.generation, at)).expect("signed");
        let before = self.newest.replace(envelope.bytes.into());
        self.older.extend(before.map(|before| (self.generation - 1, before)));
    }
}

/// The agent's end of the connection.
#[derive(Clone)]
pub(crate) struct Line {
    /// Which agent.
    pub(crate) life: u32,
    /// Takes documents.
    pub(crate) desired_state: Arc<DesiredState<SimClock>>,
    /// Gives reports.
    pub(crate) status: Status,
    /// Changes with new reports.
    pub(crate) changed: watch::Receiver<u64>,
}

/// The connection to the current agent.
pub(crate) type Connection = Arc<Mutex<Option<Line>>>;

/// Pushes documents and takes reports, as long as the world exists.
pub(crate) async fn serve(world: Arc<World>, keys: Arc<Keys>, connection: Connection) {
    let mut connected = 0;
    loop {
        let pause = world.with(|state| state.rng.ms(50, 400));
        sleep(pause).await;
        let away = world.with(|state| state.books.away_until.is_some_and(|at| Instant::now() < at));
        let line = connection.lock().expect("not poisoned").clone().filter(|_| !away);
        let Some(mut line) = line.filter(|line| world.is_alive(line.life)) else { continue };
        push(&world, &keys, &line).await;
        let fresh = line.changed.has_changed().unwrap_or(false) || connected != line.life;
        if fresh && world.is_alive(line.life) {
            line.changed.mark_unchanged();
            if let Some(kept) =
                connection.lock().expect("not poisoned").as_mut().filter(|k| k.life == line.life)
            {
                kept.changed.borrow_and_update();
            }
            connected = if pull(&world, &keys, &line).await { line.life } else { 0 };
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

async fn push(world: &World, keys: &Keys, line: &Line) {
    let (newest, acked, generation, wrong, offered) = world.with(|state| {
        let wrong = state.books.acked > 0
            && !state.amnesia
            && state.rng.per_mille(state.swarm.wrong_document);
        let offered = state.books.documents.wanted.values().cloned().collect();
        (state.books.newest.clone(), state.books.acked, state.books.generation, wrong, offered)
    });
    if let Some(newest) = newest.filter(|_| acked < generation) {
        if let Ok(answer) = timeout(PATIENCE, line.desired_state.offer(newest)).await {
            world.act(|state| take_answer(state, generation, offered, answer));
        }
        if wrong {
            push_wrong(world, keys, line).await;
        }
    }
}

fn take_answer(
    state: &mut State,
    generation: u64,
    offered: Arc<[DeploymentSpec]>,
    answer: Result<buddo_shared::host_wire::report::Accepted, Refusal>,
) {
    match answer {
        Ok(accepted) if accepted.generation.generation == generation => {
            state.say(|| format!("document {generation} is accepted"));
            if !state.rng.per_mille(state.swarm.lose_acknowledgement) {
                state.books.acked = state.books.acked.max(generation);
                let before = std::mem::replace(&mut state.books.held, offered);
                // A pass under way may still publish what the previous document asked for.
                for idle in before.iter().filter(|desired| desired.run != RunState::Running) {
                    state.excuse(idle.id, "the document before stopped it");
                }
                state.books.held_before = before;
                state.amnesia = false;
            }
        }
        Ok(accepted) => {
            state.violate(format!("document {generation} is accepted as {}", accepted.generation));
        }
        Err(Refusal::Expired { .. }) if state.clock_offset > 0 => {}
        Err(Refusal::IssuedInFuture { .. }) if state.clock_offset < 0 => {}
        Err(Refusal::Store(_)) => {}
        Err(refusal) => state.violate(format!("document {generation} is refused: {refusal}")),
    }
}

/// Offers documents that must be refused.
async fn push_wrong(world: &World, keys: &Keys, line: &Line) {
    let (kind, acked, older, newest, current) = world.with(|state| {
        let older = state.rng.pick(&state.books.older).filter(|(g, _)| *g < state.books.acked);
        let current = state.books.acked == state.books.generation;
        (state.rng.below(6), state.books.acked, older, state.books.newest.clone(), current)
    });
    let elapsed = world.begun.elapsed();
    let forged = |generation: u64, change: &dyn Fn(&mut Manifest), signer: &Signer| {
        let mut manifest = world.with(|state| state.books.manifest(generation, elapsed));
        manifest.deployments.clear();
        change(&mut manifest);
        Some(Bytes::from(signer.sign(&manifest).expect("signed").bytes))
    };
    let envelope = match kind {
        0 => older.map(|(_, envelope)| envelope),
        1 => newest.filter(|_| current),
        2 => forged(acked, &|_| {}, &keys.signer),
        3 => forged(
            acked + 1_000,
            &|m| m.expires_at = true_time(Duration::ZERO, -3_600),
            &keys.signer,
        ),
        // As from a coordinator whose clock is days ahead.
        4 => forged(
            acked + 1_000,
            &|m| {
                m.issued_at = true_time(elapsed, DAYS);
                m.expires_at = true_time(elapsed, DAYS + 3_600);
            },
            &keys.signer,
        ),
        _ => forged(acked + 1_000, &|_| {}, &keys.foreign),
    };
    let Some(envelope) = envelope else { return };
    let Ok(answer) = timeout(PATIENCE, line.desired_state.offer(envelope)).await else { return };
    world.act(|state| {
        if state.books.acked != acked || state.amnesia {
            return;
        }
        let right = matches!(
            (&answer, kind),
            (Err(Refusal::Stale { .. }), 0)
                | (Ok(_), 1)
                | (Err(Refusal::Conflict(_) | Refusal::Stale { .. }), 2)
                | (Err(Refusal::Expired { .. }), 3)
                | (Err(Refusal::IssuedInFuture { .. } | Refusal::Expired { .. }), 4)
                | (Err(Refusal::Unverified(_)), 5)
        );
        if !right {
            state.violate(format!("a wrong document (kind {kind}) is answered with {answer:?}"));
        }
    });
}

/// Reads unacknowledged reports. False: it could not.
async fn pull(world: &World, keys: &Keys, line: &Line) -> bool {
    loop {
        let cursor = world.with(|state| state.books.cursor);
        let Ok(Ok(reports)) = timeout(PATIENCE, line.status.after(cursor, 64)).await else {
            return false;
        };
        let Some(last) = reports.last().map(|report| report.seq) else { return true };
        let elapsed = world.begun.elapsed();
        let acknowledged = world.act(|state| {
            // Committed, or the coordinator crashed first: then it reads the same again.
            let committed = !state.rng.per_mille(state.swarm.lose_acknowledgement);
            let mut previous = cursor;
            let mut changes = false;
            for report in reports {
                if report.seq <= previous {
                    state.violate(format!("report {} comes after {previous}", report.seq));
                }
                previous = report.seq;
                let again = state.books.seen.insert(report.seq, report.body.clone());
                if again.is_some_and(|earlier| earlier != report.body) {
                    state.violate(format!("the number {} is used for two reports", report.seq));
                }
                match &report.body {
                    ReportBody::Deployment(status) => {
                        let (id, phase, r) = (status.id, status.phase, status.revision);
                        state.say(|| {
                            format!(
                                "report: {} r{r} {phase:?}",
                                crate::podman::short(&id.to_string())
                            )
                        });
                        if committed {
                            changes |= state.take(status);
                        }
                        state.books.levels.insert(id, report.body);
                    }
                    ReportBody::Removed { id } => {
                        state.books.levels.insert(*id, report.body);
                    }
                    ReportBody::Host(_) => state.books.host = Some(report.body),
                }
            }
            if committed {
                state.books.cursor = last;
            }
            if changes {
                state.sign(keys, elapsed);
            }
            committed && !state.rng.per_mille(state.swarm.lose_acknowledgement)
        });
        if acknowledged
            && !matches!(timeout(PATIENCE, line.status.acknowledge(last)).await, Ok(Ok(())))
        {
            return false;
        }
    }
}

impl State {
    /// Applies a committed report. True: the document changes.
    fn take(&mut self, status: &DeploymentStatus) -> bool {
        self.judge_report(status);
        let wanted = |books: &Books| {
            let mut all = books.documents.wanted.values();
            all.find(|d| d.id == status.id).map(|d| (d.revision, d.run))
        };
        let before = wanted(&self.books);
        let taken = self.books.documents.take(status);
        if let Some((from, to)) = taken.rolled_back_to {
            self.note_rollback(status.id, from, to);
        }
        let after = wanted(&self.books);
        if after != before && after.is_some_and(|(_, run)| run != RunState::Running) {
            self.excuse(status.id, "its coordinator stops it");
        }
        taken.changes
    }

    /// Makes what is wanted the newest document.
    pub(crate) fn sign(&mut self, keys: &Keys, elapsed: Duration) {
        self.books.sign(keys, elapsed);
        let words = |d: &DeploymentSpec| {
            let public = d.services.public();
            let app = self.app(d.id, public.revision);
            let rollback = d.auto_rollback.as_ref();
            let rollback = rollback.map(|r| (r.seconds, r.fallback.revision.get()));
            let id = crate::podman::short(&d.id.to_string());
            let (name, revision, run, strategy) =
                (&d.subdomain, d.revision, d.run, public.strategy);
            format!("{name} {id} r{revision} {run:?} {strategy:?} {app:?} rollback {rollback:?}")
        };
        let words: Vec<String> = self.books.documents.wanted.values().map(words).collect();
        let generation = self.books.generation;
        self.say(|| format!("document {generation}: {}", words.join("; ")));
    }
}

/// The image that a pull for the public service of this entry brings.
pub(crate) fn image_of(desired: &DeploymentSpec) -> String {
    let image = &desired.services.public().image;
    image.pinned(&digest_of_tag(image.tag().unwrap_or_default())).to_string()
}

fn some_ca() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").pem()
}
