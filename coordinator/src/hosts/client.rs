//! One persistent connection to one agent: mutual TLS 1.3, HTTP/2. Every call has a deadline.

use std::future::Future;
use std::time::Duration;

use buddo_shared::api::host::host_name;
use buddo_shared::api::problem::Problem;
use buddo_shared::id::HostId;
use buddo_shared::renewal::HostKey;
use buddo_shared::report::{Accepted, Acknowledge};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::crypto::ca::{CaError, HostCa};
use crate::domain::failure::one_line;
use crate::store::contract::DocumentRow;

/// Deadline for TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Deadline for the answer to a call; a document may be large.
const CALL: Duration = Duration::from_secs(30);
/// Maximum bytes read of an answer.
const MAX_ANSWER: usize = 64 * 1024;
/// Maximum characters kept of a refusal.
const MAX_WORDS: usize = 500;

/// A call to an agent failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The coordinator's own certificate cannot be made.
    #[error("cannot set up TLS")]
    Tls(#[source] CaError),
    /// No TCP or TLS connection.
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {operation}")]
    Http {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{operation}: no answer within {} s", within.as_secs())]
    Deadline {
        operation: &'static str,
        /// The deadline.
        within: Duration,
    },
    #[error("{operation}: the agent refused with {status} {code}: {detail}")]
    Refused { operation: &'static str, status: StatusCode, code: String, detail: String },
    /// It has a valid certificate of the host, but not the key the host joined with.
    #[error(
        "what answers at {0} holds a copy of an older identity of this host; stop it, or let the \
         host join again"
    )]
    OtherKey(String),
    /// The agent acknowledged another document than the one that was sent.
    #[error("the agent acknowledged another document than the one sent")]
    Mismatch,
}

impl LinkError {
    /// Whether the agent does not trust the key that signed a document.
    pub(super) fn is_unknown_key(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "unknown_key")
    }

    /// Whether the host is up and its agent is not: the connection was refused at once.
    pub(super) fn is_agent_down(&self) -> bool {
        let Self::Connect { source, .. } = self else { return false };
        source.kind() == std::io::ErrorKind::ConnectionRefused
    }

    /// Whether the agent could not store what it received: its disk is full or failing.
    pub(super) fn is_not_stored(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "not_stored")
    }

    /// If the agent rejected a document or could not store it: why, and what an administrator
    /// should do.
    pub(super) fn refusal(&self) -> Option<String> {
        let Self::Refused { status, code, detail, .. } = self else { return None };
        if !status.is_client_error() && !self.is_not_stored() {
            return None;
        }
        let fix = match code.as_str() {
            "stale_generation" | "generation_conflict" => {
                "the host holds a newer document than this database knows, as after a restore \
                 from a backup; run `buddo-coordinator epoch raise`"
            }
            "expired" => {
                "the clocks of coordinator and host differ by a day; set both right. If they are, \
                 the host once took a document from the future: run `buddo-coordinator epoch raise`"
            }
            "issued_in_future" => {
                "the clock of the coordinator or of the host is wrong; set both right \
                 (`timedatectl`)"
            }
            "unknown_key" | "foreign_host" | "bad_signature" => {
                "the host trusts another signing key; restore signing.key from its backup, or \
                 let the host join again"
            }
            "not_stored" => {
                "the disk of the host is full or fails; make room there (`buddo-agent doctor`), \
                 and the document is taken within half a minute"
            }
            "newer_schema" => "the agent is older than the coordinator; upgrade it",
            _ => "read the agent's log",
        };
        Some(format!("{code}: {detail}: {fix}"))
    }
}

/// An open connection. It closes when dropped.
#[derive(Debug)]
pub(super) struct Link {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
    /// The agent's time in its last answer.
    date: Option<Timestamp>,
    /// Drives the connection; ends with it.
    _driver: AbortOnDropHandle<()>,
}

impl Link {
    /// Connects to the agent at `address`, which must prove to be `host` by the key it joined with:
    /// certificates for previous keys stay valid for some time.
    pub(super) async fn open(
        ca: &HostCa,
        host: HostId,
        address: &str,
        key: Option<&HostKey>,
        keep_alive: Duration,
    ) -> Result<Self, LinkError> {
        let config = ca.identity().map_err(LinkError::Tls)?.client;
        let name = host_name(host);
        let connect = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let server = ServerName::try_from(name.clone()).map_err(std::io::Error::other)?;
            TlsConnector::from(config).connect(server, tcp).await
        };
        let tls = within("connect", CONNECT, async {
            connect
                .await
                .map_err(|source| LinkError::Connect { address: address.to_owned(), source })
        })
        .await?;
        if key.is_some_and(|key| !holds(&tls, key)) {
            return Err(LinkError::OtherKey(address.to_owned()));
        }
        let (sender, connection) = within("open HTTP/2", CONNECT, async {
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(keep_alive)
                .keep_alive_timeout(keep_alive)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(tls))
                .await
                .map_err(http("open HTTP/2"))
        })
        .await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to an agent ended");
            }
        }));
        Ok(Self { sender, authority: name, date: None, _driver: driver })
    }

    /// The agent's time in its last answer, to the second.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.date
    }

    /// Sends a document; returns once the agent has stored it on disk.
    pub(super) async fn put(&mut self, document: &DocumentRow) -> Result<(), LinkError> {
        let operation = "send the desired state";
        let body = Bytes::copy_from_slice(&document.envelope);
        let request = self.request(Method::PUT, "/v1/desired-state", "application/jose+json", body);
        let answer = self.call(operation, request?).await?;
        let bytes = read(operation, answer.into_body()).await?;
        let accepted: Accepted =
            serde_json::from_slice(&bytes).map_err(|error| http(operation)(error))?;
        if accepted.generation == document.generation && accepted.digest.as_str() == document.digest
        {
            Ok(())
        } else {
            Err(LinkError::Mismatch)
        }
    }

    /// Opens the stream of reports after `seq`.
    pub(super) async fn reports(&mut self, seq: u64) -> Result<Incoming, LinkError> {
        let path = format!("/v1/reports?after={seq}");
        let request = self.request(Method::GET, &path, "application/x-ndjson", Bytes::new())?;
        Ok(self.call("open the report stream", request).await?.into_body())
    }

    /// Acknowledges that all reports up to `through` are committed.
    pub(super) async fn acknowledge(&mut self, through: u64) -> Result<(), LinkError> {
        let operation = "acknowledge reports";
        let body =
            serde_json::to_vec(&Acknowledge { through }).map_err(|error| http(operation)(error))?;
        let path = "/v1/reports/ack";
        let request = self.request(Method::POST, path, "application/json", body.into())?;
        self.call(operation, request).await.map(drop)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, LinkError> {
        Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|error| http("write a request")(error))
    }

    async fn call(
        &mut self,
        operation: &'static str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, LinkError> {
        let sent = self.sender.send_request(request);
        let answer = within(operation, CALL, async { sent.await.map_err(http(operation)) }).await?;
        self.date = date_of(&answer);
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = read(operation, answer.into_body()).await.unwrap_or_default();
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        let (code, detail) = problem
            .map(|p| (one_line(&p.code, MAX_WORDS), one_line(&p.detail, MAX_WORDS)))
            .unwrap_or_default();
        Err(LinkError::Refused { operation, status, code, detail })
    }
}

fn date_of<B>(answer: &Response<B>) -> Option<Timestamp> {
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

/// Whether the peer's certificate is for `key`.
fn holds(tls: &TlsStream<TcpStream>, key: &HostKey) -> bool {
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok())
        .is_some_and(|(_, leaf)| leaf.public_key().raw == key.spki())
}

async fn read(operation: &'static str, body: Incoming) -> Result<Bytes, LinkError> {
    within(operation, CALL, async {
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(http(operation))?;
        Ok(body.to_bytes())
    })
    .await
}

async fn within<T>(
    operation: &'static str,
    within: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::time::timeout(within, work)
        .await
        .unwrap_or(Err(LinkError::Deadline { operation, within }))
}

fn http<E>(operation: &'static str) -> impl FnOnce(E) -> LinkError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error| LinkError::Http { operation, source: error.into() }
}
