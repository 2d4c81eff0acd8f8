//! Opens a connection, drives it, and ends it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::connection::{MAX_CALLS, MAX_PUSHES};
use buddo_shared::host_wire::join::host_name;
use buddo_shared::host_wire::renewal::HostKey;
use buddo_shared::model::id::HostId;
use bytes::Bytes;
use h2::client::Builder;
use h2::{Ping, PingPong};
use http::uri::Authority;
use http::{Request, Response};
use jiff::Timestamp;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::error::{CallError, ConnectError};
use super::handle::{Deadlines, Ended, HostHandle, MAX_READS, RequestBody, Shared};
use super::registry::HostConnections;
use super::response::ResponseBody;
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::crypto::ca::HostCa;

/// Deadline for TCP and TLS, and again for HTTP/2.
const CONNECT: Duration = Duration::from_secs(5);

/// Maximum bytes of the headers of an answer.
const MAX_HEADERS: u32 = 16 * 1024;

/// Where a host is, and how it proves to be the right one.
pub(crate) struct Endpoint<'a> {
    pub(crate) host: HostId,
    pub(crate) address: &'a str,
    /// The key it joined with: certificates for previous keys stay valid for some time.
    pub(crate) key: Option<&'a HostKey>,
    /// A host is pinged this often, and has as long to answer.
    pub(crate) keep_alive: Duration,
}

/// An open connection. Dropping it ends the connection and all of its calls, whoever holds handles.
#[derive(Debug)]
pub(crate) struct Connection {
    handle: HostHandle,
    _driver: AbortOnDropHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.handle.0.ended.because(|| "the coordinator closed it".to_owned());
    }
}

impl Connection {
    pub(crate) async fn open(
        ca: &HostCa,
        endpoint: Endpoint<'_>,
        connections: &HostConnections,
        now: Timestamp,
    ) -> Result<Self, ConnectError> {
        let Endpoint { host, address, key, keep_alive } = endpoint;
        let config = ca.identity().map_err(ConnectError::Tls)?.client;
        let failed = |source| ConnectError::Connect { address: address.to_owned(), source };
        let name = host_name(host);
        let authority: Authority =
            name.parse().map_err(|error| failed(std::io::Error::other(error)))?;
        let connect = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let server = ServerName::try_from(name).map_err(std::io::Error::other)?;
            TlsConnector::from(config).connect(server, tcp).await
        };
        let tls = within("connect", async { connect.await.map_err(failed) }).await?;
        if key.is_some_and(|key| !holds(&tls, key)) {
            return Err(ConnectError::OtherKey(address.to_owned()));
        }
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADERS)
            .initial_max_send_streams(usize::try_from(MAX_CALLS).unwrap_or(usize::MAX))
            .enable_push(false)
            .handshake::<_, Bytes>(tls);
        let handshake = async { handshake.await.map_err(ConnectError::Handshake) };
        let (sender, mut connection) = within("open HTTP/2", handshake).await?;
        let pings = connection.ping_pong();
        let ended = Ended::new();
        let handle = HostHandle(Arc::new(Shared {
            host,
            authority,
            sender,
            since: now,
            reads: permits(MAX_READS),
            pushes: permits(MAX_PUSHES),
            all_reads: connections.all_reads(),
            ended: ended.clone(),
            date: Mutex::default(),
            metrics: connections.metrics(),
        }));
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                closed = connection => ended.because(|| match closed {
                    Ok(()) => "the agent closed it".to_owned(),
                    Err(error) => chain(&error),
                }),
                () = silence(pings, keep_alive) => ended.because(|| {
                    format!("the host did not answer for {} s", keep_alive.as_secs())
                }),
            }
        }));
        Ok(Self { handle, _driver: driver })
    }

    pub(crate) fn host(&self) -> HostId {
        self.handle.host()
    }

    pub(super) fn handle(&self) -> &HostHandle {
        &self.handle
    }

    /// Like [`HostHandle::call`], for documents and reports, which no reader keeps waiting.
    pub(crate) async fn push(
        &self,
        operation: &'static str,
        request: Request<RequestBody>,
        deadlines: Deadlines,
    ) -> Result<Response<ResponseBody>, CallError> {
        self.handle.push(operation, request, deadlines).await
    }

    /// The agent's time in its last answer, to the second.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        *self.handle.0.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the connection has ended, and says why.
    pub(crate) async fn ended(&self) -> String {
        self.handle.0.ended.wait().await
    }
}

fn permits(most: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)))
}

/// Ready when a ping was not answered. The deadline holds for the connection: a host whose
/// firewall forgot it answers nothing, and TCP alone would take a quarter of an hour to say so.
async fn silence(pings: Option<PingPong>, keep_alive: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(keep_alive).await;
        match timeout(keep_alive, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection has ended: its own end says why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Whether the peer's certificate is for `key`.
fn holds(tls: &TlsStream<TcpStream>, key: &HostKey) -> bool {
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok())
        .is_some_and(|(_, leaf)| leaf.public_key().raw == key.spki())
}

async fn within<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let late = ConnectError::Deadline { operation, within: CONNECT };
    timeout(CONNECT, work).await.unwrap_or(Err(late))
}
