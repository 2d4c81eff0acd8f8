//! The pusher against an agent double on a real TLS socket, which joins, verifies and
//! acknowledges as an agent does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use buddo_shared::api::host::{COORDINATOR_NAME, JoinRequest, Joined};
use buddo_shared::api::problem::Problem;
use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::manifest::{Manifest, RunState};
use buddo_shared::report::{
    Accepted, Acknowledge, DeploymentStatus, Frame, Health, HostStatus, Phase, Progress, Report,
    ReportBody,
};
use buddo_shared::sealed::{OpeningKey, Sealed};
use buddo_shared::signed::Verifier;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
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

use crate::random::SystemRandom;
use crate::serve::{self, Listener};
use crate::service::{deployments, epoch, hosts};
use crate::testing::{World, account, request};

/// Long enough for any machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the double saw and has to say.
struct Agent {
    verifier: Verifier,
    opening: OpeningKey,
    manifest: watch::Sender<Option<Manifest>>,
    envelopes: Mutex<Vec<Bytes>>,
    acknowledged: watch::Sender<u64>,
    /// What it refuses documents with, instead of taking them.
    refuses: Mutex<Option<&'static str>>,
    said: Mutex<Vec<Report>>,
    frames: broadcast::Sender<Frame>,
}

/// A running double; it stops when dropped.
struct Running {
    agent: Arc<Agent>,
    serving: Option<AbortOnDropHandle<()>>,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
}

impl Running {
    /// Joins `world` as `name` and listens.
    async fn join(world: &World, name: &str) -> Self {
        let state = &world.state;
        let invitation =
            hosts::invite(&state.store, &state.ca, &SystemRandom, world.state.clock.now(), name)
                .await
                .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (opening, sealing_key) = OpeningKey::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let token = invitation.token.secret;
        let request = JoinRequest { token, csr, sealing_key, address: address.to_string() };
        let joined = hosts::join(state, request.clone()).await.unwrap();
        let again = hosts::join(state, request).await;
        assert!(matches!(again, Err(hosts::HostError::Token)), "a token works once");
        let tls = agent_tls(&joined, &key);
        let agent = Arc::new(Agent {
            verifier: Verifier::new(joined.host_id, &joined.signing_keys).unwrap(),
            opening,
            manifest: watch::Sender::new(None),
            envelopes: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            refuses: Mutex::default(),
            said: Mutex::default(),
            frames: broadcast::Sender::new(64),
        });
        let mut running = Self { agent, serving: None, address, tls };
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
        let tls = self.tls.clone();
        let tls: serve::Tls = Arc::new(move || Ok(tls.clone()));
        let listener = Listener { tcp, tls, router, connections: 8, proxies: Vec::new() };
        let serving = tokio::spawn(serve::serve(listener, CancellationToken::new()));
        self.serving = Some(AbortOnDropHandle::new(serving));
    }

    /// As if killed: listener and connections are gone at once.
    fn kill(&mut self) {
        self.serving = None;
    }

    /// Waits for a document that is as `wanted` says.
    async fn document(&self, wanted: impl FnMut(&Manifest) -> bool) -> Manifest {
        let mut wanted = wanted;
        let mut documents = self.agent.manifest.subscribe();
        let found = documents.wait_for(|held| held.as_ref().is_some_and(&mut wanted));
        let found = tokio::time::timeout(PATIENCE, found).await.expect("no such document came");
        found.unwrap().clone().unwrap()
    }

    /// Reports, and waits until that is acknowledged.
    async fn say(&self, body: ReportBody) {
        let report = {
            let mut said = self.agent.said.lock().unwrap();
            let seq = said.len() as u64 + 1;
            let report = Report { seq, at: "2026-05-21T10:00:05Z".parse().unwrap(), body };
            said.push(report.clone());
            report
        };
        let seq = report.seq;
        // Nobody may listen yet: a stream that opens later begins with it.
        let _ = self.agent.frames.send(Frame::Report(report));
        let mut acknowledged = self.agent.acknowledged.subscribe();
        let committed = acknowledged.wait_for(|through| *through >= seq);
        tokio::time::timeout(PATIENCE, committed).await.expect("not acknowledged").unwrap();
    }

    async fn say_host(&self) {
        // The pusher runs already: it serves a host from the moment it has joined.
        self.say(ReportBody::Host(HostStatus {
            agent_version: "0.1.0".to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb: 8192,
            cpu_millicores: 2000,
            warnings: Vec::new(),
        }))
        .await;
    }
}

fn agent_tls(joined: &Joined, key: &KeyPair) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(joined.ca.as_bytes()).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(joined.certificate.as_bytes()).unwrap();
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
        let problem = Problem::new(409, code, "refused", "older than what the host holds");
        return (StatusCode::CONFLICT, Json(problem)).into_response();
    }
    let verified = agent.verifier.verify(&envelope).expect("the document verifies");
    let digest = verified.digest().clone();
    let manifest = verified.into_inner();
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

async fn acknowledge(State(agent): State<Arc<Agent>>, Json(ack): Json<Acknowledge>) {
    agent.acknowledged.send_replace(ack.through);
}

fn status(id: DeploymentId, phase: Phase, serving: Option<Revision>) -> ReportBody {
    ReportBody::Deployment(DeploymentStatus {
        id,
        revision: Revision::FIRST,
        phase,
        serving,
        health: Health::Healthy,
        checked_at: None,
        digest: None,
        failure: None,
        container: Some("my-app-1-a".to_owned()),
        put_back: None,
    })
}

async fn begin() -> (World, Running) {
    let world = World::today();
    tokio::spawn(super::run(world.state.clone()));
    let agent = Running::join(&world, "container-host-1").await;
    (world, agent)
}

#[tokio::test]
async fn a_create_reaches_the_host_signed_and_its_report_comes_back() {
    let (world, agent) = begin().await;
    let mut spec = request("my-app");
    let vars = [("KEY".to_owned(), buddo_shared::secret::Secret::new("value"))];
    spec.env_vars = Some(vars.into_iter().collect());
    let made = deployments::create(&world.state, account(1), spec, None).await.unwrap();
    let id: DeploymentId = made.deployment.id.parse().unwrap();
    let manifest = agent.document(|m| m.deployments.len() == 1).await;
    let desired = &manifest.deployments[0];
    assert_eq!((desired.id, desired.run), (id, RunState::Running));
    assert_eq!(manifest.expires_at.duration_since(manifest.issued_at).as_hours(), 24);
    let env = desired.env.as_ref().unwrap().open(&agent.agent.opening, Sealed::ENVIRONMENT, id);
    assert_eq!(env.unwrap().expose(), r#"{"KEY":"value"}"#);

    let mut watch = world.state.live.watch(account(1), id).unwrap();
    let revision = Revision::FIRST;
    let progress = Progress { id, revision, phase: Phase::Pulling, percent: Some(43) };
    agent.agent.frames.send(Frame::Progress(progress)).unwrap();
    assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap());
    let shown = deployments::status(&world.state, account(1), id).await.unwrap();
    assert_eq!(shown.progress.unwrap().percent, Some(43));

    agent.say(status(id, Phase::Live, Some(revision))).await;
    let shown = deployments::status(&world.state, account(1), id).await.unwrap();
    assert_eq!(shown.status.as_str(), "running");
    assert_eq!(shown.progress, None);

    deployments::destroy(&world.state, account(1), id).await.unwrap();
    let last = agent.document(|m| m.deployments.is_empty()).await;
    assert!(last.generation > manifest.generation);
}

#[tokio::test]
async fn a_coordinator_that_died_after_its_answer_still_delivers() {
    let world = World::today();
    let pusher = tokio::spawn(super::run(world.state.clone()));
    let agent = Running::join(&world, "container-host-1").await;
    pusher.abort();
    let _ = pusher.await;
    deployments::create(&world.state, account(1), request("my-app"), None).await.unwrap();
    let world = world.reopened();
    tokio::spawn(super::run(world.state.clone()));
    agent.document(|m| m.deployments.len() == 1).await;
}

#[tokio::test]
async fn an_agent_that_comes_back_gets_the_same_bytes_and_resumes_its_reports() {
    let (world, mut agent) = begin().await;
    let made = deployments::create(&world.state, account(1), request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    agent.document(|m| m.deployments.len() == 1).await;
    let sent = agent.agent.envelopes.lock().unwrap().last().cloned().unwrap();
    agent.kill();
    agent.agent.manifest.send_replace(None);
    let seen = world.state.clone();
    let host = hosts::list(&seen.store).await.unwrap()[0].id;
    until(async || {
        let listed = hosts::list(&seen.store).await.unwrap();
        listed.iter().any(|h| h.id == host && h.unreachable_since.is_some())
    })
    .await;
    // The same address, as after a restart of the agent.
    agent.listen(TcpListener::bind(agent.address).await.unwrap());
    world.state.wake.host(host);
    agent.document(|m| m.deployments.len() == 1).await;
    assert_eq!(agent.agent.envelopes.lock().unwrap().last(), Some(&sent));
    agent.say(status(id, Phase::Live, Some(Revision::FIRST))).await;
    let listed = hosts::list(&world.state.store).await.unwrap();
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
async fn fm_20_a_host_that_is_ahead_is_said_to_be_and_an_epoch_raise_reaches_it() {
    let (world, agent) = begin().await;
    let first = agent.document(|_| true).await;
    *agent.agent.refuses.lock().unwrap() = Some("stale_generation");
    let made = deployments::create(&world.state, account(1), request("my-app"), None).await;
    let id: DeploymentId = made.unwrap().deployment.id.parse().unwrap();
    let store = world.state.store.clone();
    let refusal = async || hosts::list(&store).await.unwrap()[0].refusal.clone();
    until(async || refusal().await.is_some()).await;
    let why = refusal().await.unwrap();
    assert!(why.contains("stale_generation") && why.contains("epoch raise"), "{why}");
    assert_eq!(hosts::list(&store).await.unwrap()[0].unreachable_since, None);
    let shown = deployments::status(&world.state, account(1), id).await.unwrap();
    assert!(shown.last_error.unwrap().contains("does not take changes"));
    // Its reports are taken all the same.
    agent.say(status(id, Phase::Pulling, None)).await;

    let raised = epoch::raise(&store, world.state.clock.now()).await.unwrap();
    *agent.agent.refuses.lock().unwrap() = None;
    world.state.wake.host(first.host_id);
    let second = agent.document(|m| m.deployments.len() == 1).await;
    assert_eq!(second.generation.epoch, raised.epoch);
    until(async || refusal().await.is_none()).await;
}

#[tokio::test]
async fn a_host_that_joins_again_is_served_at_its_new_address_from_its_first_report_on() {
    let (world, old) = begin().await;
    old.document(|_| true).await;
    // The machine that was in its place still runs, and has lost nothing.
    let new = Running::join(&world, "container-host-1").await;
    new.document(|_| true).await;
    let listed = hosts::list(&world.state.store).await.unwrap();
    assert_eq!((listed.len(), listed[0].report_seq), (1, 1));
    let before = old.agent.envelopes.lock().unwrap().len();
    deployments::create(&world.state, account(1), request("my-app"), None).await.unwrap();
    new.document(|m| m.deployments.len() == 1).await;
    assert_eq!(old.agent.envelopes.lock().unwrap().len(), before, "nothing goes to the old one");
}

#[tokio::test]
async fn another_host_in_its_place_gets_nothing() {
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
            host.address = address;
            tables.upsert_host(&host)
        })
        .await
        .map_err(|error: crate::store::StoreError| error)
        .unwrap();
    first.kill();
    let store = world.state.store.clone();
    until(async || {
        let listed = hosts::list(&store).await.unwrap();
        listed.iter().any(|host| host.id == id && host.unreachable_since.is_some())
    })
    .await;
    assert_eq!(sent(&second), before);
}

/// Waits for a condition that has no notification.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("the condition did not come true");
}

#[tokio::test]
async fn the_coordinator_shows_its_name_to_agents() {
    let world = World::new();
    let identity = world.state.ca.identity().unwrap();
    let again = world.state.ca.identity().unwrap();
    assert!(Arc::ptr_eq(&identity.client, &again.client), "made once");
    world.clock.advance(SignedDuration::from_hours(31 * 24));
    let renewed = world.state.ca.identity().unwrap();
    assert!(!Arc::ptr_eq(&identity.client, &renewed.client), "made anew with age");
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
