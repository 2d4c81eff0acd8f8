//! TLS to a server whose CA is known only by its fingerprint.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::process::tls::{self, Judge};

/// TLS 1.3, only to a server whose chain ends in the CA with this SHA-256.
pub(super) fn client_config(ca_fingerprint: [u8; 32]) -> Result<ClientConfig, rustls::Error> {
    let mut config = tls::client(&[&rustls::version::TLS13], PinnedCa(ca_fingerprint))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// SHA-256 of a certificate in DER form.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

#[derive(Debug)]
struct PinnedCa([u8; 32]);

impl Judge for PinnedCa {
    fn judge(
        &self,
        provider: &Arc<CryptoProvider>,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let ca = others
            .iter()
            .find(|certificate| fingerprint(certificate) == self.0)
            .ok_or(CertificateError::UnknownIssuer)?;
        // The CA that was found is the only root: the usual checks do the rest.
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(leaf, others, name, &[], now)
            .map(drop)
    }
}
