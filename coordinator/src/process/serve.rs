//! A TLS listener: accepts, limits, serves and drains.
//!
//! A connection ends once it has been idle for a while, and after an hour in any case: HTTP/2
//! clients are told so (GOAWAY) and requests under way are finished. Otherwise a client that only
//! answers pings could hold a connection for ever, and would stay with an address that the name no
//! longer resolves to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::response::Response;
use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::renewal::{BINDING_LABEL, Binding};
use hyper::body::{Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::limits::Key;
use crate::process::metrics::Metrics;

/// Time limit for a client's TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time limit for a client to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// A silent HTTP/2 client is pinged after this long, and has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long connections live.
#[derive(Debug, Clone, Copy)]
struct Life {
    idle: Duration,
    age: Duration,
    /// Requests still under way get this long to finish: an event stream ends after an hour.
    rest: Duration,
}

const LIFE: Life = Life {
    idle: Duration::from_mins(2),
    age: Duration::from_hours(1),
    rest: Duration::from_mins(61),
};

/// A drain drops what is still open after this.
pub const DRAIN: Duration = Duration::from_secs(10);
/// Pause after `accept` failed, e.g. for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Maximum size of a request's head in bytes.
const MAX_HEAD: u32 = 32 * 1024;

/// Concurrent requests on one HTTP/2 connection.
const STREAMS: u32 = 32;

/// Buffer of an HTTP/1.1 connection in bytes: must fit the longest head.
const HTTP1_BUFFER: usize = 64 * 1024;

/// The TLS of the next connection; asked each time, so that certificates can be renewed.
pub type Tls = Arc<dyn Fn() -> Result<Arc<ServerConfig>, TlsError> + Send + Sync>;

/// Why there is no TLS now: whoever makes the certificates knows more.
pub type TlsError = Box<dyn std::error::Error + Send + Sync>;

/// A bound listener and what it serves.
pub struct Listener {
    /// Where connections come in.
    pub tcp: TcpListener,
    pub tls: Tls,
    pub router: Router,
    /// Maximum number of open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Its name in metrics.
    pub name: &'static str,
    pub metrics: Metrics,
    /// Proxies, whose address stands for many clients.
    pub proxies: Vec<IpAddr>,
}

/// Each address gets a share of all connections, so that it cannot keep everybody else out.
const SHARE: usize = 8;

/// Open connections by address; an address without any has no entry.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<Key, usize>>>);

/// An IPv6 site gets this many times the share of one of its networks.
const SITE: usize = 2;

/// One of an address's connections, until dropped.
struct Guest {
    guests: Guests,
    who: Key,
}

impl Guests {
    /// `None`: the address already has `most` connections.
    fn admit(&self, address: IpAddr, most: usize) -> Option<Guest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let who = Key::address(address);
        let shares = [(Some(who.clone()), most), (who.site(), most.saturating_mul(SITE))];
        let shares = || shares.iter().filter_map(|(who, most)| Some((who.clone()?, *most)));
        if shares().any(|(who, most)| counts.get(&who).copied().unwrap_or(0) >= most) {
            return None;
        }
        for (who, _) in shares() {
            *counts.entry(who).or_default() += 1;
        }
        Some(Guest { guests: self.clone(), who })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        for who in [Some(self.who.clone()), self.who.site()].into_iter().flatten() {
            match counts.get_mut(&who) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    counts.remove(&who);
                }
            }
        }
    }
}

/// Serves until `drain` is cancelled, then lets requests under way finish, for at most [`DRAIN`].
pub async fn serve(listener: Listener, drain: CancellationToken) {
    let Listener { tcp, tls, router, connections, name, metrics, proxies } = listener;
    let permits = Arc::new(Semaphore::new(connections));
    let guests = Guests::default();
    // This machine's own programs and the proxies stand for many people.
    let most_of = |address: IpAddr| {
        let stands_for_many = address.is_loopback() || proxies.contains(&address);
        if stands_for_many { connections } else { connections.div_ceil(SHARE) }
    };
    // Dropped at the end, together with what is still open.
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = accept(&tcp, &permits) => accepted,
        };
        let (stream, peer, permit) = match accepted {
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
            tracing::debug!(%peer, "connection refused: the address has too many");
            continue;
        };
        let config = match tls() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(error = %chain(&*error), "no TLS configuration for a connection");
                continue;
            }
        };
        let (router, drain) = (router.clone(), drain.clone());
        let present = metrics.connected(name);
        open.spawn(async move {
            connection(stream, peer, config, router, drain).await;
            drop((permit, guest, present));
        });
    }
    drop(tcp);
    let ended = async { while open.join_next().await.is_some() {} };
    if timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("dropping connections that did not end in time");
    }
}

async fn accept(
    tcp: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = tcp.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    router: Router,
    drain: CancellationToken,
) {
    let handshake = tokio::select! {
        // No request has been read yet, so nothing is lost.
        () = drain.cancelled() => return,
        handshake = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%peer, "the TLS handshake timed out"),
    };
    // What a host claims is bound to the TLS connection that it claims it over.
    let binding = stream.get_ref().1.export_keying_material([0; 32], BINDING_LABEL, Some(b""));
    let binding = binding.ok().map(Binding);
    let router = router.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(binding) = binding {
            request.extensions_mut().insert(binding);
        }
        request
    });
    if let Err(error) = converse(stream, router, drain, LIFE).await {
        tracing::debug!(%peer, error = %chain(&*error), "a connection ended early");
    }
}

/// Why a connection ended that did not end by itself.
const CUT_OFF: &str = "it was cut off at its end";

/// Why a connection ended early.
type Ended = Box<dyn std::error::Error + Send + Sync>;

/// Serves a connection for its lifetime.
async fn converse<I, S>(
    stream: I,
    router: S,
    drain: CancellationToken,
    life: Life,
) -> Result<(), Ended>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<http::Request<Body>, Response = Response, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let activity = Activity::default();
    let present = activity.clone();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (present, router) = (present.begin(), router.clone());
        async move {
            let answer = router.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(answer.map(|body| Present { body, _counted: present }))
        }
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
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = served.as_mut() => return ended,
        () = drain.cancelled() => {}
        () = activity.ceased(life.idle) => {}
        () = sleep(life.age) => {}
    }
    served.as_mut().graceful_shutdown();
    timeout(life.rest, served).await.unwrap_or_else(|_| Err(CUT_OFF.into()))
}

/// The number of requests under way on a connection, and since when it has been that.
#[derive(Clone)]
struct Activity(Arc<watch::Sender<(usize, Instant)>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new((0, Instant::now()))))
    }
}

impl Activity {
    fn begin(&self) -> Counted {
        self.0.send_modify(|(open, since)| (*open, *since) = (*open + 1, Instant::now()));
        Counted(self.clone())
    }

    /// Resolves once nothing has been under way for `idle`.
    async fn ceased(&self, idle: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            let (open, since) = *changes.borrow_and_update();
            let quiet = async {
                if open > 0 {
                    std::future::pending::<()>().await;
                }
                sleep_until(since + idle).await;
            };
            tokio::select! {
                () = quiet => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A request under way, until dropped.
struct Counted(Activity);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|(open, since)| {
            (*open, *since) = (open.saturating_sub(1), Instant::now());
        });
    }
}

/// The body of an answer: its request is under way until the body has ended.
struct Present {
    body: Body,
    _counted: Counted,
}

impl hyper::body::Body for Present {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures_util::stream;
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::http2::{SendRequest, handshake};
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::testing::World;

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

    #[test]
    fn an_ipv6_site_gets_the_share_of_two_networks() {
        let guests = Guests::default();
        let address =
            |site: u16, network: u16| IpAddr::from([0x2001, 0xdb8, site, network, 0, 0, 0, 1]);
        let crowd: Vec<_> = (0..100).filter_map(|n| guests.admit(address(1, n), 3)).collect();
        assert_eq!(crowd.len(), 6);
        assert!(guests.admit(address(2, 0), 3).is_some());
        drop(crowd);
        assert!(guests.0.lock().unwrap().is_empty());
    }

    /// Sends a tick each minute, for `minutes` minutes.
    fn ticking(minutes: u32) -> Router {
        let ticks = move || async move {
            let ticks = stream::unfold(0, move |n| async move {
                sleep(Duration::from_mins(1)).await;
                (n < minutes).then(|| (Ok::<_, Infallible>(Bytes::from_static(b".")), n + 1))
            });
            Body::from_stream(ticks)
        };
        Router::new().route("/ticks", get(ticks)).route("/", get(|| async { "." }))
    }

    type Client = SendRequest<Empty<Bytes>>;

    /// A client of a connection, and the connection's result.
    async fn connected(router: Router) -> (Client, JoinSet<Result<(), Ended>>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let mut ends = JoinSet::new();
        ends.spawn(converse(theirs, router, CancellationToken::new(), LIFE));
        let (client, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        (client, ends)
    }

    /// The connection has ended, and was not cut off. A client that hangs up on GOAWAY may be gone
    /// before it has received everything.
    async fn finished(ends: &mut JoinSet<Result<(), Ended>>) {
        let ended = ends.join_next().await.unwrap().unwrap();
        if let Err(error) = ended {
            assert_ne!(error.to_string(), CUT_OFF);
        }
    }

    async fn asked(client: &mut Client, path: &str) -> hyper::Result<usize> {
        let request = http::Request::get(format!("http://a.test{path}"));
        let answer = client.send_request(request.body(Empty::new()).unwrap()).await?;
        Ok(answer.into_body().collect().await?.to_bytes().len())
    }

    #[tokio::test]
    async fn an_unfinished_handshake_does_not_delay_the_drain() {
        let world = World::today();
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let config = world.state.ca.identity().unwrap().api;
        let metrics = Metrics::default();
        let listener = Listener {
            tcp,
            tls: Arc::new(move || Ok(Arc::clone(&config))),
            router: ticking(0),
            connections: 8,
            name: "api",
            metrics: metrics.clone(),
            proxies: Vec::new(),
        };
        let drain = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, drain.clone()));
        let _silent = TcpStream::connect(address).await.unwrap();
        // Accepted, as opposed to still waiting in the kernel.
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let accepted = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text.lines().any(|line| line.starts_with("connections{") && line.ends_with(" 1"))
        };
        let patience = Instant::now();
        while !accepted() {
            assert!(patience.elapsed() < DRAIN, "it is not accepted");
            tokio::task::yield_now().await;
        }
        drain.cancel();
        timeout(DRAIN / 2, serving).await.expect("it is waited for").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_though_its_client_answers_pings() {
        let (mut client, mut ends) = connected(ticking(1)).await;
        assert_eq!(asked(&mut client, "/").await.unwrap(), 1);
        let idle = Instant::now();
        finished(&mut ends).await;
        assert!(idle.elapsed() >= LIFE.idle && idle.elapsed() < 2 * LIFE.idle);
        assert!(asked(&mut client, "/").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_ends_after_an_hour_and_loses_nothing() {
        let (mut client, mut ends) = connected(ticking(1)).await;
        let began = Instant::now();
        while asked(&mut client, "/").await.is_ok() {
            assert!(began.elapsed() < 2 * LIFE.age, "it goes on for ever");
            sleep(Duration::from_mins(1)).await;
        }
        finished(&mut ends).await;
        assert!(began.elapsed() >= LIFE.age);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_finished() {
        // Longer than a connection may be idle, and started shortly before its maximum age.
        let (mut client, mut ends) = connected(ticking(30)).await;
        for _ in 0..50 {
            asked(&mut client, "/").await.unwrap();
            sleep(Duration::from_mins(1)).await;
        }
        assert_eq!(asked(&mut client, "/ticks").await.unwrap(), 30);
        finished(&mut ends).await;
    }
}
