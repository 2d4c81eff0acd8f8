//! `GET /v1/reports?after=SEQ`: the stream of reports; kept ones first and in order, others as they
//! come.

use std::io;
use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::report::Frame;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use http_body_util::StreamBody;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::control::server::answer::{Answer, Refused, answer, malformed, problem};
use crate::control::server::router::{Call, Endpoint};
use crate::ports::Outbox;

/// Reports read at once: bounds the memory held for a slow reader.
const PAGE: usize = 64;

pub(super) fn endpoint<O: Outbox>(outbox: Arc<O>, stop: CancellationToken) -> impl Endpoint {
    move |call| open(Arc::clone(&outbox), stop.clone(), call)
}

async fn open<O: Outbox>(
    outbox: Arc<O>,
    stop: CancellationToken,
    call: Call,
) -> Result<Answer, Refused> {
    let after = call
        .query("after")
        .map_or(Ok(0), str::parse)
        .map_err(|_| malformed("the query's `after` is not a sequence number"))?;
    outbox.resume(after).await.map_err(|error| {
        let detail = format!("reports cannot be read: {}", chain(&error));
        problem(StatusCode::SERVICE_UNAVAILABLE, "not_read", "Not read", detail)
    })?;
    Ok(answer(StatusCode::OK, "application/x-ndjson", stream(outbox, after, stop)))
}

/// Ends when the reader goes away, when `stop` is cancelled, or when reports cannot be read: the
/// reader resumes from what it has committed.
fn stream<O: Outbox>(
    outbox: Arc<O>,
    after: u64,
    stop: CancellationToken,
) -> StreamBody<impl Stream<Item = io::Result<hyper::body::Frame<Bytes>>> + Send + 'static> {
    // Both before the first read, so that nothing is missed in between.
    let (changed, ephemeral) = (outbox.changed(), Some(outbox.ephemeral()));
    let reader = Reader { outbox, seq: after, changed, ephemeral, stop };
    StreamBody::new(stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(None) => None,
            Ok(Some(lines)) => Some((Ok(hyper::body::Frame::data(lines)), Some(reader))),
            Err(error) => {
                tracing::error!(reason = %error, "reports cannot be read; the stream ends");
                Some((Err(error), None))
            }
        }
    }))
}

struct Reader<O> {
    outbox: Arc<O>,
    seq: u64,
    changed: watch::Receiver<u64>,
    /// `None` once its sender is gone.
    ephemeral: Option<broadcast::Receiver<Frame>>,
    stop: CancellationToken,
}

impl<O: Outbox> Reader<O> {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            self.changed.borrow_and_update();
            let reports = self.outbox.after(self.seq, PAGE).await?;
            if let Some(last) = reports.last() {
                self.seq = last.seq;
                return lines(reports.into_iter().map(Frame::Report)).map(Some);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                changed = self.changed.changed() => if changed.is_err() { return Ok(None) },
                received = receive(self.ephemeral.as_mut()) => match received {
                    Ok(frame) => return lines([frame]).map(Some),
                    // The oldest are lost to a slow reader, as agreed.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => self.ephemeral = None,
                },
            }
        }
    }
}

async fn receive(from: Option<&mut broadcast::Receiver<Frame>>) -> Result<Frame, RecvError> {
    match from {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

fn lines(frames: impl IntoIterator<Item = Frame>) -> io::Result<Bytes> {
    let mut text = Vec::new();
    for frame in frames {
        serde_json::to_writer(&mut text, &frame)?;
        text.push(b'\n');
    }
    Ok(text.into())
}
