use buddo_runtime::clock::SystemClock;
use rcgen::{CertificateParams, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;

const MONTH: Duration = Duration::from_hours(30 * 24);

fn ca(directory: &Path) -> HostCa {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    HostCa::open(directory, &["localhost".to_owned()], Arc::new(SystemClock)).unwrap()
}

fn host() -> HostId {
    HostId::new(uuid::Uuid::from_u128(7))
}

fn key() -> HostKey {
    let key = KeyPair::generate().unwrap();
    HostKey::from_spki(&key.subject_public_key_info()).unwrap()
}

#[test]
fn the_ca_is_created_once_and_a_damaged_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let first = ca(directory.path()).fingerprint();
    assert_eq!(ca(directory.path()).fingerprint(), first);
    std::fs::write(directory.path().join("ca.key"), "damaged").unwrap();
    assert!(HostCa::open(directory.path(), &[], Arc::new(SystemClock)).is_err());
}

#[test]
fn a_host_certificate_ignores_requested_names() {
    let directory = tempfile::tempdir().unwrap();
    let ca = ca(directory.path());
    let mut asks = CertificateParams::new(vec![COORDINATOR_NAME.to_owned()]).unwrap();
    asks.is_ca = IsCa::NoCa;
    let csr = asks.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let key = HostCa::requested_key(&csr).unwrap();
    let (issued, pem) = ca.sign_host(host(), &key, 258, MONTH).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::DNSName(&host_name(host()))]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth);
    assert!(!certificate.is_ca());
    assert_eq!(certificate.public_key().raw, key.spki());
    assert_eq!(buddo_shared::host_wire::join::number_of(certificate.raw_serial()), Some(258));
    let until = certificate.validity().not_after.timestamp();
    assert_eq!(until, issued.expires_at.as_second());
    assert_eq!((until - certificate.validity().not_before.timestamp()) / 86_400, 30);
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let mut der = csr.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &der)
    );
    assert!(HostCa::requested_key(&pem).is_err());
    assert!(HostCa::requested_key("no PEM").is_err());
}

#[test]
fn a_rollover_serves_the_old_ca_until_it_is_retired() {
    let directory = tempfile::tempdir().unwrap();
    let ca = ca(directory.path());
    let old = ca.fingerprints().remove(0);
    let new = ca.rotate().unwrap();
    assert!(matches!(ca.rotate(), Err(CaError::UnderWay(next)) if next == new));
    assert_eq!(ca.fingerprints(), [new.clone(), old.clone()]);
    assert_eq!(
        HEXLOWER.encode(&ca.fingerprint()),
        old,
        "join tokens name the one behind this server"
    );
    assert_eq!(ca.sign_host(host(), &key(), 1, MONTH).unwrap().0.ca, new);
    for not_old in [&new, "", &old[..4], "unknown!"] {
        assert!(matches!(ca.retire(not_old), Err(CaError::NotOld(_))));
    }
    ca.retire(&old[..12]).unwrap();
    assert_eq!(ca.fingerprints(), std::slice::from_ref(&new));
    assert_eq!(HEXLOWER.encode(&self::ca(directory.path()).fingerprint()), new);
    assert_eq!(ca.old(), None);
}

#[test]
fn a_crash_during_a_rollover_leaves_a_usable_ca() {
    let directory = tempfile::tempdir().unwrap();
    let first = ca(directory.path());
    let new = first.rotate().unwrap();
    let path = |name: &str| directory.path().join(name);
    // Between the two renames of `retire`.
    std::fs::rename(path("ca.next.key"), path("ca.key")).unwrap();
    assert_eq!(ca(directory.path()).fingerprints(), std::slice::from_ref(&new));
    // Between the two files of `rotate`.
    let second = ca(directory.path());
    second.rotate().unwrap();
    std::fs::remove_file(path("ca.next.pem")).unwrap();
    let again = ca(directory.path());
    assert_eq!(again.fingerprints(), [new]);
    again.rotate().unwrap();
    assert_eq!(again.fingerprints().len(), 2);
}
