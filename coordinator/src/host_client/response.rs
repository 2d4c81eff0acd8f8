//! The body of an answer: what the reader does not take waits at the host.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame};

use super::error::CallError;
use super::handle::{Deadlines, Ended, Permits};
use super::idle::Idle;
use super::read_buffer::ReadBuffer;
use super::upload::Upload;

/// Dropping it ends the call: the agent is told at once, and its permit is free again.
#[derive(Debug)]
pub struct ResponseBody {
    operation: &'static str,
    read_buffer: ReadBuffer,
    idle: Idle,
    ended: Ended,
    upload: Option<Upload>,
    permits: Option<Permits>,
}

impl ResponseBody {
    pub(super) fn new(
        operation: &'static str,
        stream: RecvStream,
        deadlines: Deadlines,
        ended: Ended,
        upload: Option<Upload>,
        permits: Permits,
    ) -> Self {
        let idle = Idle::new(deadlines.idle);
        let read_buffer = ReadBuffer::start(stream);
        Self { operation, read_buffer, idle, ended, upload, permits: Some(permits) }
    }

    fn failed(&mut self, error: CallError) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        self.permits = None;
        self.upload = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let this = self.get_mut();
        let operation = this.operation;
        if this.permits.is_none() {
            return Poll::Ready(None);
        }
        let taken = this.read_buffer.poll_take(cx);
        // Where the upload failed, the stream was reset for it, after the reason was told.
        let upload = this.upload.as_mut().map(|upload| upload.poll_failed(operation, cx));
        if let Some(Poll::Ready(error)) = upload {
            return this.failed(error);
        }
        match taken {
            Poll::Ready(Some(Ok(data))) => {
                this.idle.moved();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(source))) => {
                let error = CallError::broken(operation, source, this.ended.why());
                this.failed(error)
            }
            Poll::Ready(None) => {
                this.permits = None;
                this.upload = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let within = ready!(this.idle.poll(cx));
                this.failed(CallError::Idle { operation, within })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.permits.is_none()
    }
}
