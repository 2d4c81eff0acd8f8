//! Probes: one connection through the published port, like a visitor's request.
//!
//! Never by `exec` in the container, which leaves a monitor process behind for minutes. The port
//! forwarder accepts before the app listens, so an accepted connection alone proves nothing: what
//! counts is an answer, or for plain TCP a connection that stays open.

use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;
use std::time::Duration;

use buddo_shared::model::probe::{Probe, ProbeKind};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::model::health::ProbeOutcome;
use crate::ports::Prober;

/// Bytes of an answer that are read at once. The first few decide, but closing a connection with
/// unread data resets it, and an app may log that.
const READ: usize = 1_024;

/// Bytes of an answer that decide: `HTTP/1.1 200`.
const HEAD: usize = 12;

/// How long a plain TCP connection must stay open to count.
const SETTLED: Duration = Duration::from_millis(100);

/// Probes by TCP and HTTP/1.1.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetProber;

impl Prober for NetProber {
    async fn probe(&self, address: SocketAddrV4, probe: &Probe) -> ProbeOutcome {
        let timeout = Duration::from_millis(u64::from(probe.timeout_ms.max(1)));
        match tokio::time::timeout(timeout, attempt(address, &probe.kind)).await {
            Ok(outcome) => outcome,
            Err(_) => timed_out(format!("no answer within {} ms", probe.timeout_ms)),
        }
    }
}

fn unhealthy(reason: impl Into<String>) -> ProbeOutcome {
    ProbeOutcome::Unhealthy(reason.into())
}

fn timed_out(reason: impl Into<String>) -> ProbeOutcome {
    ProbeOutcome::TimedOut(reason.into())
}

/// Whether a connection failed for lack of a host resource, or because the kernel gave up.
fn is_shortage(error: &io::Error) -> bool {
    let lacks = [
        Errno::TIMEDOUT,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::ADDRNOTAVAIL,
    ];
    Errno::from_io_error(error).is_some_and(|error| lacks.contains(&error))
}

async fn attempt(address: SocketAddrV4, kind: &ProbeKind) -> ProbeOutcome {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return ProbeOutcome::Unreachable;
        }
        // Without the system's error number, which says nothing to an operator.
        Err(error) if is_shortage(&error) => return timed_out(error.kind().to_string()),
        Err(error) => return unhealthy(error.kind().to_string()),
    };
    match kind {
        ProbeKind::Tcp => stays_open(&mut stream).await,
        ProbeKind::Http { path } => answers(&mut stream, address, path).await,
    }
}

const CLOSED: &str = "connection closed before an answer";

async fn stays_open(stream: &mut TcpStream) -> ProbeOutcome {
    let mut byte = [0];
    match tokio::time::timeout(SETTLED, stream.read(&mut byte)).await {
        // Still open and silent, or it greets: both are a service.
        Err(_) | Ok(Ok(1..)) => ProbeOutcome::Healthy,
        Ok(Ok(0) | Err(_)) => unhealthy(CLOSED),
    }
}

async fn answers(stream: &mut TcpStream, address: SocketAddrV4, path: &str) -> ProbeOutcome {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: buddo-probe\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    if stream.write_all(request.as_bytes()).await.is_err() {
        return unhealthy(CLOSED);
    }
    drop(request);
    let mut head = Head::default();
    loop {
        if stream.readable().await.is_err() {
            return head.at_end();
        }
        match head.read(stream) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Closed or reset; what came until then decides.
            Ok(0) | Err(_) => return head.at_end(),
            Ok(_) => {
                if let Some(outcome) = judge(head.bytes()) {
                    return outcome;
                }
            }
        }
    }
}

/// The first bytes of an answer. The rest is read without taking memory while waiting.
#[derive(Default)]
struct Head {
    bytes: [u8; HEAD],
    length: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Reads what has arrived.
    fn read(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let mut buffer = [0; READ];
        let read = stream.try_read(&mut buffer)?;
        let fits = read.min(HEAD - self.length);
        self.bytes[self.length..self.length + fits].copy_from_slice(&buffer[..fits]);
        self.length += fits;
        Ok(read)
    }

    fn at_end(&self) -> ProbeOutcome {
        judge(self.bytes()).unwrap_or_else(|| at_end(self.bytes()))
    }
}

/// What the first bytes of an answer mean; `None` while still undecided, which ends once there are
/// [`HEAD`] of them.
fn judge(head: &[u8]) -> Option<ProbeOutcome> {
    const HTTP: &[u8] = b"HTTP/1.";
    let shared = head.len().min(HTTP.len());
    if head[..shared] != HTTP[..shared] {
        return Some(ProbeOutcome::Healthy);
    }
    let status = head.get(9..HEAD)?;
    let Ok(status) = std::str::from_utf8(status).unwrap_or_default().parse::<u16>() else {
        return Some(ProbeOutcome::Healthy);
    };
    Some(match status {
        ..500 => ProbeOutcome::Healthy,
        _ => unhealthy(format!("status {status}")),
    })
}

/// The answer ended without an HTTP status line: any byte at all means a service.
fn at_end(head: &[u8]) -> ProbeOutcome {
    if head.is_empty() { unhealthy(CLOSED) } else { ProbeOutcome::Healthy }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;

    /// Probes a server that sends `answer` and then closes, or holds on.
    async fn probe(kind: ProbeKind, answer: &'static [u8], hold: bool) -> ProbeOutcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            if !answer.is_empty() {
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
                stream.write_all(answer).await.unwrap();
            }
            if hold {
                std::future::pending::<()>().await;
            }
        });
        let probe = Probe { kind, timeout_ms: 400, ..Probe::default() };
        let outcome = NetProber.probe(address, &probe).await;
        server.abort();
        outcome
    }

    fn http() -> ProbeKind {
        ProbeKind::Http { path: "/health".to_owned() }
    }

    #[rstest::rstest]
    #[case(b"HTTP/1.1 200 OK\r\n\r\n", ProbeOutcome::Healthy)]
    #[case(b"HTTP/1.0 404 Not Found\r\n\r\n", ProbeOutcome::Healthy)]
    #[case(b"HTTP/1.1 499 x\r\n\r\n", ProbeOutcome::Healthy)]
    #[case(b"HTTP/1.1 500 x\r\n\r\n", unhealthy("status 500"))]
    #[case(b"HTTP/1.1 503 x\r\n\r\n", unhealthy("status 503"))]
    #[case(b"-ERR unknown command\r\n", ProbeOutcome::Healthy)]
    #[case(b"H", ProbeOutcome::Healthy)]
    #[case(b"", unhealthy(CLOSED))]
    #[tokio::test]
    async fn answers_are_judged_by_their_status(
        #[case] answer: &'static [u8],
        #[case] expected: ProbeOutcome,
    ) {
        assert_eq!(probe(http(), answer, false).await, expected);
    }

    /// However it is fragmented on its way.
    #[tokio::test]
    async fn a_fragmented_answer_is_read_up_to_its_status() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in [&b"H"[..], b"TTP/1.1 5", b"0", b"3 x\r\n"] {
                stream.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let probe = Probe { kind: http(), timeout_ms: 2_000, ..Probe::default() };
        assert_eq!(NetProber.probe(address, &probe).await, unhealthy("status 503"));
        server.abort();
    }

    /// An app's output is read to the end: it sees the connection close, not reset.
    #[tokio::test]
    async fn an_answer_of_usual_size_is_read_to_the_end_without_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(900));
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.read(&mut request).await.map_err(|error| error.kind())
        });
        let probe = Probe { kind: http(), ..Probe::default() };
        assert_eq!(NetProber.probe(address, &probe).await, ProbeOutcome::Healthy);
        assert_eq!(server.await.unwrap(), Ok(0));
    }

    #[tokio::test]
    async fn an_answer_counts_as_soon_as_its_status_is_read() {
        assert_eq!(probe(http(), b"HTTP/1.1 200", true).await, ProbeOutcome::Healthy);
    }

    #[tokio::test]
    async fn silence_times_out_for_http_and_is_healthy_for_tcp() {
        assert_eq!(probe(http(), b"", true).await, timed_out("no answer within 400 ms"));
        assert_eq!(probe(ProbeKind::Tcp, b"", true).await, ProbeOutcome::Healthy);
        assert_eq!(probe(ProbeKind::Tcp, b"", false).await, unhealthy(CLOSED));
    }

    #[test]
    fn host_shortages_are_distinguished_from_app_errors() {
        for lacks in [Errno::MFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL, Errno::TIMEDOUT] {
            assert!(is_shortage(&lacks.into()), "{lacks:?}");
        }
        for other in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH] {
            assert!(!is_shortage(&other.into()), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_counts_as_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        drop(listener);
        let outcome = NetProber.probe(address, &Probe::default()).await;
        assert_eq!(outcome, ProbeOutcome::Unreachable);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_answers_do_not_panic(head in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = judge(&head).unwrap_or_else(|| at_end(&head));
        }
    }
}
