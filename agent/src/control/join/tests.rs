//! Joins over real TLS on loopback; the test plays the coordinator, with its own CA.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::api::problem::Problem;
use buddo_shared::host_wire::join::{COORDINATOR_NAME, host_name};
use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::signed::Signer;
use buddo_shared::model::id::HostId;
use buddo_shared::model::name::HostName;
use buddo_shared::model::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const HOST: HostId = HostId::new(uuid::Uuid::from_u128(7));

struct Coordinator {
    issuer: Issuer<'static, KeyPair>,
    ca: rcgen::Certificate,
    signer: Signer,
}

fn usages(params: &mut CertificateParams) {
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}

impl Coordinator {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), ca, signer: Signer::generate().unwrap() }
    }

    fn token(&self) -> JoinToken {
        let secret = Secret::new(BASE64.encode([7; 32]));
        JoinToken { secret, ca_fingerprint: pin::fingerprint(self.ca.der()) }
    }

    fn joined(&self, request: &JoinRequest, name: &str) -> Joined {
        let mut csr = CertificateSigningRequestParams::from_pem(&request.csr).unwrap();
        let name = name.try_into().unwrap();
        csr.params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        usages(&mut csr.params);
        Joined {
            host_id: HOST,
            certificate: csr.signed_by(&self.issuer).unwrap().pem(),
            trust: Trust {
                signing_keys: vec![self.signer.public().clone()],
                cas: vec![self.ca.pem()],
            },
            zone: HostName::parse("apps.example.test").unwrap(),
        }
    }

    /// Listens with a certificate for `name`, answers one join with `answer`, and returns the
    /// request, if the peer got that far.
    async fn listen(
        &self,
        name: &str,
        answer: impl FnOnce(&JoinRequest) -> (u16, String) + Send + 'static,
    ) -> (String, tokio::task::JoinHandle<Option<String>>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        usages(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone(), self.ca.der().clone()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = TlsAcceptor::from(Arc::new(tls)).accept(stream).await.ok()?;
            let mut text = Vec::new();
            let (head, body) = loop {
                if stream.read_buf(&mut text).await.ok()? == 0 {
                    return None;
                }
                let whole = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = whole.split_once("\r\n\r\n")
                    && serde_json::from_str::<JoinRequest>(body).is_ok()
                {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let (status, body) = answer(&serde_json::from_str(&body).unwrap());
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            Some(head)
        });
        (url, server)
    }
}

fn options(url: String, token: JoinToken, folder: &tempfile::TempDir) -> JoinOptions {
    JoinOptions {
        coordinator: url,
        token,
        advertise: "host1.example.test:8443".to_owned(),
        state_dir: folder.path().join("state"),
        force: false,
    }
}

/// Joins with a coordinator that gives a certificate for `name`.
async fn join_as(name: String, folder: &tempfile::TempDir) -> Result<Identity, JoinError> {
    let coordinator = Arc::new(Coordinator::new());
    let answering = Arc::clone(&coordinator);
    let (url, server) = coordinator
        .listen(COORDINATOR_NAME, move |request| {
            assert_eq!(request.token, answering.token().secret);
            assert_eq!(request.address, "host1.example.test:8443");
            (200, serde_json::to_string(&answering.joined(request, &name)).unwrap())
        })
        .await;
    let joined = join(&options(url, coordinator.token(), folder)).await;
    assert!(server.await.unwrap().unwrap().starts_with("POST /v1/join HTTP/1.1"));
    joined
}

#[tokio::test]
async fn joining_stores_a_private_identity_and_works_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    assert!(Identity::load(&state).unwrap().is_none());
    let identity = join_as(host_name(HOST), &folder).await.unwrap();
    assert_eq!(identity.host_id, HOST);
    assert_eq!(Identity::load(&state).unwrap().unwrap().zone, identity.zone);
    for file in std::fs::read_dir(&state).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 4);
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    // That it is too late is known without asking anybody.
    let again = options("https://127.0.0.1:1".to_owned(), Coordinator::new().token(), &folder);
    assert!(matches!(join(&again).await, Err(JoinError::Joined(HOST))));
}

#[tokio::test]
async fn the_secret_is_not_sent_to_another_ca_or_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let (real, thief) = (Coordinator::new(), Coordinator::new());
    for (server, name) in [(&thief, COORDINATOR_NAME), (&real, "x.hosts.internal")] {
        let (url, asked) = server.listen(name, |_| unreachable!()).await;
        let error = join(&options(url, real.token(), &folder)).await.unwrap_err();
        assert!(matches!(error, JoinError::Call(CallError::Impostor { .. })), "{error}");
        assert_eq!(asked.await.unwrap(), None);
    }
    assert!(Identity::load(&folder.path().join("state")).unwrap().is_none());
}

#[tokio::test]
async fn an_answer_for_another_host_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let error = join_as("someone-else.hosts.internal".to_owned(), &folder).await.unwrap_err();
    assert!(matches!(error, JoinError::Identity(IdentityError::Answer(_))), "{error}");
    assert!(Identity::load(&folder.path().join("state")).unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_quotes_the_coordinators_reason() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::new();
    let (url, _) = coordinator
        .listen(COORDINATOR_NAME, |_| {
            let problem = Problem::new(403, "x", "x", "the join token has expired");
            (403, serde_json::to_string(&problem).unwrap())
        })
        .await;
    let error = join(&options(url, coordinator.token(), &folder)).await.unwrap_err();
    assert_eq!(error.to_string(), "the coordinator refuses (403): the join token has expired");
}

#[test]
fn validates_coordinator_urls_and_host_addresses() {
    assert_eq!(authority("https://c.example.test:7443/").unwrap(), "c.example.test:7443");
    assert_eq!(authority("https://c.example.test").unwrap(), "c.example.test:443");
    for bad in ["http://c:1", "c.example.test:7443", "https://a@c:1", "https://c/x", ""] {
        assert!(authority(bad).is_err(), "{bad}");
    }
    assert!(is_host_port("10.0.0.1:8443") && is_host_port("[::1]:8443"));
    for bad in ["10.0.0.1", "h:0", "h:", ":1", "https://h:1", "a@h:1", "h:99999"] {
        assert!(!is_host_port(bad), "{bad}");
    }
}

#[test]
fn a_damaged_identity_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("identity.json"), "{").unwrap();
    let error = Identity::load(folder.path()).unwrap_err();
    assert!(error.to_string().contains("identity.json is damaged"), "{error}");
}
