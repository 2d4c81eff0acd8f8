//! The coordinator's client against the agent's server: over real TLS and HTTP/2 on loopback, both
//! as they are, with the agent's database, and no Podman.

mod logs;
mod streams;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buddo_agent::adapters::podman::Podman;
use buddo_agent::adapters::store::{Entry, Store as AgentStore};
use buddo_agent::control::desired_state::DesiredState;
use buddo_agent::control::server::{self, Router};
use buddo_agent::model::trust::TrustRoots;
use buddo_agent::ports::CurrentContainers;
use buddo_agent::reconcile::report::{HOST, Status};
use buddo_coordinator::auth::password::Cost;
use buddo_coordinator::config::Config;
use buddo_coordinator::crypto::random::SystemRandom;
use buddo_coordinator::daemon;
use buddo_coordinator::host_client::{HostHandle, RequestBody};
use buddo_coordinator::hosts;
use buddo_coordinator::service::hosts::join;
use buddo_coordinator::state::AppState;
use buddo_coordinator::store::StoreError;
use buddo_coordinator::store::contract::Host;
use buddo_runtime::clock::SystemClock;
use buddo_shared::host_wire::join::JoinRequest;
use buddo_shared::host_wire::report::{HostStatus, ReportBody};
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::{DeploymentId, HostId};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Long enough for any machine; only a failing test takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A deployment on the host, and its container.
const APP: (&str, &str) = ("00000000-0000-4000-8000-000000000001", "my-app-1-a");

struct OneApp;

impl CurrentContainers for OneApp {
    fn current(&self, deployment: DeploymentId) -> Option<String> {
        (deployment.to_string() == APP.0).then(|| APP.1.to_owned())
    }
}

/// A coordinator, and an agent that has joined it.
struct Pair {
    state: AppState,
    host: HostId,
    status: Status,
    agent: Option<AbortOnDropHandle<()>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Pair {
    /// With more endpoints than agents have.
    async fn with(more: impl FnOnce(Router) -> Router) -> Self {
        let nobody = Podman::new("/nonexistent/s".into(), HostId::new(uuid::Uuid::nil()));
        Self::reading(nobody, more).await
    }

    /// With logs that Podman has.
    async fn reading(logs: Podman, more: impl FnOnce(Router) -> Router) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let mut config: Config = toml::from_str("zone = 'buddocloud.com'").unwrap();
        config.state_dir = directory.path().join("coordinator");
        let (clock, cost) = (Arc::new(SystemClock), Cost { memory_kib: 8, passes: 1 });
        let state = daemon::assemble(config, clock, Arc::new(SystemRandom), cost).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (key, host, certificate, trust) = joined(&state, &tcp).await;
        let (certificates, key) = (
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
        let tls = server::tls::server_config(certificates, key, &trust).unwrap();
        let store = agent_store(directory.path());
        let desired = DesiredState::restore(trust, store.clone(), Arc::new(SystemClock)).await;
        let status = Status::new(store);
        let stop = CancellationToken::new();
        let routes = server::routes(server::Parts {
            sink: Arc::new(desired.unwrap()),
            outbox: Arc::new(status.clone()),
            logs,
            containers: OneApp,
            stop: stop.clone(),
        });
        let (_tls, tls) = watch::channel(tls);
        let serving = server::serve(tcp, tls, more(routes), stop);
        let writing = status.clone();
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(hosts::run(state.clone()))),
            AbortOnDropHandle::new(tokio::spawn(async move {
                let _ = writing.write(&SystemClock).await;
            })),
        ];
        let agent = Some(AbortOnDropHandle::new(tokio::spawn(serving)));
        Self { state, host, status, agent, _tasks: tasks, _directory: directory }
    }

    /// The connection that the coordinator keeps.
    async fn handle(&self) -> HostHandle {
        until("connected", async || self.state.connections.get(self.host).is_ok()).await;
        self.state.connections.get(self.host).unwrap()
    }

    /// A change of the desired state reaches the host.
    async fn document_arrives(&self) {
        let host = self.host;
        let bumped: Result<_, StoreError> =
            self.state.store.write(move |tables| tables.bump_generation(host)).await;
        let wanted = bumped.unwrap();
        self.state.wake.host(host);
        until("document", async || self.seen().await.acknowledged == Some(wanted)).await;
    }

    /// A change on the host reaches the coordinator.
    async fn report_arrives(&self, memory_mb: u64) {
        let status = HostStatus {
            agent_version: "0.1.0".to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb,
            allocatable_mb: None,
            cpu_millicores: 2000,
            warnings: Vec::new(),
            lacks: None,
        };
        let body = ReportBody::Host(status.clone());
        self.status.set([Entry { subject: HOST.to_owned(), body, last: false }]);
        until("report", async || self.seen().await.status.as_ref() == Some(&status)).await;
    }

    async fn seen(&self) -> Host {
        let host = self.host;
        let read: Result<_, StoreError> =
            self.state.store.read(move |tables| tables.host(host)).await;
        read.unwrap().unwrap()
    }
}

async fn joined(state: &AppState, tcp: &TcpListener) -> (KeyPair, HostId, String, TrustRoots) {
    let now = state.clock.now();
    let invited = join::invite(&state.store, &state.ca, &SystemRandom, now, "host-1", None).await;
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let (_, sealing_key) = OpeningKey::generate().unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let request = JoinRequest { token: invited.unwrap().token.secret, csr, sealing_key, address };
    let joined = join::join(state, request).await.unwrap();
    let trust = TrustRoots::new(joined.host_id, joined.trust).unwrap();
    (key, joined.host_id, joined.certificate, trust)
}

fn agent_store(directory: &Path) -> AgentStore {
    AgentStore::open(&directory.join("agent.db"), 1).unwrap()
}

/// A request without a body.
fn get(path: &str) -> Request<RequestBody> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    Request::get(path).body(body).unwrap()
}

/// Polls for a condition that has no notification.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let met = tokio::time::timeout(PATIENCE, poll).await;
    met.unwrap_or_else(|_| panic!("{what}: the condition did not come true"));
}

/// Waits until a counter has stood still for a while, and returns it.
async fn settled(counter: &AtomicUsize) -> usize {
    let (mut last, mut same) = (counter.load(Ordering::SeqCst), 0);
    until("settled", async || {
        let now = counter.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 100
    })
    .await;
    last
}
