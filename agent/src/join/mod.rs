//! Joining: how a host gets its identity, once.
//!
//! ```text
//! token (secret, CA fingerprint) ─► TLS to a server under exactly that CA ─► POST /v1/join
//!      keys made here ─► CSR, sealing key ─────────────────────────────────────┘  │
//!      identity folder, all files 0600 ◄── checked answer ◄───────────────────────┘
//! ```
//!
//! Private keys never leave the host. The secret is sent only to who holds the CA that the token
//! names: whoever stands in between learns nothing and can enrol nobody.

mod identity;
mod pin;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buddo_shared::api::host::{COORDINATOR_NAME, JoinRequest, JoinToken, Joined};
use buddo_shared::api::problem::Problem;
use buddo_shared::sealed::{OpeningKey, SealError};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use self::identity::{Identity, IdentityError};

/// How long each part may take: to connect, and then to be answered.
const DEADLINE: Duration = Duration::from_secs(20);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What an administrator says to join.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// `https://HOST:PORT` of the coordinator's listener for hosts.
    pub coordinator: String,
    /// What `buddo-coordinator host add` printed.
    pub token: JoinToken,
    /// `HOST:PORT` where the coordinator reaches this agent.
    pub advertise: String,
    /// Where the identity is kept.
    pub state_dir: PathBuf,
    /// Give up an identity that is there already.
    pub force: bool,
}

/// Why a host did not join. Nothing was changed, save where it says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is an identity already.
    #[error(
        "this host has joined already as {0}; \
         to give that identity up and join anew, add --force"
    )]
    Joined(buddo_shared::id::HostId),
    /// The coordinator's address is malformed.
    #[error("{0:?} is no address of a coordinator; write https://HOST:PORT")]
    Address(String),
    /// Where the agent is reached is malformed.
    #[error("{0:?} is no address of this host; write HOST:PORT as the coordinator reaches it")]
    Advertise(String),
    /// No keys could be made.
    #[error("cannot make this host's key and certificate request")]
    Key(#[source] rcgen::Error),
    /// No sealing key could be made.
    #[error("cannot make this host's sealing key")]
    Sealing(#[source] SealError),
    /// Nobody answers there.
    #[error("cannot reach the coordinator at {address}; check the address and the firewall")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Who answers there does not hold the CA that the token names.
    #[error(
        "the server at {address} is not the coordinator that made this token; \
         check the address, or make a new token"
    )]
    Impostor {
        /// Where.
        address: String,
        /// What TLS says.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be set up on this machine.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The exchange broke off. The token may have been used up.
    #[error("the coordinator did not answer; make a new token and try again")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The coordinator said no.
    #[error("the coordinator refuses ({status}): {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// The identity cannot be read, checked or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Makes keys, joins, and keeps what came of it in the state folder.
pub async fn join(options: &JoinOptions) -> Result<Identity, JoinError> {
    let address = authority(&options.coordinator)?;
    if !is_host_port(&options.advertise) {
        return Err(JoinError::Advertise(options.advertise.clone()));
    }
    if !options.force
        && let Some(present) = Identity::load(&options.state_dir)?
    {
        return Err(JoinError::Joined(present.host_id));
    }
    identity::prepare(&options.state_dir)?;
    let key = KeyPair::generate().map_err(JoinError::Key)?;
    // Of the request only the key counts; the CA decides on names.
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|csr| csr.pem())
        .map_err(JoinError::Key)?;
    let (opening_key, sealing_key) = OpeningKey::generate().map_err(JoinError::Sealing)?;
    let request = JoinRequest {
        token: options.token.secret.clone(),
        csr,
        sealing_key,
        address: options.advertise.clone(),
    };
    let joined = exchange(&address, &options.token, &request).await?;
    let key = buddo_shared::secret::Secret::new(key.serialize_pem());
    Ok(identity::keep(&options.state_dir, &options.token, &joined, &key, &opening_key)?)
}

/// Host and port of the coordinator's URL.
fn authority(text: &str) -> Result<String, JoinError> {
    let error = || JoinError::Address(text.to_owned());
    let uri: Uri = text.trim().parse().map_err(|_| error())?;
    let plain = uri.path().trim_end_matches('/').is_empty() && uri.query().is_none();
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(authority)) if plain && !authority.as_str().contains('@') => {
            Ok(match authority.port_u16() {
                Some(_) => authority.to_string(),
                None => format!("{authority}:443"),
            })
        }
        _ => Err(error()),
    }
}

fn is_host_port(text: &str) -> bool {
    text.parse::<http::uri::Authority>().is_ok_and(|authority| {
        !authority.host().is_empty()
            && !text.contains('@')
            && authority.port_u16().is_some_and(|port| port != 0)
    })
}

async fn exchange(
    address: &str,
    token: &JoinToken,
    request: &JoinRequest,
) -> Result<Joined, JoinError> {
    let connector = TlsConnector::from(Arc::new(pin::client_config(token.ca_fingerprint)?));
    let connect = async {
        let connect_error = |source| JoinError::Connect { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(connect_error)?;
        // The certificate names the coordinator, wherever it listens.
        let name = ServerName::try_from(COORDINATOR_NAME)
            .map_err(|error| connect_error(std::io::Error::other(error)))?;
        connector
            .connect(name, stream)
            .await
            .map_err(|source| JoinError::Impostor { address: address.to_owned(), source })
    };
    let timed_out = || JoinError::Connect {
        address: address.to_owned(),
        source: std::io::ErrorKind::TimedOut.into(),
    };
    let stream = tokio::time::timeout(DEADLINE, connect).await.map_err(|_| timed_out())??;
    let exchange = |error: hyper::Error| JoinError::Exchange(Box::new(error));
    let body = serde_json::to_vec(request).map_err(|error| JoinError::Exchange(Box::new(error)))?;
    let call = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(exchange)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/join")
            .header(header::HOST, COORDINATOR_NAME)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| JoinError::Exchange(Box::new(error)))?;
        let response = sender.send_request(request).await.map_err(exchange)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(JoinError::Exchange)?
            .to_bytes();
        driver.abort();
        Ok::<_, JoinError>((status, body))
    };
    let (status, body) = tokio::time::timeout(DEADLINE, call)
        .await
        .map_err(|elapsed| JoinError::Exchange(Box::new(elapsed)))??;
    if status == StatusCode::OK || status == StatusCode::CREATED {
        return serde_json::from_slice(&body).map_err(|e| JoinError::Exchange(Box::new(e)));
    }
    let detail = serde_json::from_slice::<Problem>(&body).map(|problem| problem.detail);
    let detail = detail.unwrap_or_else(|_| "without a word".to_owned());
    Err(JoinError::Refused { status: status.as_u16(), detail })
}

#[cfg(test)]
mod tests;
