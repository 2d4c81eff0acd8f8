//! The report stream: newline-delimited JSON, read in batches of whole lines.

use buddo_shared::report::Frame;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;

/// The longest line that is read: one that names every container a host can hold is a fifth of it.
const MAX_LINE: usize = 1024 * 1024;

/// The stream cannot be read further.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The agent ended it, or the connection broke.
    #[error("the report stream ended")]
    Ended,
    /// Reading failed.
    #[error("cannot read the report stream")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A line without end.
    #[error("the report stream has a line of more than {MAX_LINE} bytes")]
    Line,
}

/// Frames out of a body.
#[derive(Debug)]
pub(super) struct Frames<B> {
    body: B,
    buffer: BytesMut,
}

impl<B> Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// All frames that have arrived, at least one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Vec<Frame>, StreamError> {
        loop {
            let frames = self.take_lines();
            if !frames.is_empty() {
                return Ok(frames);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(StreamError::Line);
            }
            let chunk = self.body.frame().await.ok_or(StreamError::Ended)?;
            let chunk = chunk.map_err(|error| StreamError::Read(error.into()))?;
            if let Ok(data) = chunk.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn take_lines(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(frame) => frames.push(frame),
                // An agent that is newer may say more than is known here. Waiting for it to say
                // something else would stop all of its reports.
                Err(error) => tracing::error!(%error, "a report that cannot be read is skipped"),
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body;

    use super::*;

    fn frames(chunks: &[&str]) -> Frames<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(body::Frame::data(Bytes::copy_from_slice(chunk.as_bytes()))))
            .collect();
        Frames::new(StreamBody::new(stream::iter(chunks)))
    }

    #[tokio::test]
    async fn lines_may_be_cut_anywhere_and_unknown_ones_are_skipped() {
        let mut frames = frames(&[
            "\n{\"frame\":\"chec",
            "ked\",\"body\":[]}\n{\"frame\":\"of the future\"}\n{\"frame\":\"checked\",",
            "\"body\":[]}\n",
        ]);
        assert_eq!(frames.next().await.unwrap(), [Frame::Checked(vec![])]);
        assert_eq!(frames.next().await.unwrap(), [Frame::Checked(vec![])]);
        assert!(matches!(frames.next().await, Err(StreamError::Ended)));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let long = "x".repeat(MAX_LINE + 1);
        assert!(matches!(frames(&[&long]).next().await, Err(StreamError::Line)));
    }
}
