//! The small web app that worlds deploy: every behaviour that a test needs from an app, good
//! or bad, chosen by environment variables so that one image serves them all.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `hello VERSION`, header `x-version` |
//! | `GET /health` | `ok` |
//! | `POST /echo` | the body, unchanged |
//! | `GET /ws` | a WebSocket that echoes |
//! | `GET /slow?ms=N` | `slow`, N ms later (at most a minute) |
//! | `GET /env?name=KEY` | that environment variable, or 404 |
//! | `GET /work` | `done`, or 500 if `ERRORS` says so |
//! | `GET /status` | what the kernel says of the app's process: `/proc/self/status` |
//! | `GET /limits` | likewise `/proc/self/limits` |
//! | `GET /log?kb=N` | `logged`, after as many KiB of lines to standard output (at most 1 GiB) |
//! | `GET /scan?to=IP&ports=N,N` | which of these TCP ports it gets through to, separated by commas |
//! | `GET /udp?to=IP&ports=N` | the same for UDP: which of them answers a DNS question |
//! | `GET /exists?path=P` | `yes` or `no` |
//! | `GET /eat?mb=N` | `eaten`, after it has written to N MiB of memory, which it keeps (at most 4 GiB) |
//! | `GET /burn?ms=N` | `burnt`, after four threads have computed for N ms (at most a minute) |
//! | `GET /spawn?count=N&ms=M` | how many of N processes it could start (at most 4,096), M ms later, when they have been ended |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::ParseIntError;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::{greed, scan};

/// Longest answer of `/slow`, and how long a drain may take.
const SLOWEST: Duration = Duration::from_mins(1);

/// How the app behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// `PORT`: the ports to listen on, separated by commas; 8080 if absent.
    pub ports: Vec<u16>,
    /// `START_DELAY_MS`: how long nothing listens after the start.
    pub start_delay: Duration,
    /// `EXIT_AT_START`: exits at once with this code.
    pub exit_at_start: Option<u8>,
    /// `SILENT=1`: accepts connections and never answers.
    pub silent: bool,
    /// `CRASH_AFTER_MS`: exits by itself with code 3, this long after the start.
    pub crash_after: Option<Duration>,
    /// `ERRORS=1`: `/work` answers 500.
    pub errors: bool,
    /// `POSE_AS`: another process of this program runs under this command line and does nothing.
    pub pose_as: Option<String>,
    /// `VERSION`: what `/` says; images set it.
    pub version: String,
    /// All variables, for `/env`.
    pub variables: BTreeMap<String, String>,
}

impl Behaviour {
    /// Reads the behaviour from environment variables.
    pub fn from_variables(variables: BTreeMap<String, String>) -> Result<Self, ParseIntError> {
        let get = |name: &str| variables.get(name).map(String::as_str);
        let ports = get("PORT").unwrap_or("8080").split(',').map(|port| port.trim().parse());
        Ok(Self {
            ports: ports.collect::<Result<_, _>>()?,
            start_delay: Duration::from_millis(get("START_DELAY_MS").unwrap_or("0").parse()?),
            exit_at_start: get("EXIT_AT_START").map(str::parse).transpose()?,
            silent: get("SILENT") == Some("1"),
            crash_after: get("CRASH_AFTER_MS")
                .map(|ms| ms.parse().map(Duration::from_millis))
                .transpose()?,
            errors: get("ERRORS") == Some("1"),
            pose_as: get("POSE_AS").map(str::to_owned),
            version: get("VERSION").unwrap_or("dev").to_owned(),
            variables,
        })
    }
}

/// Serves until `stop` resolves, then finishes what is in flight.
pub async fn serve(behaviour: Behaviour, stop: impl Future<Output = ()>) -> std::io::Result<()> {
    tokio::time::sleep(behaviour.start_delay).await;
    let mut listeners = Vec::new();
    for port in &behaviour.ports {
        listeners.push(TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))).await?);
    }
    let behaviour: &'static Behaviour = Box::leak(Box::new(behaviour));
    let graceful = GracefulShutdown::new();
    let accept = async {
        let loops = listeners.iter().map(|listener| accept(listener, behaviour, &graceful));
        futures_util::future::join_all(loops).await;
    };
    tokio::select! { () = accept => {}, () = stop => {} }
    drop(listeners);
    let _ = tokio::time::timeout(SLOWEST, graceful.shutdown()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    behaviour: &'static Behaviour,
    graceful: &GracefulShutdown,
) {
    let mut unanswered = Vec::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        if behaviour.silent {
            unanswered.push(stream);
            continue;
        }
        tokio::spawn(connection(stream, behaviour, graceful.watcher()));
    }
}

async fn connection(stream: TcpStream, behaviour: &'static Behaviour, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, behaviour));
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    // A visitor that disconnects midway does not concern the app.
    let _ = watcher.watch(connection.into_owned()).await;
}

type Answer = Response<Either<Full<Bytes>, Incoming>>;

async fn answer(
    request: Request<Incoming>,
    behaviour: &'static Behaviour,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let mut response = match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/") => {
            text(StatusCode::OK, format!("hello {}\n", behaviour.version))
        }
        (_, "/health") => text(StatusCode::OK, "ok\n"),
        (&Method::POST, "/echo") => echo(request).await,
        (_, "/work") if behaviour.errors => text(StatusCode::INTERNAL_SERVER_ERROR, "broken\n"),
        (_, "/work") => text(StatusCode::OK, "done\n"),
        (_, "/slow") => {
            let wanted = query(&request, "ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(wanted).min(SLOWEST)).await;
            text(StatusCode::OK, "slow\n")
        }
        (_, "/env") => match query(&request, "name").and_then(|n| behaviour.variables.get(n)) {
            Some(value) => text(StatusCode::OK, value.clone()),
            None => text(StatusCode::NOT_FOUND, "no such variable\n"),
        },
        (_, "/status") => match tokio::fs::read_to_string("/proc/self/status").await {
            Ok(status) => text(StatusCode::OK, status),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        (_, "/limits") => match tokio::fs::read_to_string("/proc/self/limits").await {
            Ok(limits) => text(StatusCode::OK, limits),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        (_, "/log") => {
            let wanted = query(&request, "kb").and_then(|kb| kb.parse().ok()).unwrap_or(0);
            match log(wanted).await {
                Ok(()) => text(StatusCode::OK, "logged\n"),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
        (_, "/scan") => text(StatusCode::OK, scan::tcp(request.uri().query()).await),
        (_, "/udp") => text(StatusCode::OK, scan::udp(request.uri().query()).await),
        (_, "/exists") => {
            let path = query(&request, "path").unwrap_or_default();
            let exists = tokio::fs::symlink_metadata(path).await.is_ok();
            text(StatusCode::OK, if exists { "yes" } else { "no" })
        }
        (_, "/eat") => text(StatusCode::OK, greed::eat(number(&request, "mb")).await),
        (_, "/burn") => text(StatusCode::OK, greed::burn(number(&request, "ms")).await),
        (_, "/spawn") => {
            let (count, ms) = (number(&request, "count"), number(&request, "ms"));
            text(StatusCode::OK, greed::spawn(count, ms).await)
        }
        (_, "/ws") => websocket(request),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    };
    if let Ok(version) = HeaderValue::from_str(&behaviour.version) {
        response.headers_mut().insert("x-version", version);
    }
    Ok(response)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The whole body is read before the first byte goes back: a client that writes before it reads
/// must not deadlock with us.
async fn echo(request: Request<Incoming>) -> Answer {
    match request.into_body().collect().await {
        Ok(body) => text(StatusCode::OK, body.to_bytes()),
        Err(_) => text(StatusCode::BAD_REQUEST, "the body ended early\n"),
    }
}

/// Writes that many KiB of lines to standard output.
async fn log(kib: u32) -> std::io::Result<()> {
    let write = move || {
        let line = format!("{}\n", "x".repeat(1023));
        let mut output = std::io::stdout().lock();
        (0..kib.min(1024 * 1024)).try_for_each(|_| output.write_all(line.as_bytes()))?;
        output.flush()
    };
    tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
}

/// A number of the query; 0 if absent.
fn number(request: &Request<Incoming>, name: &str) -> u64 {
    query(request, name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn query<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// RFC 6455, 4.2.2: the answer to an upgrade; the echo runs on after it.
fn websocket(mut request: Request<Incoming>) -> Answer {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            let echoed = matches!(message, Message::Text(_) | Message::Binary(_));
            if echoed && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn behaviour_is_read_from_variables() {
        let got = Behaviour::from_variables(variables(&[
            ("PORT", "80, 8080"),
            ("START_DELAY_MS", "250"),
            ("EXIT_AT_START", "3"),
            ("SILENT", "1"),
            ("CRASH_AFTER_MS", "1500"),
            ("ERRORS", "1"),
            ("VERSION", "v2"),
            ("POSE_AS", "conmon -n a"),
        ]))
        .unwrap();
        assert_eq!(got.ports, [80, 8080]);
        assert_eq!(got.start_delay, Duration::from_millis(250));
        assert_eq!((got.crash_after, got.errors), (Some(Duration::from_millis(1_500)), true));
        assert_eq!((got.exit_at_start, got.silent, got.version.as_str()), (Some(3), true, "v2"));
        assert_eq!(got.pose_as.as_deref(), Some("conmon -n a"));
        assert!(Behaviour::from_variables(variables(&[("PORT", "http")])).is_err());
    }
}
