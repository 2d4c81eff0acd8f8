//! Renewals over real TLS on loopback; the test plays the coordinator, with its own CA.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use buddo_shared::api::problem::Problem;
use buddo_shared::host_wire::join::{COORDINATOR_NAME, host_name, serial};
use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::renewal::{BINDING_LABEL, Binding, Claim, HostKey};
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::host_wire::signed::Signer;
use buddo_shared::model::name::HostName;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PublicKeyData as _, SerialNumber,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::*;

const HOST: HostId = HostId::new(Uuid::from_u128(7));
const PATIENCE: Duration = Duration::from_secs(20);

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn steady(&self) -> Duration {
        Duration::ZERO
    }
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self, name: &str, key: &KeyPair, number: u32) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&serial(HOST, number)));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2060, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).unwrap()
    }
}

/// What the coordinator does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// Issues the next certificate, by the newest CA.
    Certificate,
    /// Issues it, but the connection breaks.
    Lost,
    /// Says that this host exists twice.
    Locked,
}

struct World {
    cas: Vec<Ca>,
    key: KeyPair,
    folder: tempfile::TempDir,
    clock: Arc<SetClock>,
    trust_roots: watch::Sender<Arc<TrustRoots>>,
    /// The requests: number and id.
    asked: Arc<Mutex<Vec<(u32, Uuid)>>>,
    asked_again: watch::Receiver<usize>,
    coordinator: String,
    _serving: AbortOnDropHandle<()>,
}

fn trust_roots(cas: &[&Ca]) -> TrustRoots {
    let signing_keys = vec![Signer::generate().unwrap().public().clone()];
    TrustRoots::new(
        HOST,
        Trust { signing_keys, cas: cas.iter().map(|ca| ca.pem.clone()).collect() },
    )
    .unwrap()
}

impl World {
    /// A coordinator with a CA and the next one; it follows the script, then issues certificates.
    async fn new(script: Vec<Answer>) -> Self {
        let cas = vec![Ca::new(), Ca::new()];
        let key = KeyPair::generate().unwrap();
        let server = KeyPair::generate().unwrap();
        let leaf = cas[0].leaf(COORDINATOR_NAME, &server, 0);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivatePkcs8KeyDer::from(server.serialize_der()).into(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let coordinator = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (count, asked_again) = watch::channel(0);
        let public = HostKey::from_spki(&key.subject_public_key_info()).unwrap();
        let made: Vec<String> =
            (0..8).map(|n| cas[1].leaf(&host_name(HOST), &key, n).pem()).collect();
        let log = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            let mut script = script.into_iter();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let binding = stream
                    .get_ref()
                    .1
                    .export_keying_material([0; 32], BINDING_LABEL, Some(b""))
                    .map(Binding)
                    .unwrap();
                let mut text = Vec::new();
                let claim = loop {
                    assert!(stream.read_buf(&mut text).await.unwrap() > 0, "cut off");
                    let whole = String::from_utf8_lossy(&text).into_owned();
                    if let Some((head, body)) = whole.split_once("\r\n\r\n")
                        && let Ok(claim) = Claim::read(body.as_bytes())
                    {
                        assert!(head.starts_with("POST /v1/renew "), "{head}");
                        break claim;
                    }
                };
                let statement = claim.verify(&public, binding).unwrap();
                log.lock().unwrap().push((statement.number, statement.request));
                let number = usize::try_from(statement.number).unwrap();
                let renewed = Renewed { certificate: made[number + 1].clone() };
                let (status, body) = match script.next().unwrap_or(Answer::Certificate) {
                    Answer::Certificate => (200, serde_json::to_string(&renewed).unwrap()),
                    Answer::Lost => {
                        count.send_modify(|count| *count += 1);
                        continue;
                    }
                    Answer::Locked => {
                        let problem = Problem::new(403, LOCKED, "x", "there are two copies");
                        (403, serde_json::to_string(&problem).unwrap())
                    }
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                count.send_modify(|count| *count += 1);
            }
        });
        let folder = tempfile::tempdir().unwrap();
        // Before half of the certificate's life.
        let clock = Arc::new(SetClock(AtomicI64::new(1_700_000_000)));
        let trust_roots = watch::Sender::new(Arc::new(trust_roots(&[&cas[0]])));
        Self {
            cas,
            key,
            folder,
            clock,
            trust_roots,
            asked,
            asked_again,
            coordinator,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn renewer(&self) -> Renewer<SetClock> {
        let identity = Identity {
            host_id: HOST,
            joined: Uuid::from_u128(1),
            coordinator: self.coordinator.clone(),
            zone: HostName::parse("apps.example.test").unwrap(),
            trust_roots: (**self.trust_roots.borrow()).clone(),
            opening_key: OpeningKey::generate().unwrap().0,
            key: Secret::new(self.key.serialize_pem()),
            certificate: self.cas[0].leaf(&host_name(HOST), &self.key, 1).der().clone(),
        };
        let (folder, clock) = (self.folder.path().to_owned(), Arc::clone(&self.clock));
        // No spread: what is due is due now.
        Renewer::new(&identity, folder, clock, Arc::new(|| 0.0), self.trust_roots.subscribe())
            .unwrap()
    }

    async fn asked(&mut self, times: usize) -> Vec<(u32, Uuid)> {
        let enough = self.asked_again.wait_for(|count| *count >= times);
        tokio::time::timeout(PATIENCE, enough).await.expect("nothing was asked").unwrap();
        self.asked.lock().unwrap().clone()
    }
}

fn start(renewer: Renewer<SetClock>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(renewer.run(CancellationToken::new())))
}

#[tokio::test]
async fn fm_40_an_expired_certificate_is_renewed_and_kept() {
    let mut world = World::new(vec![]).await;
    // The year 2096: its certificate expired long ago.
    world.clock.0.store(4_000_000_000, Ordering::SeqCst);
    // The next certificate is by the next CA, which is trusted beside the first.
    world.trust_roots.send_replace(Arc::new(trust_roots(&[&world.cas[1], &world.cas[0]])));
    let _running = start(world.renewer());
    assert_eq!(world.asked(1).await[0].0, 1);
    // The second request is for the one after: the first was answered and its answer stored.
    assert_eq!(world.asked(2).await[1].0, 2);
    let kept = std::fs::read(world.folder.path().join("host.pem")).unwrap();
    let kept = CertificateDer::from_pem_slice(&kept).unwrap();
    assert!(Life::of(&kept).unwrap().number >= 2);
}

#[tokio::test]
async fn an_unanswered_request_is_repeated_unchanged_after_a_restart() {
    let mut world = World::new(vec![Answer::Lost, Answer::Lost, Answer::Certificate]).await;
    world.clock.0.store(4_000_000_000, Ordering::SeqCst);
    let running = start(world.renewer());
    world.asked(1).await;
    drop(running);
    let _running = start(world.renewer());
    let asked = world.asked(3).await;
    assert_eq!(asked[0], asked[1], "another request would look like a copy of this host");
    assert_eq!(asked[1], asked[2]);
}

#[tokio::test]
async fn a_certificate_of_a_retiring_ca_is_renewed_at_once() {
    let mut world = World::new(vec![]).await;
    let renewer = world.renewer();
    let _running = start(renewer);
    assert!(!world.folder.path().join(RENEWAL).exists(), "it is not due");
    world.trust_roots.send_replace(Arc::new(trust_roots(&[&world.cas[1], &world.cas[0]])));
    assert_eq!(world.asked(1).await[0].0, 1);
}

#[tokio::test]
async fn fm_41_a_locked_out_host_reports_it_with_the_remedy() {
    let mut world = World::new(vec![Answer::Locked; 50]).await;
    world.clock.0.store(4_000_000_000, Ordering::SeqCst);
    let renewer = world.renewer();
    let mut alarm = renewer.alarm();
    let _running = start(renewer);
    world.asked(1).await;
    let said = alarm.wait_for(Option::is_some);
    let said = tokio::time::timeout(PATIENCE, said).await.unwrap().unwrap().clone().unwrap();
    for part in ["locked this host out", "apps run on", "there are two copies"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    assert!(!world.folder.path().join("host.pem").exists());
}
