//! A TLS listener: accepts, bounds, serves, and drains.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use buddo_shared::renewal::{BINDING_LABEL, Binding};
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
use crate::http::rate_limit::Key;
use crate::metrics::Metrics;

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

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 32;

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
    /// What metrics call it.
    pub name: &'static str,
    /// Counts connections.
    pub metrics: Metrics,
    /// Proxies, from which everybody's connections come.
    pub proxies: Vec<IpAddr>,
}

/// One address gets a share of all connections, so that it cannot keep everybody else out.
const SHARE: usize = 8;

/// Who has how many connections; who has none has no entry.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<Key, usize>>>);

/// One of an address's connections, until it is dropped.
struct Guest {
    guests: Guests,
    who: Key,
}

impl Guests {
    /// `None`: the address has `most` connections already.
    fn admit(&self, address: IpAddr, most: usize) -> Option<Guest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let who = Key::address(address);
        let count = counts.get(&who).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(who.clone(), count + 1);
        Some(Guest { guests: self.clone(), who })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.who);
            }
        }
    }
}

/// Serves until `drain` is cancelled, then lets requests under way finish, for [`DRAIN`] at most.
pub async fn serve(listener: Listener, drain: CancellationToken) {
    let Listener { tcp, tls, router, connections, name, metrics, proxies } = listener;
    let places = Arc::new(Semaphore::new(connections));
    let guests = Guests::default();
    // This machine's own programs and the proxies stand for many people.
    let most_of = |address: IpAddr| {
        let stands_for_many = address.is_loopback() || proxies.contains(&address);
        if stands_for_many { connections } else { connections.div_ceil(SHARE) }
    };
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
        let address = peer.ip().to_canonical();
        let Some(guest) = guests.admit(address, most_of(address)) else {
            metrics.refused(name);
            tracing::debug!(%peer, "an address with too many connections is refused one more");
            continue;
        };
        let config = match tls() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(error = %chain(&error), "no TLS for a connection");
                continue;
            }
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        let present = metrics.connected(name);
        open.spawn(async move {
            connection(stream, peer, config, router, watcher).await;
            drop((place, guest, present));
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
    // What a host says of itself is bound to the connection that it says it over.
    let binding = stream.get_ref().1.export_keying_material([0; 32], BINDING_LABEL, Some(b""));
    let binding = binding.ok().map(Binding);
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(binding) = binding {
            request.extensions_mut().insert(binding);
        }
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
        .max_concurrent_streams(STREAMS);
    let served = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_and_is_forgotten_when_it_leaves() {
        let guests = Guests::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = guests.admit(one, 2);
        let second = guests.admit(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(guests.admit(one, 2).is_none());
        assert!(guests.admit(other, 2).is_some());
        drop(first);
        assert!(guests.admit(one, 2).is_some());
        drop(second);
        assert!(guests.0.lock().unwrap().is_empty());
    }
}
