//! WebSockets that stay open and in use: each must live until somebody ends it on purpose.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::tally::{Failure, Tally};
use crate::edge::Edge;

/// Between two messages on one socket, and before a closed one is reopened.
const PAUSE: Duration = Duration::from_millis(250);
/// An echo or an open that takes longer has failed.
const SLOWEST: Duration = Duration::from_secs(30);

/// Open WebSockets. Their tally counts messages as requests.
#[derive(Debug)]
pub struct Sockets {
    tasks: JoinSet<Tally>,
    stop: CancellationToken,
    started: Instant,
}

impl Sockets {
    /// Opens one to each of `hosts`; a host may be named more than once.
    pub fn open(edge: &Edge, hosts: &[String]) -> Self {
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let mut tasks = JoinSet::new();
        for host in hosts {
            tasks.spawn(talk(edge.clone(), host.clone(), stop.clone()));
        }
        Self { tasks, stop, started }
    }

    pub async fn finish(self) -> Tally {
        self.stop.cancel();
        let mut tally = Tally::default();
        for part in self.tasks.join_all().await {
            tally.add(part);
        }
        tally.elapsed = self.started.elapsed();
        tally.micros.sort_unstable();
        tally
    }
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn talk(edge: Edge, host: String, stop: CancellationToken) -> Tally {
    let mut tally = Tally::default();
    let mut open: Option<(Socket, Instant)> = None;
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        let began = Instant::now();
        let opened = open.as_ref().map_or(began, |(_, opened)| *opened);
        tally.requests += 1;
        let echoed = async {
            let (mut socket, opened) = if let Some(open) = open.take() {
                open
            } else {
                let opened = tokio::time::timeout(SLOWEST, edge.websocket(&host)).await;
                (opened.context("opening took too long")?.context("open")?, began)
            };
            liveness(&mut socket, &format!("message {}", tally.requests)).await?;
            anyhow::Ok((socket, opened))
        };
        match echoed.await {
            Ok(kept) => open = Some(kept),
            Err(error) => {
                let (host, ended) = (host.clone(), Instant::now());
                let error = format!("WebSocket: {error:#}");
                tally.fail(Failure { host, opened, began, ended, error });
            }
        }
        tally.micros.push(began.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
    }
    tally
}

async fn liveness(socket: &mut Socket, text: &str) -> anyhow::Result<()> {
    socket.send(Message::text(text)).await.context("send")?;
    let echoed = tokio::time::timeout(SLOWEST, socket.next()).await.context("no echo")?;
    match echoed.context("it closed")?.context("it broke")? {
        Message::Text(echoed) if echoed.as_str() == text => Ok(()),
        other => bail!("another echo: {other:?}"),
    }
}
