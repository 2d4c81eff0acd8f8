//! The link: the coordinator dials in, hands documents over and holds the stream of reports.
//!
//! ```text
//! coordinator ══ mutual TLS 1.3, HTTP/2 ══► connection ─┬─ PUT  /v1/desired-state ──► Intake
//!                                                       ├─ GET  /v1/reports ◄──────── Outbox
//!                                                       └─ POST /v1/reports/ack ────► Outbox
//! ```
//!
//! The transport admits one name only, the coordinator's; a document is trusted for its signature
//! alone. A wake-up of the stream carries no data: each turn reads what is unacknowledged.
//!
//! Containers are let out to the internet, and so reach this host's own addresses like anybody
//! there. A connection that begins and ends at the same address comes from this very machine: it
//! is closed unread, and takes no place that the coordinator needs.

mod handle;
mod reports;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::handle::Handler;
use crate::ports::{Intake, Outbox};

/// Connections at once, those in their handshake included. One coordinator has one, and for a
/// moment two.
const MAX_CONNECTIONS: usize = 16;

/// From accept to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// A silent connection is asked for life this often, and given up this long after.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long connections may take to end once asked to.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the coordinator until `stop`, then drains for a bounded time.
pub async fn serve<I: Intake, O: Outbox>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    intake: Arc<I>,
    outbox: Arc<O>,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let handler = Arc::new(Handler::new(intake, outbox, stop.clone()));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut told = false;
    loop {
        while connections.try_join_next().is_some() {}
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let Some((slot, accepted)) = stop.run_until_cancelled(accept).await else { break };
        match accepted {
            Ok((stream, peer)) if is_from_here(&stream, peer) => {
                // Once: a container could fill the log with it.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        %peer,
                        "connections from this host's own address are closed; a coordinator on \
                         this machine calls a loopback address, see `join --advertise`"
                    );
                }
            }
            Ok((stream, peer)) => {
                let (acceptor, handler, stop) =
                    (acceptor.clone(), Arc::clone(&handler), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, acceptor, handler, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(reason = %error, "a connection was not accepted");
                // Out of descriptors, most likely: some must close first.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("connections of the coordinator did not end in time; they are cut");
    }
}

/// Whether a connection comes from this machine by one of its outer addresses, as a container's
/// does: the kernel then takes the address that is called for the caller's, too. A coordinator on
/// the same machine calls a loopback address, which no container reaches.
fn is_from_here(stream: &TcpStream, peer: SocketAddr) -> bool {
    let own = stream.local_addr().map(|own| own.ip().to_canonical());
    let peer = peer.ip().to_canonical();
    !peer.is_loopback() && own.is_ok_and(|own| own == peer)
}

async fn connection<I: Intake, O: Outbox>(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    handler: Arc<Handler<I, O>>,
    stop: CancellationToken,
) {
    // Small frames, both ways, whose sender waits for the answer.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream));
    let stream = match handshake.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%peer, reason = %error, "a peer was not let in");
            return;
        }
    };
    tracing::info!(%peer, "the coordinator is connected");
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, std::convert::Infallible>(handler.handle(peer, request).await) }
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
        () = stop.cancelled() => {
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
