//! A TLS listener: accepts, bounds, serves, and drains.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::ca::CaError;
use crate::http::problem::chain;

/// Until a client has finished its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Until a client has sent the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// A silent HTTP/2 client is asked whether it is there, and has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// After this a drain drops what is still open.
pub const DRAIN: Duration = Duration::from_secs(10);
/// Pause after `accept` failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request's head.
const MAX_HEAD: u32 = 32 * 1024;

/// Bytes that an HTTP/1.1 connection buffers: the longest head among them.
const HTTP1_BUFFER: usize = 64 * 1024;

/// The TLS of the next connection; asked anew each time, so that certificates can be renewed.
pub type Tls = Arc<dyn Fn() -> Result<Arc<ServerConfig>, CaError> + Send + Sync>;

/// A bound listener and what it serves.
pub struct Listener {
    /// Where connections come in.
    pub tcp: TcpListener,
    /// Their TLS.
    pub tls: Tls,
    /// What answers them.
    pub router: Router,
    /// How many may be open at once; further ones wait to be accepted.
    pub connections: usize,
}

/// Serves until `drain` is cancelled, then lets requests under way finish, for [`DRAIN`] at most.
pub async fn serve(listener: Listener, drain: CancellationToken) {
    let Listener { tcp, tls, router, connections } = listener;
    let places = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    // Dropped at the end, and with it what is still open.
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = accept(&tcp, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let config = match tls() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(error = %chain(&error), "no TLS for a connection");
                continue;
            }
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        open.spawn(async move {
            connection(stream, peer, config, router, watcher).await;
            drop(place);
        });
    }
    drop(tcp);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time and are dropped");
    }
}

async fn accept(
    tcp: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = tcp.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    router: Router,
    watcher: Watcher,
) {
    let stream = match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%peer, "no TLS handshake in time"),
    };
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(128);
    let served = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
