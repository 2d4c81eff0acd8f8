//! One certificate authority: its key, its certificate, and the certificates it issues.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use buddo_shared::model::secret::Secret;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{CaError, failed};
use crate::process::secret_file;

/// Lifetime of an authority in days.
const DAYS: u64 = 3650;
/// A clock slightly behind must not reject a fresh certificate; at most a quarter of a short
/// lifetime.
const BACKDATE: Duration = Duration::from_hours(1);

/// The paths of an authority's two files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files {
    pub(super) key: &'static str,
    pub(super) certificate: &'static str,
}

/// Chain and key of a server or client.
pub(super) type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
}

impl Authority {
    /// Creates the missing files, then reads both.
    pub(super) fn open_or_make(
        directory: &Path,
        files: Files,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let key = secret_file::read_or_create::<CaError>(&directory.join(files.key), || {
            let key = KeyPair::generate().map_err(failed("make the host CA's key"))?;
            Ok(Secret::new(key.serialize_pem()))
        })?;
        secret_file::read_or_create::<CaError>(&directory.join(files.certificate), || {
            let key = read_key(&key)?;
            let made = params(&key, now)
                .self_signed(&key)
                .map_err(failed("make the host CA's certificate"))?;
            Ok(Secret::new(made.pem()))
        })?;
        Self::open(directory, files)
    }

    pub(super) fn open(directory: &Path, files: Files) -> Result<Self, CaError> {
        let key = read_key(&secret_file::read(&directory.join(files.key))?)?;
        let pem = secret_file::read(&directory.join(files.certificate))?;
        let pem = pem.expose().to_owned();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(CaError::Pem)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(failed("read the host CA's certificate"))?;
        Ok(Self { issuer, certificate, pem })
    }

    /// SHA-256 of its certificate.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// A fresh key with a certificate for `names`, valid for `life`.
    pub(super) fn credentials(
        &self,
        names: Vec<SanType>,
        now: Timestamp,
        life: Duration,
    ) -> Result<Credentials, CaError> {
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let leaf = self.leaf(names, &key, None, now, life)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    /// A certificate for `names` and `key`; this authority decides names and usages.
    pub(super) fn leaf(
        &self,
        names: Vec<SanType>,
        key: &impl PublicKeyData,
        serial: Option<[u8; 20]>,
        now: Timestamp,
        life: Duration,
    ) -> Result<rcgen::Certificate, CaError> {
        let mut params = CertificateParams::default();
        set_validity(&mut params, now, life);
        params.serial_number = serial.map(|serial| SerialNumber::from_slice(&serial));
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).map_err(failed("sign a certificate"))
    }
}

fn read_key(pem: &Secret) -> Result<KeyPair, CaError> {
    KeyPair::from_pem(pem.expose()).map_err(failed("read the host CA's key"))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    // The two CAs also differ by name, so that chain builders need not try each.
    let name = format!("Buddo host CA {}", HEXLOWER.encode(&sha256(key.der_bytes())[..4]));
    let mut params = CertificateParams::default();
    set_validity(&mut params, now, Duration::from_hours(DAYS * 24));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // No further CA below this one.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let since_1970 = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    params.not_before = now - BACKDATE.min(life / 4);
    params.not_after = now + life;
}

/// A name in a certificate: a host name or an address.
pub(super) fn san(name: &str) -> Result<SanType, CaError> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => {
            name.try_into().map(SanType::DnsName).map_err(failed("use the name in a certificate"))
        }
    }
}
