//! Who may connect: the holder of a certificate of the host CA with the coordinator's name.

use std::sync::Arc;

use buddo_shared::host_wire::join::COORDINATOR_NAME;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use crate::model::trust::TrustRoots;

/// TLS for the server cannot be set up from these certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CAs' certificates are not usable as such.
    #[error("the host CA's certificate is not usable")]
    Ca(#[source] VerifierBuilderError),
    /// The host's certificate and key do not fit, or rustls refuses them.
    #[error("the host's certificate and key are not usable")]
    Certificate(#[from] rustls::Error),
}

/// Only TLS 1.3, only HTTP/2, a client certificate required; each connection is checked again.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trust_roots: &TrustRoots,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let roots = Arc::new(trust_roots.roots()?);
    let by_ca = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(TlsError::Ca)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(CoordinatorOnly(by_ca)))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not show its certificate again.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The host CA also signs hosts' certificates: the chain alone does not make a coordinator.
#[derive(Debug)]
struct CoordinatorOnly(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for CoordinatorOnly {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        let name = ServerName::try_from(COORDINATOR_NAME)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &name)?;
        Ok(verified)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
