//! The server: the coordinator dials in, hands documents over and holds the stream of reports.
//!
//! ```text
//! coordinators ══ mutual TLS 1.3, HTTP/2 ══► connections ─► Router ─┬─ desired state ──► Sink
//!  (several)                                                         ├─ reports, ack ◄──► Outbox
//!                                                                    └─ log ◄─ ContainerLogs
//! ```
//!
//! Each connection has its own limits: [`MAX_CALLS`] calls, each with a window of its own, so that
//! what one of them leaves unread never keeps another waiting.
//!
//! The transport admits only the coordinator's name; a document is trusted only for its signature.
//! A wake-up of the stream carries no data: each turn reads what is unacknowledged.
//!
//! Containers may reach the internet, and so this host's own addresses like anybody there. A
//! connection that begins and ends at the same address comes from this very machine: it is closed
//! unread, and takes no slot that the coordinator needs.

mod answer;
mod crowd;
mod endpoints;
mod established;
mod router;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buddo_runtime::accept;
use buddo_shared::host_wire::connection::MAX_CALLS;
use buddo_shared::seldom::Seldom;
use http_body_util::BodyExt as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use self::answer::{Answer, Refused};
use self::crowd::Handshakes;
pub use self::endpoints::{Parts, routes};
use self::established::{Established, Heard};
pub use self::router::{Call, Endpoint, Router};

/// Tasks of connections that are not let in yet: those of [`Handshakes`], and those that were just
/// ended for a newcomer and have not noticed.
const MAX_TASKS: usize = 4 * (crowd::MAX_STRANGERS + crowd::MAX_PROVEN);

/// Bytes of one upload that may wait here. A document of a thousand apps has a few MiB: with a round
/// trip of 20 ms it takes a second.
const STREAM_WINDOW: u32 = 128 * 1024;

/// Bytes of all uploads of one connection that may wait here: the windows of all of its streams,
/// and some on their way, so that no upload that nobody reads keeps a document waiting.
const CONNECTION_WINDOW: u32 = MAX_CALLS * STREAM_WINDOW + 256 * 1024;

/// Bytes of one answer that may wait here for the network, beside the piece that is being made.
const SEND_BUFFER: usize = 64 * 1024;

/// From accept to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How often a silent connection is pinged, and how long after that it is given up.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long connections may take to end once asked to.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves coordinators until `stop`, then drains for a bounded time. The TLS is read again for
/// each connection: certificates are renewed and authorities change during the others.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared {
        router,
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
        tracing::warn!("the coordinators' connections did not end in time; closing them");
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

struct Shared {
    router: Router,
    handshakes: Handshakes,
    established: Established,
    /// Whether it was logged that connections come from this host's own address.
    told: AtomicBool,
    /// Peers that were not let in: anybody can knock, as often as they like.
    strangers: Seldom,
    stop: CancellationToken,
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
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
    tracing::info!(%peer, "a coordinator is connected");
    let place = shared.established.admit();
    let (handling, activity) = (Arc::clone(&shared), place.activity.clone());
    let service = service_fn(move |request| {
        let (handling, call) = (Arc::clone(&handling), activity.call());
        async move {
            let answer = handling.router.handle(peer, request).await;
            // Streams count until they end.
            let counted = answer.map(|body| call.until_end_of(body).boxed_unsync());
            Ok::<_, std::convert::Infallible>(counted)
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(Heard::new(stream, place.activity.clone())), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = place.ended() => {
            tracing::warn!(%peer, "coordinators have too many connections; closing an idle one");
            return;
        }
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Ok(()) => tracing::info!(%peer, "a coordinator has disconnected"),
        Err(error) => tracing::info!(%peer, reason = %error, "the connection broke off"),
    }
}

#[cfg(test)]
mod tests;
