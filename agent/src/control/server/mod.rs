//! The server: the coordinator dials in, hands documents over and holds the stream of reports.
//!
//! ```text
//! coordinator ══ mutual TLS 1.3, HTTP/2 ══► connection ─┬─ PUT  /v1/desired-state ──► Sink
//!                                                       ├─ GET  /v1/reports ◄──────── Outbox
//!                                                       └─ POST /v1/reports/ack ────► Outbox
//! ```
//!
//! The transport admits only the coordinator's name; a document is trusted only for its signature.
//! A wake-up of the stream carries no data: each turn reads what is unacknowledged.
//!
//! Containers may reach the internet, and so this host's own addresses like anybody there. A
//! connection that begins and ends at the same address comes from this very machine: it is closed
//! unread, and takes no slot that the coordinator needs.

mod crowd;
mod handle;
mod reports;
pub mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buddo_runtime::accept;
use buddo_shared::seldom::Seldom;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::crowd::Handshakes;
use self::handle::Handler;
use crate::ports::{DesiredStateSink, Outbox};

/// Tasks of connections that are not let in yet: those of [`Handshakes`], and those that were just
/// ended for a newcomer and have not noticed.
const MAX_TASKS: usize = 4 * (crowd::MAX_STRANGERS + crowd::MAX_PROVEN);

/// Connections of the coordinator. It has one, and briefly two.
const MAX_ESTABLISHED: usize = 4;

/// From accept to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How often a silent connection is pinged, and how long after that it is given up.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long connections may take to end once asked to.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the coordinator until `stop`, then drains for a bounded time. The TLS is read again for
/// each connection: certificates are renewed and authorities change during the others.
pub async fn serve<I: DesiredStateSink, O: Outbox>(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    intake: Arc<I>,
    outbox: Arc<O>,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared {
        handler: Handler::new(intake, outbox, stop.clone()),
        handshakes: Handshakes::default(),
        established: Established::default(),
        told: AtomicBool::new(false),
        strangers: Seldom::default(),
        stop: stop.clone(),
    });
    let serve = |stream, peer, place| {
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
        connection(stream, peer, place, acceptor, Arc::clone(&shared))
    };
    let mut connections = accept::each(&listener, MAX_TASKS, &stop, serve).await;
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("the coordinator's connections did not end in time; closing them");
    }
}

/// Whether a connection comes from this machine by one of its outer addresses, as a container's
/// does: the kernel then uses the called address as the caller's, too. A coordinator on the same
/// machine calls a loopback address, which no container reaches.
fn is_from_here(stream: &TcpStream, peer: SocketAddr) -> bool {
    let own = stream.local_addr().map(|own| own.ip().to_canonical());
    let peer = peer.ip().to_canonical();
    !peer.is_loopback() && own.is_ok_and(|own| own == peer)
}

struct Shared<I, O> {
    handler: Handler<I, O>,
    handshakes: Handshakes,
    established: Established,
    /// Whether it was logged that connections come from this host's own address.
    told: AtomicBool,
    /// Peers that were not let in: anybody can knock, as often as they like.
    strangers: Seldom,
    stop: CancellationToken,
}

/// The coordinator's connections, oldest first. One too many ends the oldest: a dead connection not
/// yet known to be dead must not keep a live one out.
#[derive(Debug, Default)]
struct Established(Mutex<VecDeque<CancellationToken>>);

impl Established {
    /// Admits a connection; it ends when the token is cancelled.
    fn admit(&self) -> CancellationToken {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| !one.is_cancelled());
        if all.len() >= MAX_ESTABLISHED
            && let Some(oldest) = all.pop_front()
        {
            oldest.cancel();
        }
        let one = CancellationToken::new();
        all.push_back(one.clone());
        one
    }
}

async fn connection<I: DesiredStateSink, O: Outbox>(
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    acceptor: TlsAcceptor,
    shared: Arc<Shared<I, O>>,
) {
    if is_from_here(&stream, peer) {
        // Once only: a container could fill the log with it.
        if !shared.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "closing connections from this host's own address; a coordinator on this \
                 machine must use a loopback address, see `join --advertise`"
            );
        }
        return;
    }
    // Small frames, both ways, whose sender waits for the answer.
    let _ = stream.set_nodelay(true);
    let waiting = shared.handshakes.begin(peer.ip(), Instant::now());
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = waiting.ended() => {
            tracing::debug!(%peer, "a handshake was ended for a newer one");
            return;
        }
    };
    let stream = match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            if let Some(others) = shared.strangers.turn(Instant::now().into_std()) {
                tracing::warn!(%peer, reason = %error, others, "a peer was not let in");
            } else {
                tracing::debug!(%peer, reason = %error, "a peer was not let in");
            }
            return;
        }
    };
    waiting.succeeded(Instant::now());
    drop(place);
    tracing::info!(%peer, "the coordinator is connected");
    let evicted = shared.established.admit();
    // Cancelled on any exit, so that it is no longer counted.
    let _left = evicted.clone().drop_guard();
    let handling = Arc::clone(&shared);
    let service = service_fn(move |request| {
        let handling = Arc::clone(&handling);
        async move { Ok::<_, std::convert::Infallible>(handling.handler.handle(peer, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .max_concurrent_streams(16)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(256 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = evicted.cancelled() => {
            tracing::warn!(%peer, "the coordinator has newer connections; closing its oldest");
            return;
        }
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Ok(()) => tracing::info!(%peer, "the coordinator has disconnected"),
        Err(error) => tracing::info!(%peer, reason = %error, "the connection broke off"),
    }
}

#[cfg(test)]
mod tests;
