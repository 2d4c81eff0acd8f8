//! Podman's events as hints that something changed.
//!
//! ```text
//! GET events ──► line with our label ──► hints += 1
//!     ▲ │ ended, refused                     watch: many hints are one
//!     │ ▼
//!   back-off ──► healthy = false ──► on the next success: healthy = true, hints += 1
//! ```
//!
//! Events get lost, repeated and end without notice (containers/podman issues 21685, 17665, 8751):
//! a hint is never data, and each reconnect yields one.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::backoff::Failures;
use buddo_runtime::lines::{LineError, Lines};
use buddo_runtime::uri::escape;
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Podman;
use super::create::LABEL_DEPLOYMENT;
use super::transport::{Call, Transport};
use crate::model::retries;
use crate::ports::{EventFeed, Named};

/// How long an open stream counts as working before its first event: Podman sends the response head
/// only with the first event, so an open request is all there is to see.
const SETTLED: Duration = Duration::from_millis(250);

/// The longest line that is parsed, in bytes.
const MAX_LINE: usize = 256 * 1024;

/// Where the event task publishes what it hears.
struct Teller {
    hints: watch::Sender<u64>,
    named: Arc<Named>,
    lines: watch::Sender<u64>,
    healthy: watch::Sender<bool>,
}

impl Podman {
    /// Follows the events of our containers until `stop`, reconnecting as needed.
    pub fn events(&self, stop: CancellationToken) -> EventFeed {
        let teller = Teller {
            hints: watch::Sender::new(0),
            named: Arc::default(),
            lines: watch::Sender::new(0),
            healthy: watch::Sender::new(false),
        };
        let feed = EventFeed {
            hints: teller.hints.subscribe(),
            named: Arc::clone(&teller.named),
            lines: teller.lines.subscribe(),
            healthy: teller.healthy.subscribe(),
            renew: Arc::default(),
        };
        let (transport, renew) = (self.transport.clone(), Arc::clone(&feed.renew));
        tokio::spawn(async move {
            stop.run_until_cancelled(follow(&transport, &teller, &renew)).await;
        });
        feed
    }
}

async fn follow(transport: &Transport, teller: &Teller, renew: &Notify) {
    let failures = Failures::default();
    loop {
        let ended = tokio::select! {
            ended = read(transport, teller) => ended,
            () = renew.notified() => "it is open but silent".to_owned(),
        };
        if teller.healthy.send_replace(false) {
            failures.end();
            tracing::warn!(reason = %ended, "Podman's event stream ended; reconnecting");
        } else {
            tracing::debug!(reason = %ended, "Podman's event stream is not available");
        }
        // Jittered, so that many readers do not reconnect at the same moment.
        tokio::time::sleep_until(failures.next(retries::EVENTS, rand::random())).await;
    }
}

/// Reads one stream to its end; returns why it ended.
async fn read(transport: &Transport, teller: &Teller) -> String {
    // Filtering by label key alone matches nothing in 4.3.1, so labels are checked here.
    let filters = escape(r#"{"type":["container"],"event":["start","died","remove"]}"#);
    let path = format!("events?stream=true&filters={filters}");
    let year = Duration::from_hours(365 * 24);
    let open = transport.open(Call::libpod("follow events", Method::GET, path).deadline(year));
    tokio::pin!(open);
    let opened = if let Ok(opened) = tokio::time::timeout(SETTLED, &mut open).await {
        opened
    } else {
        teller.usable();
        open.await
    };
    let (response, _connection) = match opened {
        Ok(opened) => opened,
        Err(error) => return buddo_runtime::error_chain::chain(&error),
    };
    if response.status() != StatusCode::OK {
        return format!("status {}", response.status());
    }
    teller.usable();
    let mut lines = Lines::new(response.into_body(), MAX_LINE);
    while let Some(line) = lines.next().await {
        bump(&teller.lines);
        match line {
            Ok(line) if is_ours(&line) => teller.hint(name(&line)),
            Ok(_) => {}
            Err(LineError::TooLong(_)) => teller.hint(None),
            Err(error) => return buddo_runtime::error_chain::chain(&error),
        }
    }
    "the service closed it".to_owned()
}

impl Teller {
    fn usable(&self) {
        if !self.healthy.send_replace(true) {
            // Events missed while disconnected are not replayed.
            self.hint(None);
        }
    }

    /// Something happened to this container; `None`: to an unknown container.
    fn hint(&self, name: Option<String>) {
        self.named.add(name);
        bump(&self.hints);
    }
}

fn bump(count: &watch::Sender<u64>) {
    count.send_modify(|count| *count = count.wrapping_add(1));
}

/// Whether a line mentions our label. No need to parse it: a false alarm costs one list call.
fn is_ours(line: &str) -> bool {
    line.contains(LABEL_DEPLOYMENT)
}

/// The container that a line is about. Podman writes `name` after the labels, so they cannot fake
/// it.
fn name(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Event {
        actor: Actor,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Actor {
        attributes: Attributes,
    }
    #[derive(Deserialize)]
    struct Attributes {
        name: String,
    }
    serde_json::from_str::<Event>(line).ok().map(|event| event.actor.attributes.name)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    async fn next_hint(feed: &mut EventFeed) {
        tokio::time::timeout(Duration::from_secs(10), feed.hints.changed())
            .await
            .expect("a hint within the deadline")
            .unwrap();
    }

    /// `fm_21`: when the stream ends, the feed reports it, reconnects by itself and gives a hint.
    #[tokio::test]
    async fn fm_21_an_ended_stream_is_reopened_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let podman = Podman::new(socket, "550e8400-e29b-41d4-a716-446655440000".parse().unwrap());
        let mut feed = podman.events(stop.clone());
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"GET /v4.0.0/libpod/events?stream=true&filters="));
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            next_hint(&mut feed).await;
            assert!(*feed.healthy.borrow());
            stream.write_all(b"{\"status\":\"died\"}\n{\"a\":{\"buddo.depl").await.unwrap();
            stream.write_all(b"oyment\":\"x\"}}\n").await.unwrap();
            next_hint(&mut feed).await;
            drop(stream);
            let down = feed.healthy.wait_for(|healthy| !healthy);
            tokio::time::timeout(Duration::from_secs(10), down).await.unwrap().unwrap();
        }
        stop.cancel();
    }

    /// A stream that is open but dead is replaced once somebody notices, with a hint.
    #[tokio::test]
    async fn fm_21_a_silent_stream_is_replaced_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let podman = Podman::new(socket, "550e8400-e29b-41d4-a716-446655440000".parse().unwrap());
        let mut feed = podman.events(stop.clone());
        for lines in 1..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            next_hint(&mut feed).await;
            stream.write_all(b"{\"status\":\"of another\"}\n").await.unwrap();
            let came = feed.lines.wait_for(|count| *count == lines);
            tokio::time::timeout(Duration::from_secs(10), came).await.unwrap().unwrap();
            feed.renew.notify_one();
            // The old connection is closed, not left behind.
            let mut rest = Vec::new();
            let closed = stream.read_to_end(&mut rest);
            tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap().unwrap();
        }
        stop.cancel();
    }

    /// A line that is too long to be read is a hint about an unknown container, and the stream goes
    /// on behind it.
    #[tokio::test]
    async fn a_line_that_is_too_long_is_a_hint_and_the_next_one_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let podman = Podman::new(socket, "550e8400-e29b-41d4-a716-446655440000".parse().unwrap());
        let mut feed = podman.events(stop.clone());
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        next_hint(&mut feed).await;
        stream.write_all(&vec![b'x'; 2 * MAX_LINE]).await.unwrap();
        next_hint(&mut feed).await;
        stream.write_all(b"\n{\"buddo.deployment\":\"x\"}\n").await.unwrap();
        next_hint(&mut feed).await;
        assert_eq!(*feed.lines.borrow(), 2);
        assert!(*feed.healthy.borrow(), "the stream stays open");
        stop.cancel();
    }

    #[test]
    fn events_of_foreign_containers_are_ignored() {
        assert!(is_ours(r#"{"Actor":{"Attributes":{"buddo.deployment":"x"}}}"#));
        assert!(!is_ours(r#"{"Actor":{"Attributes":{"name":"postgres"}}}"#));
    }
}
