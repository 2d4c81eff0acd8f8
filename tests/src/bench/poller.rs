//! Keep-alive connections that repeat one request, as lean as possible: they share their
//! cores with what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::edge::Edge;

const POLLERS: usize = 32;

/// What was asked, and how long each answer took.
pub(super) struct Polled {
    pub(super) took: Vec<Duration>,
    pub(super) elapsed: Duration,
}

impl Polled {
    /// Answers a second, and for each second of processor time that the server took.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(super) fn rates(&self, cpu: Duration) -> (f64, f64) {
        let count = self.took.len() as f64;
        (count / self.elapsed.as_secs_f64(), count / cpu.as_secs_f64().max(0.01))
    }
}

/// They are connected already, so that the measurement includes no handshake.
pub(super) struct Pollers(Vec<Poller>);

impl Pollers {
    pub(super) async fn connect(door: &Edge) -> anyhow::Result<Self> {
        let mut pollers = Vec::new();
        for _ in 0..POLLERS {
            let stream = door.tls("localhost").await?;
            pollers.push(Poller { stream, buffer: Vec::new() });
        }
        Ok(Self(pollers))
    }

    /// Each sends as soon as it has an answer.
    pub(super) async fn poll(self, ask: &str, time: Duration) -> anyhow::Result<Polled> {
        let began = Instant::now();
        let polling = self.0.into_iter().map(async |mut poller| {
            let mut took = Vec::new();
            while began.elapsed() < time {
                let asked = Instant::now();
                poller.ask(ask).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
        let took = try_join_all(polling).await?.into_iter().flatten().collect();
        Ok(Polled { took, elapsed: began.elapsed() })
    }
}

struct Poller {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Poller {
    async fn ask(&mut self, request: &str) -> anyhow::Result<()> {
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let head = loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server has closed the connection");
            let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
        ensure!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("no length")?.trim().parse()?;
        while self.buffer.len() < head + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the answer ended early");
        }
        Ok(())
    }
}
