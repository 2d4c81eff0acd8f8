//! The first TLS handshake for a name, so that no visitor waits for its certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ports::ProxyError;
use crate::process::tls::{self, Judge};

/// An ACME issuance takes some seconds; the caller may give up earlier, Caddy goes on.
const DEADLINE: Duration = Duration::from_mins(1);

/// Makes TLS handshakes with the edge.
#[derive(Debug, Clone)]
pub(super) struct Warmer {
    edge: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Warmer {
    pub(super) fn new(edge: SocketAddr) -> Result<Self, rustls::Error> {
        let tls = tls::client(rustls::DEFAULT_VERSIONS, ForThatName)?;
        Ok(Self { edge, tls: Arc::new(tls) })
    }

    pub(super) async fn warm(&self, host: &str) -> Result<(), ProxyError> {
        let failed = |message: &str, source: Box<dyn std::error::Error + Send + Sync>| ProxyError {
            message: message.to_owned(),
            source: Some(source),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| failed("the name is not a valid host name", Box::new(error)))?;
        let handshake = async {
            let stream = TcpStream::connect(self.edge).await.map_err(|error| {
                failed(&format!("Caddy does not listen on {}", self.edge), Box::new(error))
            })?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            connector.connect(name, stream).await.map_err(|error| {
                failed("the handshake failed; Caddy's log says why", Box::new(error))
            })
        };
        match tokio::time::timeout(DEADLINE, handshake).await {
            Ok(done) => done.map(drop),
            Err(elapsed) => Err(failed("it was not issued in time", Box::new(elapsed))),
        }
    }
}

/// Accepts a certificate from any issuer for the right name. Nothing is sent over the connection:
/// the question is whether Caddy has one, and this host may not know its issuer.
#[derive(Debug)]
struct ForThatName;

impl Judge for ForThatName {
    fn judge(
        &self,
        _provider: &Arc<CryptoProvider>,
        leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _now: UnixTime,
    ) -> Result<(), rustls::Error> {
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)
    }
}
