//! Over real TLS on loopback, with the test's own CA.

use std::io::{Error, ErrorKind};
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use buddo_shared::host_wire::join::{COORDINATOR_NAME, host_name};
use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::report::{Accepted, Checked, Frame, Report, ReportBody};
use buddo_shared::host_wire::signed::{MAX_ENVELOPE, Signer, VerifyError, digest_of};
use buddo_shared::model::id::{DeploymentId, Generation, HostId};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{broadcast, watch};
use tokio_rustls::TlsConnector;

use super::established::MAX_ESTABLISHED;
use super::*;
use crate::model::trust::TrustRoots;
use crate::ports::{DesiredStateSink, Outbox, Refusal};

type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let made = params.self_signed(&key).unwrap();
        let (certificate, pem) = (made.der().clone(), made.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    fn trust_roots(&self, host: HostId) -> TrustRoots {
        let signing_keys = vec![Signer::generate().unwrap().public().clone()];
        TrustRoots::new(host, Trust { signing_keys, cas: vec![self.pem.clone()] }).unwrap()
    }

    fn leaf(&self, name: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

/// Plays the agent's core.
struct Core {
    offered: AtomicUsize,
    reports: StdMutex<Vec<Report>>,
    acknowledged: AtomicU64,
    changed: watch::Sender<u64>,
    ephemeral: broadcast::Sender<Frame>,
}

impl Core {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            offered: AtomicUsize::new(0),
            reports: StdMutex::default(),
            acknowledged: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            ephemeral: broadcast::Sender::new(16),
        })
    }

    fn report(&self, seq: u64) {
        self.reports.lock().unwrap().push(Report {
            seq,
            at: Timestamp::UNIX_EPOCH,
            body: ReportBody::Removed { id: DeploymentId::new(uuid::Uuid::nil()) },
        });
        self.changed.send_replace(seq);
    }
}

const NOW: Generation = Generation { epoch: 1, generation: 5 };

impl DesiredStateSink for Core {
    /// The body says how to answer it.
    async fn offer(&self, envelope: Bytes) -> Result<Accepted, Refusal> {
        self.offered.fetch_add(1, Ordering::SeqCst);
        let (offered, now) = (Generation { epoch: 1, generation: 4 }, Timestamp::UNIX_EPOCH);
        match &*envelope {
            b"forged" => Err(VerifyError::Signature.into()),
            b"schema 1" => Err(VerifyError::OlderSchema(1).into()),
            b"schema 3" => Err(VerifyError::NewerSchema(3).into()),
            b"older" => Err(Refusal::Stale { offered, held: NOW }),
            b"conflict" => Err(Refusal::Conflict(NOW)),
            b"expired" => Err(Refusal::Expired { expires_at: now, now }),
            b"future" => Err(Refusal::IssuedInFuture { issued_at: now, now }),
            b"full" => Err(Refusal::Store(Box::new(Error::from(ErrorKind::StorageFull)))),
            bytes => Ok(Accepted { generation: NOW, digest: digest_of(bytes) }),
        }
    }

    async fn answers(&self) {}
}

impl Outbox for Core {
    async fn resume(&self, _after: u64) -> io::Result<()> {
        Ok(())
    }

    async fn after(&self, seq: u64, limit: usize) -> io::Result<Vec<Report>> {
        let reports = self.reports.lock().unwrap();
        Ok(reports.iter().filter(|report| report.seq > seq).take(limit).cloned().collect())
    }

    async fn acknowledge(&self, seq: u64) -> io::Result<()> {
        self.acknowledged.store(seq, Ordering::SeqCst);
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn ephemeral(&self) -> broadcast::Receiver<Frame> {
        self.ephemeral.subscribe()
    }
}

struct World {
    ca: Ca,
    host: HostId,
    address: SocketAddr,
    core: Arc<Core>,
    tls: watch::Sender<Arc<ServerConfig>>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let ca = Ca::new();
        let host = HostId::new(uuid::Uuid::from_u128(7));
        let (chain, key) = ca.leaf(&host_name(host));
        let trust_roots = ca.trust_roots(host);
        let tls = watch::Sender::new(tls::server_config(chain, key, &trust_roots).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (core, stop) = (Core::new(), CancellationToken::new());
        let router = routes(Parts {
            sink: Arc::clone(&core),
            outbox: Arc::clone(&core),
            logs: crate::adapters::podman::Podman::new("/nonexistent/s".into(), host),
            containers: watch::Sender::new(None).subscribe(),
            stop: stop.clone(),
        });
        let server = tokio::spawn(serve(listener, tls.subscribe(), router, stop.clone()));
        Self { ca, host, address, core, tls, stop, server }
    }

    /// Connects as the holder of `credentials`; trusts the world's CA.
    async fn connect(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<SendRequest<Full<Bytes>>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match credentials {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(host_name(self.host)).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn coordinator(&self) -> SendRequest<Full<Bytes>> {
        self.connect(Some(self.ca.leaf(COORDINATOR_NAME))).await.unwrap()
    }

    /// In TLS 1.3 a client learns of its refusal with its first request.
    async fn is_let_in(&self, credentials: Option<Credentials>) -> bool {
        match self.connect(credentials).await {
            Ok(mut sender) => put(&mut sender, "a document").await.is_ok(),
            Err(_) => false,
        }
    }
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, serde_json::Value), hyper::Error> {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://host{path}"))
        .header("content-type", "application/jose+json")
        .body(Full::new(body.into()))
        .unwrap();
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

async fn put(
    sender: &mut SendRequest<Full<Bytes>>,
    document: &'static str,
) -> Result<(StatusCode, serde_json::Value), hyper::Error> {
    send(sender, Method::PUT, "/v1/desired-state", document).await
}

#[tokio::test]
async fn only_the_coordinator_is_let_in() {
    let world = World::new().await;
    assert!(world.is_let_in(Some(world.ca.leaf(COORDINATOR_NAME))).await);
    assert_eq!(world.core.offered.load(Ordering::SeqCst), 1);
    let another_host = host_name(HostId::new(uuid::Uuid::from_u128(8)));
    assert!(!world.is_let_in(None).await, "no certificate");
    assert!(!world.is_let_in(Some(Ca::new().leaf(COORDINATOR_NAME))).await, "another CA");
    assert!(!world.is_let_in(Some(world.ca.leaf(&another_host))).await, "another host");
    assert!(!world.is_let_in(Some(world.ca.leaf(&host_name(world.host)))).await, "itself");
    assert_eq!(world.core.offered.load(Ordering::SeqCst), 1);
}

/// A client that offers TLS 1.2 at most gets the alert `protocol_version` (RFC 8446, 6.2).
#[tokio::test]
async fn tls_1_2_is_refused() {
    let world = World::new().await;
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
    ];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session, one cipher suite (ECDHE-ECDSA-AES128-GCM-SHA256), no compression.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
}

#[tokio::test]
async fn refused_documents_get_a_specific_error_code() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    // Twice: a duplicate is handed on like the first, since judging it is up to the sink.
    for _ in 0..2 {
        let (status, accepted) = put(&mut coordinator, "a document").await.unwrap();
        assert_eq!((status, &accepted["generation"]), (StatusCode::OK, &5.into()));
        assert_eq!(accepted["digest"], digest_of(b"a document").as_str());
    }
    for (document, status, code) in [
        ("forged", 422, "bad_signature"),
        ("schema 1", 422, "older_schema"),
        ("schema 3", 422, "newer_schema"),
        ("older", 409, "stale_generation"),
        ("conflict", 409, "generation_conflict"),
        ("expired", 422, "expired"),
        ("future", 422, "issued_in_future"),
        ("full", 503, "not_stored"),
    ] {
        let (got, problem) = put(&mut coordinator, document).await.unwrap();
        assert_eq!((got.as_u16(), &problem["code"]), (status, &code.into()), "{document}");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let (status, problem) = send(&mut coordinator, Method::GET, "/v1/anything", "").await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (404, &"no_such_endpoint".into()));
}

#[tokio::test]
async fn a_method_that_an_endpoint_does_not_take_is_told_which_it_does() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let request = Request::get("https://host/v1/desired-state").body(Full::default()).unwrap();
    let answer = coordinator.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "PUT");
    let problem = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(problem["code"], "method_not_allowed");
}

/// `fm_39`: what is too large is refused before it is read, and never offered.
#[tokio::test]
async fn fm_39_an_oversized_document_is_refused_unread() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let body = Bytes::from(vec![b'x'; MAX_ENVELOPE + 1]);
    let (status, problem) =
        send(&mut coordinator, Method::PUT, "/v1/desired-state", body).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (413, &"document_too_large".into()));
    assert_eq!(world.core.offered.load(Ordering::SeqCst), 0);
}

async fn next(body: &mut hyper::body::Incoming) -> Vec<Frame> {
    let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
    let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
    data.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn seqs(frames: &[Frame]) -> Vec<u64> {
    let seq = |frame: &Frame| match frame {
        Frame::Report(report) => report.seq,
        other => panic!("{other:?}"),
    };
    frames.iter().map(seq).collect()
}

#[tokio::test]
async fn reports_resume_after_the_given_sequence_number() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    (1..=3).for_each(|seq| world.core.report(seq));
    let request = Request::get("https://host/v1/reports?after=1").body(Full::default()).unwrap();
    let mut body = coordinator.send_request(request).await.unwrap().into_body();
    assert_eq!(seqs(&next(&mut body).await), [2, 3]);
    world.core.report(4);
    assert_eq!(seqs(&next(&mut body).await), [4]);
    let checked = Checked { id: DeploymentId::new(uuid::Uuid::nil()), at: Timestamp::UNIX_EPOCH };
    world.core.ephemeral.send(Frame::Checked(vec![checked])).unwrap();
    assert!(matches!(next(&mut body).await[..], [Frame::Checked(_)]));
    let (status, _) =
        send(&mut coordinator, Method::POST, "/v1/reports/ack", r#"{"through":4}"#).await.unwrap();
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(world.core.acknowledged.load(Ordering::SeqCst), 4);
    let (status, _) = send(&mut coordinator, Method::GET, "/v1/reports?after=x", "").await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_shutdown_ends_open_streams_cleanly() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let request = Request::get("https://host/v1/reports").body(Full::default()).unwrap();
    let body = coordinator.send_request(request).await.unwrap().into_body();
    world.stop.cancel();
    // An end, not a reset: that would be an error here.
    let rest = tokio::time::timeout(DRAIN, body.collect()).await.unwrap().unwrap();
    assert!(rest.to_bytes().is_empty());
    tokio::time::timeout(DRAIN, world.server).await.unwrap().unwrap();
}

/// Its own end of a connection that passes nothing on once it is cut: neither side is told, as when
/// a firewall forgets the connection.
async fn blackhole(to: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = CancellationToken::new();
    let cutting = cut.clone();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = cutting.cancelled() => {}
        }
        // Both stay open and silent.
        std::future::pending::<()>().await;
        drop((near, far));
    });
    (address, cut)
}

#[tokio::test]
async fn fm_07_a_half_open_connection_is_detected_and_dropped() {
    let mut world = World::new().await;
    let (address, cut) = blackhole(world.address).await;
    world.address = address;
    let mut coordinator = world.coordinator().await;
    let request = Request::get("https://host/v1/reports").body(Full::default()).unwrap();
    let mut body = coordinator.send_request(request).await.unwrap().into_body();
    world.core.report(1);
    assert_eq!(seqs(&next(&mut body).await), [1]);
    cut.cancel();
    // While everything waits, paused time jumps to the next deadline.
    tokio::time::pause();
    let began = Instant::now();
    let streams = Arc::strong_count(&world.core);
    while Arc::strong_count(&world.core) == streams {
        assert!(began.elapsed() < Duration::from_mins(5), "the agent holds a dead connection");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() <= KEEP_ALIVE.0 + KEEP_ALIVE.1 + Duration::from_secs(2));
}

#[tokio::test]
async fn silent_and_dead_connections_do_not_block_the_coordinator() {
    let world = World::new().await;
    // More than may be established, all silent.
    let mut strangers = Vec::new();
    for _ in 0..2 * MAX_ESTABLISHED {
        strangers.push(TcpStream::connect(world.address).await.unwrap());
    }
    let mut coordinators = Vec::new();
    for _ in 0..2 * MAX_ESTABLISHED {
        let mut one = world.coordinator().await;
        put(&mut one, "a document").await.unwrap();
        coordinators.push(one);
    }
    // The newest are served, the oldest were cut.
    for (index, one) in coordinators.iter_mut().enumerate() {
        let served = put(one, "a document").await.is_ok();
        assert_eq!(served, index >= MAX_ESTABLISHED, "connection {index}");
    }
    drop(strangers);
}

/// The one that pushes is connected for the longest, and all others are newer: those that do
/// nothing go first.
#[tokio::test]
async fn a_coordinator_with_a_stream_stays_while_others_come_and_go() {
    let world = World::new().await;
    let mut pushing = world.coordinator().await;
    let request = Request::get("https://host/v1/reports").body(Full::default()).unwrap();
    let mut reports = pushing.send_request(request).await.unwrap().into_body();
    let mut others = Vec::new();
    for _ in 0..2 * MAX_ESTABLISHED {
        let mut one = world.coordinator().await;
        put(&mut one, "a document").await.unwrap();
        others.push(one);
    }
    world.core.report(1);
    assert_eq!(seqs(&next(&mut reports).await), [1]);
    put(&mut pushing, "a document").await.unwrap();
    assert!(put(&mut others[0], "a document").await.is_err(), "the oldest idle one was cut");
}

#[tokio::test]
async fn a_newly_trusted_ca_is_admitted_without_dropping_connections() {
    let world = World::new().await;
    let next = Ca::new();
    let mut before = world.coordinator().await;
    put(&mut before, "a document").await.unwrap();
    assert!(!world.is_let_in(Some(next.leaf(COORDINATOR_NAME))).await);
    let (chain, key) = world.ca.leaf(&host_name(world.host));
    let mut trust = world.ca.trust_roots(world.host).wire().clone();
    trust.cas.push(next.pem.clone());
    let trust_roots = TrustRoots::new(world.host, trust).unwrap();
    world.tls.send_replace(tls::server_config(chain, key, &trust_roots).unwrap());
    assert!(world.is_let_in(Some(next.leaf(COORDINATOR_NAME))).await);
    assert!(world.is_let_in(Some(world.ca.leaf(COORDINATOR_NAME))).await);
    put(&mut before, "a document").await.unwrap();
}

async fn stranger(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the other end has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// More than there are slots, from one address and from many; the last of them are still connected
/// when the coordinator is in, so that it did not wait for any of them to time out.
#[tokio::test]
async fn fm_61_many_idle_connections_do_not_block_the_coordinator() {
    for addresses in [1, 100] {
        let world = World::new().await;
        let mut strangers = Vec::new();
        for n in 0..3 * u8::try_from(crowd::MAX_STRANGERS).unwrap() {
            strangers.push(stranger([127, 0, 1, 1 + n % addresses], world.address).await);
        }
        let mut coordinator = world.coordinator().await;
        put(&mut coordinator, "a document").await.unwrap();
        let open = strangers.iter().rev().take_while(|stream| is_open(stream)).count();
        assert!(open >= 8, "only {open} of the newest are left");
        let gone = tokio::time::timeout(Duration::from_secs(20), strangers[0].readable()).await;
        assert!(gone.is_ok() && !is_open(&strangers[0]), "the oldest had to go");
        // From now on it has slots of its own.
        for n in 0..3 * u8::try_from(crowd::MAX_STRANGERS).unwrap() {
            strangers.push(stranger([127, 0, 1, 1 + n % addresses], world.address).await);
        }
        put(&mut world.coordinator().await, "a document").await.unwrap();
    }
}

/// Its slot is another's, and it is closed before its deadline.
#[tokio::test]
async fn an_evicted_handshake_is_closed_at_once() {
    let world = World::new().await;
    let begun = Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..=crowd::MAX_STRANGERS {
        strangers.push(stranger([127, 0, 1, 1], world.address).await);
    }
    let gone = tokio::time::timeout(HANDSHAKE_DEADLINE, strangers[0].readable()).await;
    assert!(gone.is_ok() && !is_open(&strangers[0]));
    assert!(begun.elapsed() < HANDSHAKE_DEADLINE / 2, "{:?}", begun.elapsed());
}

/// A handshake of a proven address goes on, though it began before all of theirs.
#[tokio::test]
async fn strangers_do_not_evict_a_handshake_from_a_proven_address() {
    let world = World::new().await;
    put(&mut world.coordinator().await, "a document").await.unwrap();
    let another = TcpStream::connect(world.address).await.unwrap();
    let mut strangers = Vec::new();
    for n in 0..=u8::try_from(crowd::MAX_STRANGERS).unwrap() {
        strangers.push(stranger([127, 0, 1, 1 + n], world.address).await);
    }
    let gone = tokio::time::timeout(HANDSHAKE_DEADLINE / 2, strangers[0].readable()).await;
    assert!(gone.is_ok() && !is_open(&strangers[0]), "one of them had to go");
    assert!(is_open(&another));
}
