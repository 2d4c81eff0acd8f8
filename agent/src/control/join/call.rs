//! One request to the coordinator's listener for hosts.

use std::sync::Arc;
use std::time::Duration;

use buddo_shared::api::problem::Problem;
use buddo_shared::host_wire::join::COORDINATOR_NAME;
use buddo_shared::host_wire::renewal::{BINDING_LABEL, Binding};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The limit of each part: connecting, then being answered.
const DEADLINE: Duration = Duration::from_secs(20);

/// The largest answer accepted, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why the coordinator did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot reach the coordinator at {address}; check the address and the firewall")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    /// The server there does not hold the CA that is trusted here.
    #[error(
        "the server at {address} is not the coordinator that this host knows, or a clock is wrong; \
         check the address and both clocks, or join with a new token"
    )]
    Impostor {
        address: String,
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be set up on this machine.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The exchange broke off. The request may have been carried out.
    #[error("the coordinator did not answer; try again, for a join with a new token")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The coordinator refused.
    #[error("the coordinator refuses ({status}): {detail}")]
    Refused { status: u16, code: String, detail: String },
}

fn broken<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> CallError {
    CallError::Exchange(error.into())
}

/// Posts to `path` what `body` makes for the connection, and reads the answer.
pub(crate) async fn post<T: DeserializeOwned>(
    address: &str,
    tls: ClientConfig,
    path: &str,
    media_type: &'static str,
    body: impl FnOnce(Binding) -> Result<Vec<u8>, CallError>,
) -> Result<T, CallError> {
    let connector = TlsConnector::from(Arc::new(tls));
    let connect = async {
        let connect_error = |source| CallError::Connect { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(connect_error)?;
        // The certificate is for the coordinator's name, not its address.
        let name = ServerName::try_from(COORDINATOR_NAME)
            .map_err(|error| connect_error(std::io::Error::other(error)))?;
        connector
            .connect(name, stream)
            .await
            .map_err(|source| CallError::Impostor { address: address.to_owned(), source })
    };
    let timed_out = || CallError::Connect {
        address: address.to_owned(),
        source: std::io::ErrorKind::TimedOut.into(),
    };
    let stream = tokio::time::timeout(DEADLINE, connect).await.map_err(|_| timed_out())??;
    let binding = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], BINDING_LABEL, Some(b""))
        .map(Binding)?;
    let body = body(binding)?;
    let call = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, COORDINATOR_NAME)
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::new(Bytes::from(body)))
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(CallError::Exchange)?.to_bytes();
        drop(driver);
        Ok::<_, CallError>((status, body))
    };
    let answer = tokio::time::timeout(DEADLINE, call).await;
    let (status, body) = answer.map_err(broken)??;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(broken);
    }
    let said = serde_json::from_slice::<Problem>(&body).map(|p| (p.code, p.detail));
    let (code, detail) = said.unwrap_or_else(|_| (String::new(), "no reason given".to_owned()));
    Err(CallError::Refused { status: status.as_u16(), code, detail })
}
