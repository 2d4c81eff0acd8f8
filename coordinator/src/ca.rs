//! The host CA: a root that signs hosts' certificates and the coordinator's own, and nothing else.
//!
//! `ca.key` and `ca.pem` live 10 years in the state directory; the coordinator's certificate, for
//! its listeners and as client of agents, is made anew in memory when it is a third old.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use buddo_shared::api::host::{COORDINATOR_NAME, host_name};
use buddo_shared::id::HostId;
use buddo_shared::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::clock::Clock;
use crate::secret_file::{self, SecretFileError};

/// Days that the CA itself is valid.
const CA_DAYS: u64 = 3650;
/// Days that certificates of hosts and of the coordinator are valid.
const LEAF_DAYS: u64 = 90;
/// A clock that is a little behind must not refuse a fresh certificate.
const BACKDATE: Duration = Duration::from_hours(1);
/// The age at which the coordinator's own certificate is made anew.
const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of it cannot be used.
    #[error("cannot use the host CA's files")]
    File(#[from] SecretFileError),
    /// A certificate or key cannot be made or read.
    #[error("cannot {operation}")]
    Certificate {
        /// What was to be done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// The certificate file holds no certificate.
    #[error("the certificate file is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// TLS refuses what was made.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

fn failed(operation: &'static str) -> impl FnOnce(rcgen::Error) -> CaError {
    move |source| CaError::Certificate { operation, source }
}

/// The CA and what is made with it.
pub struct HostCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    api_names: Vec<String>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Identity>>,
}

impl std::fmt::Debug for HostCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostCa").finish_non_exhaustive()
    }
}

/// TLS of the coordinator under certificates of one age.
#[derive(Clone)]
pub struct Identity {
    made: Timestamp,
    /// Towards agents: this CA alone, TLS 1.3, HTTP/2.
    pub client: Arc<ClientConfig>,
    /// The listener for hosts. Its chain holds the CA, so that an agent can compare the
    /// fingerprint in its token.
    pub hosts: Arc<ServerConfig>,
    /// The API, where no certificate is configured.
    pub api: Arc<ServerConfig>,
}

impl HostCa {
    /// Reads the CA from the state directory, or makes it. `api_names` are the names of the API's
    /// certificate where none is configured.
    pub fn open(
        directory: &Path,
        api_names: &[String],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let key = secret_file::read_or_create::<CaError>(&directory.join("ca.key"), || {
            let key = KeyPair::generate().map_err(failed("make the host CA's key"))?;
            Ok(Secret::new(key.serialize_pem()))
        })?;
        let key = KeyPair::from_pem(key.expose()).map_err(failed("read the host CA's key"))?;
        let pem = secret_file::read_or_create::<CaError>(&directory.join("ca.pem"), || {
            let made = ca_params(clock.now())
                .self_signed(&key)
                .map_err(failed("make the host CA's certificate"))?;
            Ok(Secret::new(made.pem()))
        })?;
        let pem = pem.expose().to_owned();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(CaError::Pem)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(failed("read the host CA's certificate"))?;
        let api_names = api_names.to_vec();
        Ok(Self { issuer, certificate, pem, api_names, clock, current: Mutex::new(None) })
    }

    /// The CA's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the CA's certificate, which join tokens carry.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.certificate).as_ref());
        hash
    }

    /// Signs the certificate of a host. Of the request only the key is taken, once its signature
    /// proves that the sender has it; names and usages are the CA's to decide.
    pub fn sign_host(&self, id: HostId, csr: &str) -> Result<String, CaError> {
        let request =
            CertificateSigningRequestParams::from_pem(csr).map_err(failed("accept the request"))?;
        let san = vec![dns_name(&host_name(id))?];
        Ok(self.leaf(san, &request.public_key)?.pem())
    }

    /// The coordinator's TLS, made anew when it has come of age.
    pub fn identity(&self) -> Result<Identity, CaError> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(identity) if now.duration_since(identity.made).abs() < RENEW_AFTER => {
                Ok(identity.clone())
            }
            _ => Ok(current.insert(self.make_identity(now)?).clone()),
        }
    }

    fn make_identity(&self, made: Timestamp) -> Result<Identity, CaError> {
        let (chain, key) = self.key_and_chain(vec![dns_name(COORDINATOR_NAME)?])?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let tls13 = &[&rustls::version::TLS13];
        let mut client = ClientConfig::builder_with_protocol_versions(tls13)
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut hosts = ServerConfig::builder_with_protocol_versions(tls13)
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        hosts.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let names = self.api_names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        let (chain, key) = self.key_and_chain(names)?;
        let api = api_config(chain, key)?;
        Ok(Identity { made, client: Arc::new(client), hosts: Arc::new(hosts), api: Arc::new(api) })
    }

    fn key_and_chain(
        &self,
        names: Vec<SanType>,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let leaf = self.leaf(names, &key)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    fn leaf(
        &self,
        san: Vec<SanType>,
        key: &impl PublicKeyData,
    ) -> Result<rcgen::Certificate, CaError> {
        let mut params = CertificateParams::default();
        let now = self.clock.now();
        set_validity(&mut params, now, LEAF_DAYS);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = san;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).map_err(failed("sign a certificate"))
    }
}

/// TLS of the API: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
pub fn api_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn ca_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_validity(&mut params, now, CA_DAYS);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Buddo host CA");
    // No further CA below this one.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, days: u64) {
    let since_1970 = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::from_secs(days * 24 * 3600);
}

fn san(name: &str) -> Result<SanType, CaError> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => dns_name(name),
    }
}

fn dns_name(name: &str) -> Result<SanType, CaError> {
    name.try_into().map(SanType::DnsName).map_err(failed("use the name in a certificate"))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

    use super::*;
    use crate::clock::SystemClock;

    fn ca(directory: &Path) -> HostCa {
        HostCa::open(directory, &["localhost".to_owned()], Arc::new(SystemClock)).unwrap()
    }

    #[test]
    fn the_ca_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = ca(directory.path()).fingerprint();
        assert_eq!(ca(directory.path()).fingerprint(), first);
        std::fs::write(directory.path().join("ca.key"), "damaged").unwrap();
        assert!(HostCa::open(directory.path(), &[], Arc::new(SystemClock)).is_err());
    }

    #[test]
    fn a_host_gets_its_own_name_and_no_other_whatever_it_asks() {
        let directory = tempfile::tempdir().unwrap();
        let ca = ca(directory.path());
        let id = HostId::new(uuid::Uuid::from_u128(7));
        let key = KeyPair::generate().unwrap();
        let mut asks = CertificateParams::new(vec![COORDINATOR_NAME.to_owned()]).unwrap();
        asks.is_ca = IsCa::NoCa;
        let csr = asks.serialize_request(&key).unwrap().pem().unwrap();
        let pem = ca.sign_host(id, &csr).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(*names, [GeneralName::DNSName(&host_name(id))]);
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth);
        assert!(!certificate.is_ca());
        let days = (certificate.validity().not_after.timestamp()
            - certificate.validity().not_before.timestamp())
            / 86_400;
        assert_eq!(days, 90);
    }

    #[test]
    fn a_request_that_does_not_prove_its_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let ca = ca(directory.path());
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let mut der = csr.der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &der)
        );
        assert!(ca.sign_host(HostId::new(uuid::Uuid::nil()), &pem).is_err());
        assert!(ca.sign_host(HostId::new(uuid::Uuid::nil()), "no PEM").is_err());
    }
}
