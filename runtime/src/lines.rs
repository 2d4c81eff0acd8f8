//! Lines of an HTTP body, such as newline-delimited JSON: read as they arrive, in bounded memory.

use std::error::Error;
use std::io;

use axum::body::{Bytes, HttpBody as Body};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyDataStream, BodyExt as _};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

/// The data of a body, with the body's errors as I/O errors.
type Data<B> = futures_util::stream::MapErr<BodyDataStream<B>, fn(<B as Body>::Error) -> io::Error>;

/// A body as bytes to be read.
pub type Reader<B> = StreamReader<Data<B>, Bytes>;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// A line is longer than this many bytes.
    #[error("a line of the stream has more than {0} bytes")]
    TooLong(usize),
    /// It broke off, or it is not text.
    #[error("the stream cannot be read")]
    Read(#[source] io::Error),
}

/// The lines of a body.
pub struct Lines<B: Body>(FramedRead<Reader<B>, LinesCodec>);

/// Reads a body as bytes.
pub fn reader<B>(body: B) -> Reader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    StreamReader::new(body.into_data_stream().map_err(io::Error::other))
}

impl<B> Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The lines of `body`, each of at most `longest` bytes.
    pub fn new(body: B, longest: usize) -> Self {
        Self(FramedRead::new(reader(body), LinesCodec::new_with_max_length(longest)))
    }

    /// The next line without its end; `None` once the stream has ended. A line that is too long is
    /// skipped: the next call returns the one after it. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<String, LineError>> {
        match self.0.next().await? {
            Ok(line) => Some(Ok(line)),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                // After an error the framing says `None` once, at once, and then resumes.
                let _ = self.0.next().await;
                Some(Err(LineError::TooLong(self.0.decoder().max_length())))
            }
            Err(LinesCodecError::Io(error)) => Some(Err(LineError::Read(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn lines<I>(pieces: I, longest: usize) -> Lines<axum::body::Body>
    where
        I: Iterator<Item = Bytes> + Send + 'static,
    {
        let pieces = futures_util::stream::iter(pieces.map(Ok::<_, io::Error>));
        Lines::new(axum::body::Body::from_stream(pieces), longest)
    }

    fn of(text: &'static str, piece: usize) -> impl Iterator<Item = Bytes> {
        text.as_bytes().chunks(piece).map(Bytes::from_static)
    }

    #[tokio::test]
    async fn a_line_in_pieces_is_one_and_the_last_needs_no_end() {
        for piece in 1..8 {
            let mut lines = lines(of("{\"a\":1}\n\n{\"b\":2}\r\nend", piece), 10);
            let mut found = Vec::new();
            while let Some(line) = lines.next().await {
                found.push(line.unwrap());
            }
            assert_eq!(found, ["{\"a\":1}", "", "{\"b\":2}", "end"], "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        for piece in [1, 5, 100] {
            let mut lines = lines(of("first\n01234567890123456789\nnext\nlast\n", piece), 10);
            assert_eq!(lines.next().await.unwrap().unwrap(), "first");
            let error = lines.next().await.unwrap().unwrap_err();
            assert!(matches!(error, LineError::TooLong(10)), "{error:?}");
            assert_eq!(lines.next().await.unwrap().unwrap(), "next", "in pieces of {piece}");
            assert_eq!(lines.next().await.unwrap().unwrap(), "last");
            assert!(lines.next().await.is_none());
        }
    }

    /// A line end that is searched for from the start with each piece costs the square of the length.
    #[tokio::test]
    async fn a_long_line_in_small_pieces_costs_no_more_than_its_length() {
        const LONG: usize = 4 * 1024 * 1024;
        let piece = Bytes::from_static(&[b'x'; 16]);
        let mut lines = lines(std::iter::repeat_n(piece, LONG / 16), LONG);
        let begun = Instant::now();
        assert_eq!(lines.next().await.unwrap().unwrap().len(), LONG);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_an_error() {
        let pieces = [Ok(Bytes::from("half a li")), Err(io::Error::other("reset"))];
        let pieces = axum::body::Body::from_stream(futures_util::stream::iter(pieces));
        let mut lines = Lines::new(pieces, 100);
        let error = lines.next().await.unwrap().unwrap_err();
        let LineError::Read(error) = error else { panic!("{error}") };
        assert_eq!(error.to_string(), "reset");
    }

    #[tokio::test]
    async fn a_line_that_is_not_text_is_an_error() {
        let mut lines = lines(std::iter::once(Bytes::from_static(b"\xff\xfe\n")), 100);
        assert!(matches!(lines.next().await, Some(Err(LineError::Read(_)))));
    }
}
