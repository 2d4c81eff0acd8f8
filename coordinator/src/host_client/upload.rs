//! Sends the body of a request as fast as the agent takes it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::error::CallError;
use super::handle::RequestBody;
use super::idle::Idle;

/// Why not all of a body was sent.
#[derive(Debug)]
enum UploadError {
    /// Its source failed.
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// Neither did its source yield anything nor did the agent take anything for this long.
    Idle(Duration),
    /// The agent has heard enough, or is gone; its answer says which.
    Closed,
}

/// An upload in progress. Dropping it ends the stream, also while the agent takes nothing: no stream
/// is left behind by a caller that has gone.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` once it is known how it ended.
    failed: Option<oneshot::Receiver<UploadError>>,
    _task: AbortOnDropHandle<()>,
}

impl Upload {
    pub(super) fn start(
        mut body: RequestBody,
        mut stream: SendStream<Bytes>,
        idle: Option<Duration>,
    ) -> Self {
        let (tell, failed) = oneshot::channel();
        let task = tokio::spawn(async move {
            match pipe(&mut body, &mut stream, idle).await {
                Ok(()) | Err(UploadError::Closed) => {}
                Err(error) => {
                    // In this order: who sees the reset finds the reason.
                    let _ = tell.send(error);
                    // Not an end: the agent must not take a part for the whole.
                    stream.send_reset(h2::Reason::CANCEL);
                }
            }
        });
        Self { failed: Some(failed), _task: AbortOnDropHandle::new(task) }
    }

    /// Ready if it failed at this end; what the agent did with it shows in its answer.
    pub(super) fn poll_failed(
        &mut self,
        operation: &'static str,
        cx: &mut Context<'_>,
    ) -> Poll<CallError> {
        let Some(failed) = &mut self.failed else { return Poll::Pending };
        let failed = ready!(Pin::new(failed).poll(cx));
        self.failed = None;
        match failed {
            Err(_) | Ok(UploadError::Closed) => Poll::Pending,
            Ok(UploadError::Source(source)) => Poll::Ready(CallError::Upload { operation, source }),
            Ok(UploadError::Idle(within)) => Poll::Ready(CallError::Idle { operation, within }),
        }
    }
}

async fn pipe(
    body: &mut RequestBody,
    stream: &mut SendStream<Bytes>,
    idle: Option<Duration>,
) -> Result<(), UploadError> {
    let mut idle = Idle::new(idle);
    while let Some(frame) = next(body, stream, &mut idle).await? {
        let mut data = frame;
        while !data.is_empty() {
            // No more than this is in memory, however large the chunk: capacity is what the agent
            // has room for, and at most the send buffer.
            stream.reserve_capacity(data.len());
            let granted = capacity(stream, &mut idle).await?;
            let part = data.split_to(granted.min(data.len()));
            stream.send_data(part, false).map_err(|_| UploadError::Closed)?;
        }
    }
    stream.send_data(Bytes::new(), true).map_err(|_| UploadError::Closed)
}

/// The next chunk of the source; watches for the agent's reset meanwhile.
async fn next(
    body: &mut RequestBody,
    stream: &mut SendStream<Bytes>,
    idle: &mut Idle,
) -> Result<Option<Bytes>, UploadError> {
    loop {
        let mut frame = std::pin::pin!(body.frame());
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = frame.as_mut().poll(cx) {
                return Poll::Ready(Ok(frame));
            }
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(UploadError::Closed));
            }
            idle.poll(cx).map(|within| Err(UploadError::Idle(within)))
        });
        let Some(frame) = frame.await? else { return Ok(None) };
        idle.moved();
        if let Ok(data) = frame.map_err(UploadError::Source)?.into_data() {
            return Ok(Some(data));
        }
    }
}

async fn capacity(stream: &mut SendStream<Bytes>, idle: &mut Idle) -> Result<usize, UploadError> {
    let granted = poll_fn(|cx| match stream.poll_capacity(cx) {
        Poll::Ready(Some(Ok(granted))) => Poll::Ready(Ok(granted)),
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(UploadError::Closed)),
        Poll::Pending => idle.poll(cx).map(|within| Err(UploadError::Idle(within))),
    });
    let granted = granted.await?;
    idle.moved();
    Ok(granted)
}
