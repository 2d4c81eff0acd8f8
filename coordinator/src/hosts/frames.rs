//! The report stream: newline-delimited JSON, read in batches of whole lines.

use std::io;

use buddo_shared::host_wire::report::Frame;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::Instant;
use tokio_util::codec::{Decoder as _, LinesCodec, LinesCodecError};

use super::budget::{Budget, OverBudget};

/// The longest accepted line: one naming every container that a host can hold is a fifth of it.
const MAX_LINE: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The agent ended it, or the connection broke.
    #[error("the report stream ended")]
    Ended,
    #[error("cannot read the report stream")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A line without an end.
    #[error("the report stream has a line of more than {MAX_LINE} bytes")]
    Line,
    /// The host exceeded its budget.
    #[error(transparent)]
    Flood(#[from] OverBudget),
}

/// Frames parsed from a body.
#[derive(Debug)]
pub(super) struct Frames<'a, B> {
    body: B,
    buffer: BytesMut,
    /// Remembers how far it has looked: a long line in small pieces must not cost the square of its
    /// length.
    lines: LinesCodec,
    /// A line was too long; what came before it is still taken.
    too_long: bool,
    budget: &'a mut Budget,
    /// Whether an unreadable line was logged: the following ones are logged at debug level.
    complained: bool,
}

impl<'a, B> Frames<'a, B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(body: B, budget: &'a mut Budget) -> Self {
        let lines = LinesCodec::new_with_max_length(MAX_LINE);
        let buffer = BytesMut::new();
        Self { body, buffer, lines, too_long: false, budget, complained: false }
    }

    /// All frames that have arrived, at least one. Cancel-safe: dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Vec<Frame>, StreamError> {
        loop {
            let frames = self.take_lines()?;
            if !frames.is_empty() {
                return Ok(frames);
            }
            if self.too_long {
                return Err(StreamError::Line);
            }
            let chunk = self.body.frame().await.ok_or(StreamError::Ended)?;
            let chunk = chunk.map_err(|error| StreamError::Read(error.into()))?;
            if let Ok(data) = chunk.into_data() {
                self.budget.read(data.len(), Instant::now())?;
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The lines that are complete. The codec is called by hand, not through `FramedRead`: that
    /// yields one line at a time, and each batch is one transaction.
    fn take_lines(&mut self) -> Result<Vec<Frame>, StreamError> {
        let mut frames = Vec::new();
        let now = Instant::now();
        while let Some(line) = self.next_line() {
            if line.as_deref().is_ok_and(str::is_empty) {
                continue;
            }
            let frame = match line.and_then(|line| Ok(serde_json::from_str(&line)?)) {
                Ok(frame) => Some(frame),
                // A newer agent may send frames that are unknown here. Stopping at them would
                // block all of its reports.
                Err(error) if self.complained => {
                    tracing::debug!(%error, "skipping another unreadable report");
                    None
                }
                Err(error) => {
                    tracing::error!(%error, "skipping unreadable reports");
                    self.complained = true;
                    None
                }
            };
            self.budget.parsed(frame.as_ref(), now)?;
            frames.extend(frame);
        }
        Ok(frames)
    }

    /// The next complete line; an error if it is not UTF-8.
    fn next_line(&mut self) -> Option<io::Result<String>> {
        if self.too_long {
            return None;
        }
        match self.lines.decode(&mut self.buffer) {
            Ok(line) => line.map(Ok),
            Err(LinesCodecError::Io(error)) => Some(Err(error)),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                self.too_long = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body;

    use super::*;

    fn body(chunks: &[&str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(body::Frame::data(Bytes::copy_from_slice(chunk.as_bytes()))))
            .collect();
        StreamBody::new(stream::iter(chunks))
    }

    fn budget() -> Budget {
        Budget::new(Instant::now())
    }

    #[tokio::test]
    async fn lines_may_be_split_anywhere_and_unknown_frames_are_skipped() {
        let mut budget = budget();
        let body = body(&[
            "\n{\"frame\":\"chec",
            "ked\",\"body\":[]}\n{\"frame\":\"of the future\"}\n{\"frame\":\"checked\",",
            "\"body\":[]}\n",
        ]);
        let mut frames = Frames::new(body, &mut budget);
        assert_eq!(frames.next().await.unwrap(), [Frame::Checked(vec![])]);
        assert_eq!(frames.next().await.unwrap(), [Frame::Checked(vec![])]);
        assert!(matches!(frames.next().await, Err(StreamError::Ended)));
    }

    #[tokio::test]
    async fn an_overlong_line_is_refused() {
        let long = "x".repeat(MAX_LINE + 1);
        let (body, mut budget) = (body(&[&long]), budget());
        assert!(matches!(Frames::new(body, &mut budget).next().await, Err(StreamError::Line)));
    }

    /// Otherwise a host could not get rid of them, and would send them again and again.
    #[tokio::test]
    async fn what_came_before_a_line_without_end_is_taken() {
        let long = "{\"frame\":\"checked\",\"body\":[]}\n".to_owned() + &"x".repeat(MAX_LINE + 1);
        let (body, mut budget) = (body(&[&long]), budget());
        let mut frames = Frames::new(body, &mut budget);
        assert_eq!(frames.next().await.unwrap(), [Frame::Checked(vec![])]);
        assert!(matches!(frames.next().await, Err(StreamError::Line)));
    }

    /// Counted, not timed: the codec's own mark of how far it has looked moves with each piece.
    #[test]
    fn fm_67_a_line_in_small_pieces_is_scanned_once() {
        let mut budget = budget();
        let mut frames = Frames::new(body(&[]), &mut budget);
        for _ in 0..10_000 {
            frames.buffer.extend_from_slice(b"xy");
            assert!(frames.next_line().is_none());
            let mark = format!("next_index: {},", frames.buffer.len());
            assert!(format!("{:?}", frames.lines).contains(&mark), "{:?}", frames.lines);
        }
        frames.buffer.extend_from_slice(b"\nz\n");
        assert_eq!(frames.next_line().unwrap().unwrap().len(), 20_000);
    }

    #[tokio::test]
    async fn what_is_not_utf_8_is_skipped_and_counted_like_any_other_line() {
        let mut budget = budget();
        let mut frames = Frames::new(body(&[]), &mut budget);
        frames.buffer.extend_from_slice(b"\xff\xfe\n{\"frame\":\"checked\",\"body\":[]}\n");
        assert_eq!(frames.next().await.unwrap(), [Frame::Checked(vec![])]);
        let lines = b"\xff\n".repeat(70_000);
        frames.buffer.extend_from_slice(&lines);
        assert!(matches!(frames.next().await, Err(StreamError::Flood(_))));
    }

    proptest::proptest! {
        /// However a stream is cut into pieces, it yields the same lines.
        #[test]
        fn any_split_yields_the_same_lines(
            lines in proptest::collection::vec("[a-z]{0,9}", 0..20),
            cuts in proptest::collection::vec(0..200usize, 0..20),
        ) {
            let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut budget = budget();
            let mut frames = Frames::new(body(&[]), &mut budget);
            let mut found = Vec::new();
            for piece in cuts.windows(2) {
                frames.buffer.extend_from_slice(&text.as_bytes()[piece[0]..piece[1]]);
                while let Some(line) = frames.next_line() {
                    found.push(line.unwrap());
                }
            }
            proptest::prop_assert_eq!(found, lines);
        }
    }

    #[tokio::test]
    async fn fm_67_a_flood_ends_the_stream_and_reconnecting_keeps_the_budget() {
        let lines = "{\"frame\":\"of nobody\"}\n".repeat(10_000);
        let flood = [&*lines; 7];
        let mut budget = budget();
        let mut frames = Frames::new(body(&flood), &mut budget);
        assert!(matches!(frames.next().await, Err(StreamError::Flood(_))));
        let mut again = Frames::new(body(&flood[..1]), &mut budget);
        assert!(matches!(again.next().await, Err(StreamError::Flood(_))));
    }
}
