//! What has come of an answer and waits for its reader, in one piece.
//!
//! HTTP/2 bounds the bytes of a body that wait, but each of its frames costs memory of its own, and
//! `h2` closes a whole connection when too many small ones wait. Lines of a log are small frames: a
//! few readers that stall would end the connection for all. So frames are taken as they come, and
//! the host may send more only once the reader has taken the bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use h2::{FlowControl, RecvStream};
use tokio_util::task::AbortOnDropHandle;

/// The bytes of one answer. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    waiting: Arc<Waiting>,
    flow: FlowControl,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    ended: Option<Result<(), h2::Error>>,
    reader: Option<Waker>,
}

impl ReadBuffer {
    pub(super) fn start(mut stream: RecvStream) -> Self {
        let (waiting, flow) = (Arc::<Waiting>::default(), stream.flow_control().clone());
        let filled = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            loop {
                let ended = match stream.data().await {
                    Some(Ok(bytes)) => {
                        filled.put(|state| state.bytes.extend_from_slice(&bytes));
                        continue;
                    }
                    Some(Err(error)) => Err(error),
                    None => Ok(()),
                };
                filled.put(|state| state.ended = Some(ended));
                break;
            }
            // The stream accounts for what the reader has not taken yet.
            std::future::pending::<()>().await;
            drop(stream);
        });
        Self { waiting, flow, _task: AbortOnDropHandle::new(task) }
    }

    /// All that waits; the host may send as much again. `None`: the end.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let mut state = self.waiting.state();
        if !state.bytes.is_empty() {
            let bytes = state.bytes.split().freeze();
            drop(state);
            // Of a stream that has broken there is nothing to release; its end follows.
            let _ = self.flow.release_capacity(bytes.len());
            return Poll::Ready(Some(Ok(bytes)));
        }
        if let Some(ended) = state.ended.take() {
            return Poll::Ready(ended.err().map(Err));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Waiting {
    fn put(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
