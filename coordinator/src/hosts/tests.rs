//! The document delivery against an agent double on a real TLS socket, which joins, verifies and
//! acknowledges like an agent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use buddo_shared::api::problem::Problem;
use buddo_shared::host_wire::join::{COORDINATOR_NAME, JoinRequest};
use buddo_shared::host_wire::manifest::{Manifest, RunState, Trust};
use buddo_shared::host_wire::renewal::{Binding, Statement};
use buddo_shared::host_wire::report::{
    Accepted, Acknowledge, Checked, DeploymentStatus, Frame, Health, HostStatus, Phase, Progress,
    Report, ReportBody,
};
use buddo_shared::host_wire::sealed::{OpeningKey, Sealed};
use buddo_shared::host_wire::signed::Verifier;
use buddo_shared::model::id::{DeploymentId, Generation, HostId, Revision};
use buddo_shared::model::workload::ServiceName;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use jiff::SignedDuration;
use rcgen::{CertificateParams, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::crypto::random::SystemRandom;
use crate::host_client::{CallError, Deadlines};
use crate::process::metrics::Metrics;
use crate::process::serve::{self, Listener};
use crate::service::hosts::join::Invitation;
use crate::service::hosts::renewal::is_served;
use crate::service::hosts::{epoch, join, renewal, rotation};
use crate::service::{admin, clock};
use crate::state::AppState;
use crate::store::contract::{Host, Lease};
use crate::store::sqlite::LONG_READER;
use crate::store::{StoreError, Tables};
use crate::testing::{World, account, deploys as deployments, owner, request, story};

/// Long enough for any machine; only a failing test takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The state and script of the double.
struct Agent {
    host: HostId,
    /// Its host key.
    key: KeyPair,
    /// The keys and CAs it trusts; updated by documents.
    trust: Mutex<Trust>,
    /// Its certificate (PEM) and the certificate's number.
    certificate: Mutex<(String, u32)>,
    /// Number of incoming connections.
    dialled: AtomicUsize,
    opening: OpeningKey,
    manifest: watch::Sender<Option<Manifest>>,
    envelopes: Mutex<Vec<Bytes>>,
    acknowledged: watch::Sender<u64>,
    /// The code with which it refuses documents.
    refuses: Mutex<Option<&'static str>>,
    /// Number of documents refused that way.
    refused: AtomicUsize,
    said: Mutex<Vec<Report>>,
    frames: broadcast::Sender<Frame>,
}

/// A running double; it stops when dropped.
struct Running {
    agent: Arc<Agent>,
    serving: Option<AbortOnDropHandle<()>>,
    address: SocketAddr,
}

impl Running {
    /// Joins `world` as `name` and listens.
    async fn join(world: &World, name: &str) -> Self {
        world.first_account().await;
        let state = &world.state;
        let invitation = join::invite(
            &state.store,
            &state.ca,
            &SystemRandom,
            world.state.clock.now(),
            name,
            None,
        )
        .await
        .unwrap();
        Self::join_with(world, invitation).await
    }

    /// The same with an existing token.
    async fn join_with(world: &World, invitation: Invitation) -> Self {
        let state = &world.state;
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (opening, sealing_key) = OpeningKey::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let token = invitation.token.secret;
        let request = JoinRequest { token, csr, sealing_key, address: address.to_string() };
        let joined = join::join(state, request.clone()).await.unwrap();
        let again = join::join(state, request).await;
        assert!(matches!(again, Err(join::HostError::Token)), "a token works once");
        let agent = Arc::new(Agent {
            host: joined.host_id,
            key,
            trust: Mutex::new(joined.trust),
            certificate: Mutex::new((joined.certificate, 1)),
            dialled: AtomicUsize::new(0),
            opening,
            manifest: watch::Sender::new(None),
            envelopes: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            refuses: Mutex::default(),
            refused: AtomicUsize::new(0),
            said: Mutex::default(),
            frames: broadcast::Sender::new(64),
        });
        let mut running = Self { agent, serving: None, address };
        running.listen(tcp);
        running.say_host().await;
        running
    }

    fn listen(&mut self, tcp: TcpListener) {
        let router = Router::new()
            .route("/v1/desired-state", put(desired_state))
            .route("/v1/reports", get(reports))
            .route("/v1/reports/ack", post(acknowledge))
            .with_state(self.agent.clone());
        let agent = self.agent.clone();
        let tls: serve::Tls = Arc::new(move || {
            agent.dialled.fetch_add(1, Ordering::SeqCst);
            Ok(agent.tls())
        });
        let listener = Listener {
            tcp,
            tls,
            router,
            connections: 8,
            name: "hosts",
            metrics: Metrics::default(),
            proxies: Vec::new(),
        };
        let serving = tokio::spawn(serve::serve(listener, CancellationToken::new()));
        self.serving = Some(AbortOnDropHandle::new(serving));
    }

    /// Like a kill: listener and connections are gone when this returns.
    async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Waits for a document that matches `wanted`.
    async fn document(&self, wanted: impl FnMut(&Manifest) -> bool) -> Manifest {
        let mut wanted = wanted;
        let mut documents = self.agent.manifest.subscribe();
        let found = documents.wait_for(|held| held.as_ref().is_some_and(&mut wanted));
        let found = tokio::time::timeout(PATIENCE, found).await.expect("no such document came");
        found.unwrap().clone().unwrap()
    }

    /// Sends a report and waits for its acknowledgement.
    async fn say(&self, body: ReportBody) {
        let report = {
            let mut said = self.agent.said.lock().unwrap();
            let seq = said.len() as u64 + 1;
            let report = Report { seq, at: "2026-05-21T10:00:05Z".parse().unwrap(), body };
            said.push(report.clone());
            report
        };
        let seq = report.seq;
        // Nobody may listen yet: a stream opened later starts with it.
        let _ = self.agent.frames.send(Frame::Report(report));
        let mut acknowledged = self.agent.acknowledged.subscribe();
        let committed = acknowledged.wait_for(|through| *through >= seq);
        tokio::time::timeout(PATIENCE, committed).await.expect("not acknowledged").unwrap();
    }

    async fn say_host(&self) {
        // Delivery already runs: it serves a host from the moment it has joined.
        self.say(ReportBody::Host(HostStatus {
            agent_version: "0.1.0".to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb: 8192,
            allocatable_mb: None,
            cpu_millicores: 2000,
            warnings: Vec::new(),
            lacks: None,
        }))
        .await;
    }
}

impl Agent {
    /// Requests its next certificate, over a simulated connection.
    async fn renew(&self, state: &AppState) {
        let binding = Binding([7; 32]);
        let number = self.certificate.lock().unwrap().1;
        let statement = Statement::new(self.host, number, uuid::Uuid::new_v4(), binding);
        let body = statement.sign(&self.key.serialize_der()).unwrap();
        let renewed = renewal::renew(state, &body, binding).await.unwrap();
        *self.certificate.lock().unwrap() = (renewed.certificate, number + 1);
    }

    fn tls(&self) -> Arc<ServerConfig> {
        agent_tls(&self.trust.lock().unwrap(), &self.certificate.lock().unwrap().0, &self.key)
    }
}

fn agent_tls(trust: &Trust, certificate: &str, key: &KeyPair) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for ca in &trust.cas {
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    }
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn desired_state(State(agent): State<Arc<Agent>>, envelope: Bytes) -> Response {
    if let Some(code) = *agent.refuses.lock().unwrap() {
        agent.refused.fetch_add(1, Ordering::SeqCst);
        if code == FULL {
            return no_room();
        }
        let problem = Problem::new(409, code, "refused", "older than what the host holds");
        return (StatusCode::CONFLICT, Json(problem)).into_response();
    }
    let keys = agent.trust.lock().unwrap().signing_keys.clone();
    let verified = match Verifier::new(agent.host, &keys).unwrap().verify(&envelope) {
        Ok(verified) => verified,
        Err(error) => {
            let problem = Problem::new(422, error.code(), "refused", error.to_string());
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response();
        }
    };
    let digest = verified.digest().clone();
    let manifest = verified.into_inner();
    agent.trust.lock().unwrap().clone_from(manifest.trust.as_ref().expect("trust is named"));
    let generation = manifest.generation;
    agent.envelopes.lock().unwrap().push(envelope);
    agent.manifest.send_replace(Some(manifest));
    Json(Accepted { generation, digest }).into_response()
}

#[derive(Deserialize)]
struct After {
    after: u64,
}

async fn reports(State(agent): State<Arc<Agent>>, Query(After { after }): Query<After>) -> Body {
    let live = BroadcastStream::new(agent.frames.subscribe());
    let said = agent.said.lock().unwrap().clone();
    let old = said.into_iter().filter(move |report| report.seq > after).map(Frame::Report);
    let frames = futures_util::stream::iter(old).chain(live.filter_map(|f| async { f.ok() }));
    Body::from_stream(
        frames.map(|frame| Ok::<_, serde_json::Error>(serde_json::to_string(&frame)? + "\n")),
    )
}

async fn acknowledge(State(agent): State<Arc<Agent>>, Json(ack): Json<Acknowledge>) -> Response {
    if *agent.refuses.lock().unwrap() == Some(FULL) {
        return no_room();
    }
    agent.acknowledged.send_replace(ack.through);
    StatusCode::NO_CONTENT.into_response()
}

/// The code an agent with a full disk answers with.
const FULL: &str = "not_stored";

fn no_room() -> Response {
    let detail = "the document could not be stored: database or disk is full";
    let problem = Problem::new(503, FULL, "Not stored", detail);
    (StatusCode::SERVICE_UNAVAILABLE, Json(problem)).into_response()
}

fn status(id: DeploymentId, phase: Phase, serving: Option<Revision>) -> ReportBody {
    let live = live_status(id, Revision::FIRST);
    ReportBody::Deployment(DeploymentStatus { phase, serving, ..live })
}

fn live_status(id: DeploymentId, revision: Revision) -> DeploymentStatus {
    DeploymentStatus {
        id,
        revision,
        phase: Phase::Live,
        serving: Some(revision),
        health: Health::Healthy,
        checked_at: None,
        failure: None,
        rolled_back_to: None,
        restarts: 0,
        services: vec![story::in_container("app", revision.get(), "my-app-1-a")],
    }
}

async fn begin() -> (World, Running) {
    let world = World::today();
    tokio::spawn(super::run(world.state.clone()));
    let agent = Running::join(&world, "container-host-1").await;
    (world, agent)
}

#[tokio::test]
async fn a_create_reaches_its_host_signed_and_the_report_returns() {
    let (world, agent) = begin().await;
    let mut spec = request("my-app");
    let vars = [("KEY".to_owned(), buddo_shared::model::secret::Secret::new("value"))];
    spec.env_vars = Some(vars.into_iter().collect());
    let made = deployments::create(&world.state, owner(1), None, spec, None).await.unwrap();
    let id: DeploymentId = made.deployment.id.parse().unwrap();
    let manifest = agent.document(|m| m.deployments.len() == 1).await;
    let desired = &manifest.deployments[0];
    assert_eq!((desired.id, desired.run), (id, RunState::Running));
    assert_eq!(manifest.expires_at.duration_since(manifest.issued_at).as_hours(), 24);
    let env = desired.services.public().env.as_ref().unwrap().open(
        &agent.agent.opening,
        Sealed::ENVIRONMENT,
        id,
    );
    assert_eq!(env.unwrap().expose(), r#"{"KEY":"value"}"#);

    let mut watch = world.state.live.watch(account(1), id).unwrap();
    let revision = Revision::FIRST;
    let progress = Progress {
        id,
        service: ServiceName::APP,
        revision,
        phase: Phase::Pulling,
        percent: Some(43),
    };
    agent.agent.frames.send(Frame::Progress(progress)).unwrap();
    assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap());
    let shown = deployments::status(&world.state, owner(1), id).await.unwrap();
    assert_eq!(shown.progress.unwrap().percent, Some(43));

    agent.say(status(id, Phase::Live, Some(revision))).await;
    let shown = deployments::status(&world.state, owner(1), id).await.unwrap();
    assert_eq!(shown.status.as_str(), "running");
    assert_eq!(shown.progress, None);

    deployments::destroy(&world.state, owner(1), id).await.unwrap();
    let last = agent.document(|m| m.deployments.is_empty()).await;
    assert!(last.generation > manifest.generation);
}

/// Makes each document outdated before it is built: `change` happens between the read of the
/// database and the storing of the document.
fn overtake(world: &World, change: impl Fn(&mut dyn Tables) + Send + Sync + 'static) {
    let (store, change) = (world.state.store.clone(), Arc::new(change));
    let runtime = tokio::runtime::Handle::current();
    world.clock.when_looked_at(Some(Arc::new(move || {
        if std::thread::current().name() != Some(LONG_READER) {
            return;
        }
        let change = Arc::clone(&change);
        let done: Result<(), StoreError> = runtime.block_on(store.write(move |tables| {
            change(tables);
            Ok(())
        }));
        done.unwrap();
    })));
}

async fn wanted(world: &World, host: HostId) -> Generation {
    let read = world.state.store.read(move |tables| tables.host(host));
    let host: Result<Option<Host>, StoreError> = read.await;
    host.unwrap().unwrap().wanted
}

#[tokio::test]
async fn fm_68_an_already_outdated_document_is_still_kept() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    deployments::create(&world.state, owner(1), None, request("my-app"), None).await.unwrap();
    overtake(&world, move |tables| {
        tables.bump_generation(host).unwrap();
    });
    let build = async || {
        let built = tokio::time::timeout(PATIENCE, super::document(&world.state, host)).await;
        built.expect("no document ever").unwrap()
    };
    let first = build().await;
    assert!(first.generation < wanted(&world, host).await);
    let second = build().await;
    assert!(second.generation > first.generation);
    world.clock.when_looked_at(None);
    let last = build().await;
    assert_eq!(last.generation, wanted(&world, host).await);
    assert_eq!(build().await, last);
}

#[tokio::test]
async fn fm_68_constant_changes_do_not_starve_a_host_of_documents() {
    let (world, agent) = begin().await;
    let host = agent.agent.host;
    let before = agent.document(|_| true).await.generation;
    overtake(&world, move |tables| {
        tables.bump_generation(host).unwrap();
    });
    let made = deployments::create(&world.state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    let first = agent.document(|m| m.generation > before && m.deployments.len() == 1).await;
    // Its reports are still taken.
    agent.say(status(id, Phase::Live, Some(Revision::FIRST))).await;
    agent.document(|m| m.generation > first.generation).await;
    world.clock.when_looked_at(None);
    let wanted = wanted(&world, host).await;
    agent.document(|m| m.generation >= wanted).await;
}

#[tokio::test]
async fn a_rejoin_while_building_discards_secrets_sealed_to_the_old_key() {
    let world = World::new();
    let (id, _) = world.host(1, 4096).await;
    let mut spec = request("my-app");
    let vars = [("KEY".to_owned(), buddo_shared::model::secret::Secret::new("value"))];
    spec.env_vars = Some(vars.into_iter().collect());
    deployments::create(&world.state, owner(1), None, spec, None).await.unwrap();
    let (opening, sealing_key) = OpeningKey::generate().unwrap();
    overtake(&world, move |tables| {
        let mut host = tables.host(id).unwrap().unwrap();
        if host.sealing_key != sealing_key {
            host.sealing_key = sealing_key.clone();
            tables.upsert_host(&host).unwrap();
            tables.bump_generation(id).unwrap();
        }
    });
    let document = super::document(&world.state, id).await.unwrap();
    let key = world.state.keys.keys().newest().public().clone();
    let manifest = Verifier::new(id, &[key]).unwrap().verify(&document.envelope).unwrap();
    let desired = manifest.into_inner().deployments.remove(0);
    let env = desired.services.public().env.as_ref().unwrap();
    let env = env.open(&opening, Sealed::ENVIRONMENT, desired.id);
    assert_eq!(env.unwrap().expose(), r#"{"KEY":"value"}"#);
}

#[tokio::test]
async fn a_coordinator_that_dies_after_its_response_still_delivers() {
    let world = World::today();
    let pusher = tokio::spawn(super::run(world.state.clone()));
    let agent = Running::join(&world, "container-host-1").await;
    pusher.abort();
    let _ = pusher.await;
    deployments::create(&world.state, owner(1), None, request("my-app"), None).await.unwrap();
    let world = world.reopened();
    tokio::spawn(super::run(world.state.clone()));
    agent.document(|m| m.deployments.len() == 1).await;
}

#[tokio::test]
async fn a_returning_agent_gets_the_same_document_and_resumes_reports() {
    let (world, mut agent) = begin().await;
    let made = deployments::create(&world.state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    agent.document(|m| m.deployments.len() == 1).await;
    let sent = agent.agent.envelopes.lock().unwrap().last().cloned().unwrap();
    agent.kill().await;
    agent.agent.manifest.send_replace(None);
    let seen = world.state.clone();
    let host = join::list(&seen.store).await.unwrap()[0].id;
    until(async || {
        let listed = join::list(&seen.store).await.unwrap();
        listed.iter().any(|h| h.id == host && h.unreachable_since.is_some())
    })
    .await;
    // The same address, as after a restart of the agent.
    agent.listen(TcpListener::bind(agent.address).await.unwrap());
    world.state.wake.host(host);
    agent.document(|m| m.deployments.len() == 1).await;
    assert_eq!(agent.agent.envelopes.lock().unwrap().last(), Some(&sent));
    agent.say(status(id, Phase::Live, Some(Revision::FIRST))).await;
    let listed = join::list(&world.state.store).await.unwrap();
    assert_eq!(listed[0].unreachable_since, None);
    assert_eq!(listed[0].acknowledged, Some(listed[0].wanted));
}

#[tokio::test]
async fn a_document_is_refreshed_before_it_expires() {
    let (world, agent) = begin().await;
    let first = agent.document(|_| true).await;
    world.clock.advance(SignedDuration::from_hours(13));
    let host = first.host_id;
    world.state.wake.host(host);
    let second = agent.document(|m| m.generation > first.generation).await;
    assert!(second.expires_at > first.expires_at);
}

#[tokio::test]
async fn fm_20_a_host_that_is_ahead_is_reported_and_an_epoch_raise_fixes_it() {
    let (world, agent) = begin().await;
    let first = agent.document(|_| true).await;
    *agent.agent.refuses.lock().unwrap() = Some("stale_generation");
    let made = deployments::create(&world.state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    let store = world.state.store.clone();
    let refusal = async || join::list(&store).await.unwrap()[0].refusal.clone();
    until(async || refusal().await.is_some()).await;
    let why = refusal().await.unwrap();
    assert!(why.contains("stale_generation") && why.contains("epoch raise"), "{why}");
    assert_eq!(join::list(&store).await.unwrap()[0].unreachable_since, None);
    let shown = deployments::status(&world.state, owner(1), id).await.unwrap();
    assert!(shown.last_error.unwrap().contains("does not take changes"));
    // Its reports are still taken.
    agent.say(status(id, Phase::Pulling, None)).await;

    let raised = epoch::raise(&store, world.state.clock.now()).await.unwrap();
    *agent.agent.refuses.lock().unwrap() = None;
    world.state.wake.host(first.host_id);
    let second = agent.document(|m| m.deployments.len() == 1).await;
    assert_eq!(second.generation.epoch, raised.epoch);
    until(async || refusal().await.is_none()).await;
}

#[tokio::test]
async fn fm_66_a_host_with_a_full_disk_is_reported_and_still_heard() {
    let (world, agent) = begin().await;
    let state = &world.state;
    let first = agent.document(|_| true).await;
    let dialled = agent.agent.dialled.load(Ordering::SeqCst);
    *agent.agent.refuses.lock().unwrap() = Some(FULL);
    let made = deployments::create(state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    let refusal = async || host_of(state, first.host_id).await.refusal;
    until(async || refusal().await.is_some()).await;
    let why = refusal().await.unwrap();
    assert!(why.contains("disk is full") && why.contains("make room"), "{why}");
    let shown = async || deployments::status(state, owner(1), id).await.unwrap();
    assert!(shown().await.last_error.unwrap().contains("does not take changes"));
    // Report after report is taken, though it can store no acknowledgement.
    for phase in [Phase::Pulling, Phase::Starting] {
        let report = {
            let mut said = agent.agent.said.lock().unwrap();
            let seq = said.len() as u64 + 1;
            let at = world.clock_now();
            said.push(Report { seq, at, body: status(id, phase, None) });
            said.last().cloned().unwrap()
        };
        let seq = report.seq;
        agent.agent.frames.send(Frame::Report(report)).unwrap();
        until(async || host_of(state, first.host_id).await.report_seq == seq).await;
    }
    assert_eq!(shown().await.status.as_str(), "deploying");
    let host = host_of(state, first.host_id).await;
    assert_eq!(host.unreachable_since, None);
    assert_eq!(agent.agent.dialled.load(Ordering::SeqCst), dialled, "no session has ended");
    // With free space it recovers by itself; the notify replaces the half-minute retry.
    *agent.agent.refuses.lock().unwrap() = None;
    state.wake.host(first.host_id);
    agent.document(|m| m.deployments.len() == 1).await;
    until(async || refusal().await.is_none()).await;
}

#[tokio::test]
async fn a_host_with_an_unreadable_document_is_reported_and_still_heard() {
    let (world, agent) = begin().await;
    let state = &world.state;
    let first = agent.document(|_| true).await;
    let refusal = async || host_of(state, first.host_id).await.refusal;
    let database = rusqlite::Connection::open(state.config.database()).unwrap();
    database.execute("UPDATE documents SET trust = 'no JSON'", []).unwrap();
    state.wake.host(first.host_id);
    until(async || refusal().await.is_some()).await;
    agent.say_host().await;
    // The next one can be read.
    epoch::raise(&state.store, world.clock_now()).await.unwrap();
    state.wake.host(first.host_id);
    agent.document(|manifest| manifest.generation > first.generation).await;
    until(async || refusal().await.is_none()).await;
}

#[tokio::test]
async fn a_refused_document_is_not_resent_on_every_report() {
    let (world, agent) = begin().await;
    let state = &world.state;
    let host = agent.document(|_| true).await.host_id;
    *agent.agent.refuses.lock().unwrap() = Some("stale_generation");
    epoch::raise(&state.store, world.clock_now()).await.unwrap();
    state.wake.host(host);
    until(async || host_of(state, host).await.refusal.is_some()).await;
    let refused = || agent.agent.refused.load(Ordering::SeqCst);
    let before = refused();
    for _ in 0..5 {
        agent.say_host().await;
    }
    assert_eq!(refused(), before);
}

#[tokio::test]
async fn a_rejoined_host_is_served_only_at_its_new_address() {
    let (world, old) = begin().await;
    old.document(|_| true).await;
    // The previous machine still runs, and has lost nothing.
    let new = Running::join(&world, "container-host-1").await;
    new.document(|_| true).await;
    let listed = join::list(&world.state.store).await.unwrap();
    assert_eq!((listed.len(), listed[0].report_seq), (1, 1));
    let before = old.agent.envelopes.lock().unwrap().len();
    deployments::create(&world.state, owner(1), None, request("my-app"), None).await.unwrap();
    new.document(|m| m.deployments.len() == 1).await;
    assert_eq!(old.agent.envelopes.lock().unwrap().len(), before, "nothing goes to the old one");
}

#[tokio::test]
async fn another_host_at_its_address_gets_nothing() {
    let world = World::today();
    tokio::spawn(super::run(world.state.clone()));
    let mut first = Running::join(&world, "first").await;
    let second = Running::join(&world, "second").await;
    let sent = |running: &Running| running.agent.envelopes.lock().unwrap().len();
    let before = sent(&second);
    // The first host's address now leads to the second one.
    let id = first.document(|_| true).await.host_id;
    let address = second.address.to_string();
    world
        .state
        .store
        .write(move |tables| {
            let mut host = tables.host(id)?.unwrap();
            host.address.clone_from(&address);
            tables.upsert_host(&host)
        })
        .await
        .map_err(|error: StoreError| error)
        .unwrap();
    first.kill().await;
    let store = world.state.store.clone();
    until(async || {
        let listed = join::list(&store).await.unwrap();
        listed.iter().any(|host| host.id == id && host.unreachable_since.is_some())
    })
    .await;
    assert_eq!(sent(&second), before);
}

#[tokio::test]
async fn fm_62_nothing_is_signed_during_a_clock_jump() {
    let (world, agent) = begin().await;
    let state = &world.state;
    tokio::spawn(clock::run(state.clone()));
    let first = agent.document(|_| true).await;
    world.clock.jump(SignedDuration::from_hours(72));
    let made = deployments::create(state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    let refusal = async || host_of(state, first.host_id).await.refusal;
    until(async || refusal().await.is_some_and(|why| why.contains("clock confirm"))).await;
    // The host is asked for its time, and disagrees.
    until(async || state.time.check().is_err() && !state.time.wants(first.host_id)).await;
    assert!(state.time.check().is_err());
    let sent = agent.agent.envelopes.lock().unwrap().clone();
    assert!(sent.windows(2).all(|two| two[0] == two[1]), "nothing else was signed");
    // Its reports are still taken.
    agent.say(status(id, Phase::Pulling, None)).await;
    world.clock.jump(SignedDuration::from_hours(-72));
    let second = agent.document(|m| m.deployments.len() == 1).await;
    assert!(second.issued_at < first.issued_at + SignedDuration::from_hours(1));
    until(async || refusal().await.is_none()).await;
}

#[tokio::test]
async fn fm_62_hosts_confirm_the_clock_after_days_of_downtime() {
    let (world, agent) = begin().await;
    let state = &world.state;
    agent.document(|_| true).await;
    state.time.resume(world.clock_now() - SignedDuration::from_hours(72));
    assert!(state.time.check().is_err());
    tokio::spawn(clock::run(state.clone()));
    deployments::create(state, owner(1), None, request("my-app"), None).await.unwrap();
    agent.document(|m| m.deployments.len() == 1).await;
    assert_eq!(agent.agent.dialled.load(Ordering::SeqCst), 1, "over the connection that there is");
}

#[tokio::test]
async fn hosts_are_asked_for_the_time_even_without_changes() {
    let (world, agent) = begin().await;
    let state = &world.state;
    agent.document(|_| true).await;
    state.time.resume(world.clock_now() - SignedDuration::from_hours(72));
    assert!(state.time.check().is_err());
    tokio::spawn(clock::run(state.clone()));
    until(async || state.time.check().is_ok()).await;
}

/// Polls for a condition that has no notification.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("the condition did not come true");
}

#[tokio::test]
async fn the_coordinators_client_certificate_names_it_and_is_renewed() {
    let world = World::new();
    let identity = world.state.ca.identity().unwrap();
    let again = world.state.ca.identity().unwrap();
    assert!(Arc::ptr_eq(&identity.client, &again.client), "made once");
    world.clock.advance(SignedDuration::from_hours(31 * 24));
    let renewed = world.state.ca.identity().unwrap();
    assert!(!Arc::ptr_eq(&identity.client, &renewed.client), "replaced with age");
    let certified = identity
        .client
        .client_auth_cert_resolver
        .resolve(&[], &[rustls::SignatureScheme::ECDSA_NISTP256_SHA256]);
    let chain = certified.unwrap().cert.clone();
    assert_eq!(chain.len(), 2, "the leaf and the CA");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::DNSName(COORDINATOR_NAME)]);
}

async fn host_of(state: &AppState, id: HostId) -> Host {
    let found: Result<_, StoreError> = state.store.read(move |tables| tables.host(id)).await;
    found.unwrap().unwrap()
}

/// Sends each host one document after another, until dropped.
fn load(state: &AppState, agents: &[Running]) -> AbortOnDropHandle<()> {
    let (state, hosts) = (state.clone(), agents.iter().map(|one| one.agent.host));
    let hosts: Vec<HostId> = hosts.collect();
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            for id in hosts.iter().copied() {
                let bumped: Result<_, StoreError> =
                    state.store.write(move |tables| tables.bump_generation(id)).await;
                bumped.unwrap();
                state.wake.host(id);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }))
}

async fn fleet(world: &World, size: usize) -> Vec<Running> {
    tokio::spawn(super::run(world.state.clone()));
    let mut agents = Vec::new();
    for n in 0..size {
        agents.push(Running::join(world, &format!("host-{n}")).await);
        agents[n].document(|_| true).await;
    }
    agents
}

/// Waits for the next document of each.
async fn all_go_on(agents: &[Running]) {
    for one in agents {
        let held = one.document(|_| true).await.generation;
        one.document(|manifest| manifest.generation > held).await;
    }
}

#[tokio::test]
async fn a_signing_key_rotates_under_load_without_breaking_connections() {
    let world = World::today();
    let mut agents = fleet(&world, 4).await;
    let (state, now) = (&world.state, world.clock_now());
    let old = state.keys.keys().newest().public().kid.clone();
    // One is away the whole time.
    let mut late = agents.pop().unwrap();
    late.kill().await;
    let load = load(state, &agents);
    let new = rotation::rotate_key(&state.store, &state.keys, now).await.unwrap();
    let trusted = |one: &Running| {
        let trust = one.agent.trust.lock().unwrap();
        trust.signing_keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>()
    };
    until(async || agents.iter().all(|one| trusted(one) == [new.clone()])).await;
    all_go_on(&agents).await;
    let refused = rotation::retire_key(&state.store, &state.keys, now, &old, false).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("host-3") && !words.contains("host-0"), "{words}");
    assert_eq!(trusted(&late), std::slice::from_ref(&old));
    late.listen(TcpListener::bind(late.address).await.unwrap());
    state.wake.host(late.agent.host);
    until(async || trusted(&late) == [new.clone()]).await;
    until(async || rotation::retire_key(&state.store, &state.keys, now, &old, false).await.is_ok())
        .await;
    all_go_on(&agents).await;
    drop(load);
    // No connection broke on the way, and nothing was refused.
    for one in &agents {
        assert_eq!(one.agent.dialled.load(Ordering::SeqCst), 1);
        assert_eq!(host_of(state, one.agent.host).await.refusal, None);
    }
}

#[tokio::test]
async fn fm_42_the_ca_rolls_over_under_load_without_a_failed_push() {
    let world = World::today();
    let mut agents = fleet(&world, 4).await;
    let (state, now) = (&world.state, world.clock_now());
    let old = state.ca.fingerprints().remove(0);
    let load = load(state, &agents);
    let trusted = |one: &Running| one.agent.trust.lock().unwrap().cas.len();
    rotation::rotate_ca(&state.store, &state.ca, now).await.unwrap();
    until(async || agents.iter().all(|one| trusted(one) == 2)).await;
    // Hosts renew one by one. At any moment each of them can be dialled again.
    for turn in 0..agents.len() {
        agents[turn].agent.renew(state).await;
        agents[turn].kill().await;
        let tcp = TcpListener::bind(agents[turn].address).await.unwrap();
        agents[turn].listen(tcp);
        state.wake.host(agents[turn].agent.host);
        all_go_on(&agents).await;
        let ended = rotation::retire_ca(&state.store, &state.ca, now, &old, false).await;
        match ended {
            Ok(_) => assert_eq!(turn, 3, "retired before the last host had moved"),
            Err(error) => assert!(error.to_string().contains("host-3"), "{error}"),
        }
    }
    until(async || agents.iter().all(|one| trusted(one) == 1)).await;
    all_go_on(&agents).await;
    drop(load);
    // One dial at first and one after each host's own restart: no other connection ended.
    for one in &agents {
        assert_eq!(one.agent.dialled.load(Ordering::SeqCst), 2);
        assert_eq!(host_of(state, one.agent.host).await.refusal, None);
    }
    // And with the new CA only.
    agents[0].kill().await;
    let tcp = TcpListener::bind(agents[0].address).await.unwrap();
    agents[0].listen(tcp);
    state.wake.host(agents[0].agent.host);
    let before = agents[0].document(|_| true).await.generation;
    epoch::raise(&state.store, now).await.unwrap();
    state.wake.host(agents[0].agent.host);
    agents[0].document(|manifest| manifest.generation > before).await;
}

#[tokio::test]
async fn fm_41_a_cloned_host_is_locked_out_until_it_rejoins() {
    let world = World::today();
    let agents = fleet(&world, 2).await;
    let (state, agent) = (&world.state, &agents[0].agent);
    agent.renew(state).await;
    // Its copy still has the first certificate.
    agent.certificate.lock().unwrap().1 = 1;
    let binding = Binding([7; 32]);
    let copy = Statement::new(agent.host, 1, uuid::Uuid::new_v4(), binding);
    let body = copy.sign(&agent.key.serialize_der()).unwrap();
    let refused = renewal::renew(state, &body, binding).await;
    assert!(matches!(refused, Err(renewal::RenewError::Locked(_))));
    assert!(is_served(&host_of(state, agent.host).await).is_err());
    // The connection ends, and no new one is made: a change waits.
    until(async || agents[0].agent.frames.receiver_count() == 0).await;
    let (sent, dialled) =
        (agent.envelopes.lock().unwrap().len(), agent.dialled.load(Ordering::SeqCst));
    // An app is created for this host. The other host, woken together with it, keeps getting
    // documents meanwhile.
    let made = deployments::create(state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    let connection = rusqlite::Connection::open(state.config.database()).unwrap();
    let sql = "UPDATE deployments SET host_id = ?1 WHERE id = ?2";
    connection.execute(sql, [agent.host.to_string(), id.to_string()]).unwrap();
    for _ in 0..5 {
        let held = agents[1].document(|_| true).await.generation;
        epoch::raise(&state.store, world.clock_now()).await.unwrap();
        state.wake.all();
        agents[1].document(|manifest| manifest.generation > held).await;
    }
    assert_eq!(agent.envelopes.lock().unwrap().len(), sent);
    assert_eq!(agent.dialled.load(Ordering::SeqCst), dialled);
    assert!(
        host_of(state, agent.host).await.acknowledged
            < Some(host_of(state, agent.host).await.wanted)
    );
    // Once an administrator has decided which one is right, that one is served.
    let name = host_of(state, agent.host).await.name;
    let now = world.clock_now();
    let token = join::unlock(&state.store, &state.ca, &SystemRandom, now, &name).await.unwrap();
    let right = Running::join_with(&world, token).await;
    right.document(|manifest| manifest.deployments.iter().any(|d| d.id == id)).await;
    assert_eq!(agent.envelopes.lock().unwrap().len(), sent, "and the other nothing");
}

#[tokio::test]
async fn an_older_identity_at_a_hosts_address_gets_nothing() {
    let world = World::today();
    let mut agents = fleet(&world, 1).await;
    let old = agents.remove(0);
    // The host joins again elsewhere; then its address leads to the old identity, whose certificate
    // is still valid.
    let new = Running::join(&world, "host-0").await;
    new.document(|_| true).await;
    let (id, address) = (new.agent.host, old.address.to_string());
    let sent = old.agent.envelopes.lock().unwrap().len();
    let dialled = old.agent.dialled.load(Ordering::SeqCst);
    let moved: Result<(), StoreError> = world
        .state
        .store
        .write(move |tables| {
            let host = tables.host(id)?.unwrap();
            tables.upsert_host(&Host { address: address.clone(), ..host })
        })
        .await;
    moved.unwrap();
    world.state.wake.host(id);
    until(async || old.agent.dialled.load(Ordering::SeqCst) > dialled).await;
    until(async || host_of(&world.state, id).await.unreachable_since.is_some()).await;
    assert_eq!(old.agent.envelopes.lock().unwrap().len(), sent);
}

/// Once cut, nothing passes through any more, and neither side is notified.
#[tokio::test]
async fn fm_07_a_half_open_connection_is_noticed_by_the_coordinator() {
    let world = World::today_with(|config| config.hosts.keep_alive = Duration::from_secs(1));
    let mut agents = fleet(&world, 1).await;
    let agent = agents.remove(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap().to_string(), agent.address);
    let cut = CancellationToken::new();
    let cutting = cut.clone();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = cutting.cancelled() => {}
        }
        // Both stay open and silent.
        std::future::pending::<()>().await;
        drop((near, far, listener));
    });
    let (state, id) = (world.state.clone(), agent.agent.host);
    let dialled = agent.agent.dialled.load(Ordering::SeqCst);
    let moved: Result<(), StoreError> = state
        .store
        .write(move |tables| {
            let host = tables.host(id)?.unwrap();
            tables.upsert_host(&Host { address: address.clone(), ..host })
        })
        .await;
    moved.unwrap();
    state.wake.host(id);
    until(async || agent.agent.dialled.load(Ordering::SeqCst) > dialled).await;
    let first = agent.document(|_| true).await.generation;
    epoch::raise(&state.store, world.clock_now()).await.unwrap();
    state.wake.host(id);
    agent.document(|manifest| manifest.generation > first).await;
    cut.cancel();
    // Twice that, with no call in progress whose deadline would notice.
    tokio::time::timeout(Duration::from_secs(20), async {
        while host_of(&state, id).await.unreachable_since.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("a dead connection is held");
}

#[tokio::test]
async fn fm_69_an_evacuated_host_stops_its_apps_when_it_returns() {
    let world = World::today();
    let mut agents = fleet(&world, 2).await;
    let (state, now) = (&world.state, world.clock_now());
    let other = agents.pop().unwrap();
    let mut lost = agents.pop().unwrap();
    let second = other.agent.host;
    let drain = async |since| {
        let done: Result<(), StoreError> =
            state.store.write(move |tables| tables.set_drained(second, since)).await;
        done.unwrap();
    };
    // It is placed on the first one, and runs there.
    drain(Some(now)).await;
    let made = deployments::create(state, owner(1), None, request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    drain(None).await;
    lost.document(|manifest| manifest.deployments.len() == 1).await;
    lost.say(status(id, Phase::Live, Some(Revision::FIRST))).await;
    lost.kill().await;
    let first = lost.agent.host;
    until(async || host_of(state, first).await.unreachable_since.is_some()).await;
    world.clock.advance(SignedDuration::from_mins(1));
    let shown = deployments::status(state, owner(1), id).await.unwrap();
    assert_eq!(shown.health_status.as_deref(), Some("unknown"));
    assert!(shown.warning.unwrap().cause.contains("host-0 has been out of reach since"));

    let context = admin::AdminContext {
        store: state.store.clone(),
        random: Arc::clone(&state.random),
        now,
        actor: None,
    };
    let means = admin::Means { vault: Arc::clone(&state.vault), overcommit: 1.0 };
    let done = admin::evacuate(&context, &means, "host-0", |_| ()).await.unwrap();
    admin::announce(state, &done.changed);
    let manifest = other.document(|manifest| manifest.deployments.len() == 1).await;
    assert_eq!(manifest.deployments[0].id, id);
    assert_eq!(manifest.deployments[0].revision, Revision::new(2));
    other.say(ReportBody::Deployment(live_status(id, Revision::new(2)))).await;
    let shown = deployments::status(state, owner(1), id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.warning), ("running", None));

    // When it is back, it still has the app and reports it; its document no longer does.
    lost.listen(TcpListener::bind(lost.address).await.unwrap());
    state.wake.host(first);
    lost.document(|manifest| manifest.deployments.is_empty()).await;
    lost.say(status(id, Phase::Failed, None)).await;
    let shown = deployments::status(state, owner(1), id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.last_error), ("running", None));
}

#[tokio::test]
async fn fm_67_a_flooding_host_is_cut_off_without_affecting_others() {
    let world = World::today();
    let mut agents = fleet(&world, 2).await;
    let (state, flooding) = (&world.state, agents.remove(0));
    let host = flooding.agent.host;
    let (id, at) = (DeploymentId::new(uuid::Uuid::nil()), world.clock_now());
    let dialled = flooding.agent.dialled.load(Ordering::SeqCst);
    for _ in 0..10 {
        let probes = Frame::Checked(vec![Checked { id, at }; 8000]);
        flooding.agent.frames.send(probes).unwrap();
    }
    until(async || host_of(state, host).await.flooded_at.is_some()).await;
    let listed = join::list(&state.store).await.unwrap();
    let doubts: Vec<_> = listed.iter().map(|host| join::doubts(host).len()).collect();
    assert_eq!(doubts, [1, 0]);
    // The other one is unaffected, and the notify of the first changes nothing.
    let held = agents[0].document(|_| true).await.generation;
    epoch::raise(&state.store, world.clock_now()).await.unwrap();
    state.wake.host(host);
    state.wake.host(agents[0].agent.host);
    agents[0].document(|manifest| manifest.generation > held).await;
    agents[0].say_host().await;
    assert_eq!(flooding.agent.dialled.load(Ordering::SeqCst), dialled);
}

/// Who holds the host's lease, by the database.
async fn lease_of(state: &AppState, host: HostId) -> Option<Lease> {
    let read: Result<_, StoreError> = state.store.read(move |tables| tables.lease(host)).await;
    read.unwrap()
}

/// Two coordinators on one database, both connected to one host, and the leases are short.
async fn two_coordinators() -> (World, AppState, Running, [AbortOnDropHandle<()>; 2]) {
    let world = World::today_with(|config| config.hosts.lease = Duration::from_secs(3));
    let one = AbortOnDropHandle::new(tokio::spawn(super::run(world.state.clone())));
    let agent = Running::join(&world, "container-host-1").await;
    agent.document(|_| true).await;
    let host = agent.agent.host;
    let beside = world.beside();
    let other = AbortOnDropHandle::new(tokio::spawn(super::run(beside.clone())));
    until(async || beside.connections.get(host).is_ok()).await;
    (world, beside, agent, [one, other])
}

#[tokio::test]
async fn of_two_coordinators_one_pushes_and_both_may_read() {
    let (world, beside, agent, _running) = two_coordinators().await;
    let host = agent.agent.host;
    let holder = lease_of(&world.state, host).await.unwrap().holder;
    let first = agent.document(|_| true).await.generation;
    epoch::raise(&beside.store, world.clock_now()).await.unwrap();
    // The notify of the one that stands by is no reason to push.
    beside.wake.host(host);
    world.state.wake.host(host);
    agent.document(|manifest| manifest.generation > first).await;
    agent.say_host().await;
    assert_eq!(agent.agent.frames.receiver_count(), 1, "one stream of reports");
    assert_eq!(lease_of(&world.state, host).await.unwrap().holder, holder);
    for state in [&world.state, &beside] {
        let handle = state.connections.get(host).unwrap();
        let body = http_body_util::Empty::<Bytes>::new().map_err(|never| match never {});
        let request = http::Request::get("/v1/reports?after=0").body(body.boxed_unsync()).unwrap();
        let deadlines = Deadlines { head: PATIENCE, idle: None };
        let read = handle.call("read", request, deadlines).await.unwrap();
        assert!(read.into_body().frame().await.unwrap().is_ok());
    }
    assert_eq!(host_of(&beside, host).await.unreachable_since, None);
}

#[tokio::test]
async fn fm_77_when_a_coordinator_dies_another_one_pushes_after_its_lease() {
    let (world, beside, agent, [one, _other]) = two_coordinators().await;
    let host = agent.agent.host;
    let held = lease_of(&world.state, host).await.unwrap();
    // Like a kill: nothing is given back.
    one.abort();
    let _ = one.await;
    let first = agent.document(|_| true).await.generation;
    epoch::raise(&beside.store, world.clock_now()).await.unwrap();
    agent.document(|manifest| manifest.generation > first).await;
    let now = lease_of(&beside, host).await.unwrap();
    assert_ne!(now.holder, held.holder);
    agent.say_host().await;
}

#[tokio::test]
async fn a_coordinator_that_drains_hands_its_hosts_over() {
    let (world, beside, agent, [one, _other]) = two_coordinators().await;
    let host = agent.agent.host;
    let held = lease_of(&world.state, host).await.unwrap();
    world.state.drain.cancel();
    one.await.unwrap();
    let left = lease_of(&beside, host).await;
    assert!(left.is_none_or(|lease| lease.holder != held.holder), "it is given back at once");
    let first = agent.document(|_| true).await.generation;
    epoch::raise(&beside.store, world.clock_now()).await.unwrap();
    agent.document(|manifest| manifest.generation > first).await;
}

/// The lease of a process that was killed does not end before half a minute has passed; the next
/// process of the same coordinator has it at once.
#[tokio::test]
async fn a_coordinator_that_was_killed_and_started_again_pushes_at_once() {
    let world = World::today();
    let one = tokio::spawn(super::run(world.state.clone()));
    let agent = Running::join(&world, "container-host-1").await;
    let first = agent.document(|_| true).await.generation;
    let host = agent.agent.host;
    let held = lease_of(&world.state, host).await.unwrap();
    one.abort();
    let _ = one.await;
    let again = world.beside();
    epoch::raise(&again.store, world.clock_now()).await.unwrap();
    let begun = std::time::Instant::now();
    let _running = AbortOnDropHandle::new(tokio::spawn(super::run(again.clone())));
    agent.document(|manifest| manifest.generation > first).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(lease_of(&again, host).await.unwrap().holder, held.holder);
}

/// One coordinator's network is not the host's fault: the other one serves it.
#[tokio::test]
async fn fm_77_a_host_that_one_coordinator_cannot_reach_is_not_unreachable() {
    let (world, beside, agent, [one, other]) = two_coordinators().await;
    let host = agent.agent.host;
    drop(other);
    // From here on the second one finds nobody at the host's address.
    let (state, address) = (world.state.clone(), "127.0.0.1:1".to_owned());
    let moved = async |address: String| {
        let moved: Result<(), StoreError> = state
            .store
            .write(move |tables| {
                let host = tables.host(host)?.unwrap();
                tables.upsert_host(&Host { address: address.clone(), ..host })
            })
            .await;
        moved.unwrap();
    };
    drop(one);
    moved(address).await;
    let (third, long) = (uuid::Uuid::from_u128(7), Duration::from_mins(10));
    until(async || {
        let taken: Result<Lease, StoreError> =
            world.state.store.write(move |tables| tables.acquire_lease(host, third, long)).await;
        taken.unwrap().holder == third
    })
    .await;
    let _blind = AbortOnDropHandle::new(tokio::spawn(super::run(beside.clone())));
    until(async || {
        let away = beside.connections.get(host);
        matches!(away, Err(CallError::NotConnected { since: Some(_), .. }))
    })
    .await;
    assert_eq!(host_of(&beside, host).await.unreachable_since, None);
}

#[tokio::test]
async fn a_host_that_keeps_reconnecting_is_cut_off() {
    let (world, mut agent) = begin().await;
    let (state, host) = (&world.state, agent.agent.host);
    agent.document(|_| true).await;
    let cut_off = async || host_of(state, host).await.flooded_at.is_some();
    for _ in 0..60 {
        // Each connection that is not refused gets the whole document.
        let sent = || agent.agent.envelopes.lock().unwrap().len();
        let before = sent();
        agent.kill().await;
        agent.listen(TcpListener::bind(agent.address).await.unwrap());
        let sent = || agent.agent.envelopes.lock().unwrap().len();
        until(async || {
            state.wake.host(host);
            sent() > before || cut_off().await
        })
        .await;
        if cut_off().await {
            return;
        }
    }
    panic!("it is served on and on");
}
