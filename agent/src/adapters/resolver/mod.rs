//! The resolver: tells Caddy who is live now, and which names may have a certificate.
//!
//! A separate process, so that the agent may die, hang or be upgraded without affecting traffic. It
//! knows nothing but the live table, a file that the agent replaces atomically.
//!
//! ```text
//! agent ── LiveTableFile ──► live.json ◄── stat on each question ── TableReader
//!                                                                    │        │
//! Caddy ── UDP: my-app.apps.internal? ────────────────────────────► dns      ask ◄── GET /ask
//! ```
//!
//! Each answer is immediate and from memory: Caddy holds one lock over all names while it asks. A
//! hung resolver is killed by systemd's watchdog; questions wait in the sockets meanwhile.

mod ask;
mod dns;
mod table;

use std::net::SocketAddrV4;
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::table::TableReader;
use crate::config::{Resolver, SpecialAddresses};
use crate::process::watchdog;

pub use self::dns::SUFFIX;
pub use self::table::LiveTableFile;

/// The resolver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// A socket cannot be opened.
    #[error("cannot listen for {what} on {address}; is another resolver running?")]
    Bind {
        /// `DNS` or `ask`.
        what: &'static str,
        address: SocketAddrV4,
        #[source]
        source: std::io::Error,
    },
    /// A socket that the service manager passed is of the wrong kind.
    #[error("the service manager must pass the UDP socket first, then the TCP socket")]
    Passed(#[source] std::io::Error),
}

#[derive(Debug)]
pub struct Sockets {
    dns: UdpSocket,
    ask: TcpListener,
}

impl Sockets {
    /// Uses the sockets that systemd passes (the UDP one first), and binds the others.
    pub async fn open(config: &Resolver) -> Result<Self, ResolverError> {
        let mut passed = listenfd::ListenFd::from_env();
        let dns = passed.take_udp_socket(0).map_err(ResolverError::Passed)?;
        let ask = passed.take_tcp_listener(1).map_err(ResolverError::Passed)?;
        let bind = |what, address| move |source| ResolverError::Bind { what, address, source };
        let dns = match dns {
            Some(socket) => socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket)),
            None => UdpSocket::bind(config.dns).await,
        };
        let ask = match ask {
            Some(socket) => {
                socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket))
            }
            None => TcpListener::bind(config.ask).await,
        };
        Ok(Self {
            dns: dns.map_err(bind("DNS", config.dns))?,
            ask: ask.map_err(bind("ask", config.ask))?,
        })
    }
}

/// Answers questions until `stop`.
pub async fn run(
    config: &Resolver,
    specials: SpecialAddresses,
    stop: CancellationToken,
) -> Result<(), ResolverError> {
    let sockets = Sockets::open(config).await?;
    serve(sockets, config, specials, stop).await;
    Ok(())
}

/// Answers questions on sockets that are already open, until `stop`. Separate from
/// [`Sockets::open`], so that readiness can be signalled in between.
pub async fn serve(
    sockets: Sockets,
    config: &Resolver,
    specials: SpecialAddresses,
    stop: CancellationToken,
) {
    let table = Arc::new(TableReader::new(config.table.clone()));
    let beats = watch::Sender::new(0);
    // In a task of its own: systemd may be slow to take notice.
    let _fed = AbortOnDropHandle::new(tokio::spawn(watchdog::feed_by(beats.subscribe())));
    tokio::join!(
        dns::serve(&sockets.dns, &table, specials, watchdog::pulse(), &beats, &stop),
        ask::serve(&sockets.ask, &table, &stop),
    );
}

#[cfg(test)]
mod tests;
