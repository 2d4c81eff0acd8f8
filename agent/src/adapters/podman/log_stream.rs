//! A container's log as a stream of lines.
//!
//! Podman's follower polls the log file, may miss lines between the past and the present, and cuts
//! the log of a stopped container short (containers/podman issue 21914): a reader that needs every
//! line must not rely on it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use buddo_runtime::uri::escape;
use buddo_shared::host_wire::log::{LogLine, LogStream, MAX_LINE};
use bytes::{Buf as _, BytesMut};
use futures_util::{Stream, stream};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::Podman;
use super::transport::{Call, Connection, TransportError};
use crate::ports::{ContainerLogs, ContainersError};

/// How long an answer may take to begin if it does not wait for lines.
const HEAD: Duration = Duration::from_secs(10);

/// How long a refusal may take. A follower's answer begins with its first line, which may never
/// come: after this long without a refusal the log is open.
const SETTLED: Duration = Duration::from_millis(250);

/// A frame of Docker's framing: a header of this many bytes, then the text.
const HEADER: usize = 8;

/// The largest answer that is read whole: a refusal.
const MAX_REFUSAL: usize = 16 * 1024;

const OPERATION: &str = "read a container's log";

type Opened = Result<(Response<Incoming>, Connection), ContainersError>;

impl ContainerLogs for Podman {
    type Lines = Pin<Box<dyn Stream<Item = Result<LogLine, ContainersError>> + Send>>;

    async fn log(
        &self,
        container: &str,
        tail: u32,
        follow: bool,
    ) -> Result<Self::Lines, ContainersError> {
        let path = format!(
            "containers/{}/logs?stdout=true&stderr=true&timestamps=true&follow={follow}&tail={tail}",
            escape(container)
        );
        // A follower's answer begins with the first line, whenever that is.
        let deadline = if follow { Duration::from_hours(365 * 24) } else { HEAD };
        let call = Call::libpod(OPERATION, Method::GET, path).deadline(deadline);
        let transport = self.transport.clone();
        let mut open: Pin<Box<dyn Future<Output = Opened> + Send>> =
            Box::pin(async move { transport.open(call).await });
        let name = container.to_owned();
        let reading = match tokio::time::timeout(SETTLED, &mut open).await {
            Ok(opened) => Reading::Open(Box::new(begun(opened, &name).await?)),
            Err(_) => Reading::Waiting(open, name),
        };
        Ok(Box::pin(stream::unfold(reading, next)))
    }
}

/// The log that Podman's answer begins; `Err`: Podman refused.
async fn begun(opened: Opened, container: &str) -> Result<Lines, ContainersError> {
    let (response, connection) = opened?;
    let status = response.status();
    match status {
        StatusCode::OK => Ok(Lines {
            response,
            _connection: connection,
            buffer: BytesMut::new(),
            frames: Frames::default(),
            ready: VecDeque::new(),
        }),
        StatusCode::NOT_FOUND => Err(ContainersError::NotFound(container.to_owned())),
        _ => {
            let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let message = String::from_utf8_lossy(&body).trim().chars().take(1_000).collect();
            Err(ContainersError::Refused { operation: OPERATION, status: status.as_u16(), message })
        }
    }
}

enum Reading {
    Waiting(Pin<Box<dyn Future<Output = Opened> + Send>>, String),
    Open(Box<Lines>),
    Ended,
}

struct Lines {
    response: Response<Incoming>,
    _connection: Connection,
    buffer: BytesMut,
    frames: Frames,
    ready: VecDeque<LogLine>,
}

/// The next line, and what follows it. The service's socket is read only when no line is left.
async fn next(reading: Reading) -> Option<(Result<LogLine, ContainersError>, Reading)> {
    let mut lines = match reading {
        Reading::Ended => return None,
        Reading::Open(lines) => lines,
        Reading::Waiting(open, container) => match begun(open.await, &container).await {
            Ok(lines) => Box::new(lines),
            Err(error) => return Some((Err(error), Reading::Ended)),
        },
    };
    loop {
        if let Some(line) = lines.ready.pop_front() {
            return Some((Ok(line), Reading::Open(lines)));
        }
        match lines.response.body_mut().frame().await? {
            Ok(frame) => {
                let Ok(data) = frame.into_data() else { continue };
                lines.buffer.extend_from_slice(&data);
                if lines.frames.take(&mut lines.buffer, &mut lines.ready).is_err() {
                    let framing = std::io::Error::other("it is not in Docker's framing");
                    let error = TransportError::Body(framing.into()).during(OPERATION);
                    return Some((Err(error), Reading::Ended));
                }
            }
            Err(error) => {
                let error = TransportError::Body(error.into()).during(OPERATION);
                return Some((Err(error), Reading::Ended));
            }
        }
    }
}

/// Splits the framing as it arrives. A frame is one line; of a long one only the start is kept.
#[derive(Debug, Default)]
struct Frames {
    frame: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    stream: LogStream,
    left: usize,
    kept: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct NotFramed;

impl Frames {
    /// Moves all complete lines of `buffer` to `lines`.
    fn take(
        &mut self,
        buffer: &mut BytesMut,
        lines: &mut VecDeque<LogLine>,
    ) -> Result<(), NotFramed> {
        loop {
            let Some(frame) = &mut self.frame else {
                // The service ends each frame with a line feed beyond the counted length.
                while buffer.first() == Some(&b'\n') {
                    buffer.advance(1);
                }
                let Some([kind, 0, 0, 0, length @ ..]) = buffer.first_chunk::<HEADER>() else {
                    return if buffer.len() < HEADER { Ok(()) } else { Err(NotFramed) };
                };
                let stream = match kind {
                    0 | 1 => LogStream::Stdout,
                    2 => LogStream::Stderr,
                    _ => return Err(NotFramed),
                };
                let left = u32::from_be_bytes(*length) as usize;
                buffer.advance(HEADER);
                self.frame = Some(Frame { stream, left, kept: Vec::new() });
                continue;
            };
            let came = buffer.split_to(frame.left.min(buffer.len()));
            frame.left -= came.len();
            let room = MAX_FRAME.saturating_sub(frame.kept.len());
            frame.kept.extend_from_slice(&came[..came.len().min(room)]);
            if frame.left > 0 {
                return Ok(());
            }
            if let Some(frame) = self.frame.take() {
                lines.push_back(frame.line());
            }
        }
    }
}

/// A line with its time before it.
const MAX_FRAME: usize = MAX_LINE + 64;

impl Frame {
    fn line(self) -> LogLine {
        let text = String::from_utf8_lossy(&self.kept);
        let (at, text) = match text.split_once(' ').map(|(at, rest)| (at.parse(), rest)) {
            Some((Ok(at), rest)) => (Some(at), rest),
            _ => (None, &*text),
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let end = text.floor_char_boundary(MAX_LINE);
        LogLine { stream: self.stream, at, line: text[..end].to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(kind: u8, text: &str, beyond: bool) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.as_bytes());
        if beyond {
            bytes.push(b'\n');
        }
        bytes
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<LogLine>, NotFramed> {
        let (mut frames, mut buffer) = (Frames::default(), BytesMut::new());
        let mut lines = VecDeque::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            frames.take(&mut buffer, &mut lines)?;
        }
        Ok(lines.into())
    }

    #[test]
    fn lines_have_their_stream_and_time() {
        let mut bytes = framed(1, "2026-05-21T10:00:00+02:00 listening\n", true);
        bytes.extend(framed(2, "no time here\r\n", false));
        bytes.extend(framed(1, "\n", true));
        let lines = read(&[&bytes]).unwrap();
        let line = |stream, at: Option<&str>, line: &str| LogLine {
            stream,
            at: at.map(|at| at.parse().unwrap()),
            line: line.to_owned(),
        };
        assert_eq!(
            lines,
            [
                line(LogStream::Stdout, Some("2026-05-21T08:00:00Z"), "listening"),
                line(LogStream::Stderr, None, "no time here"),
                line(LogStream::Stdout, None, ""),
            ]
        );
    }

    #[test]
    fn a_line_without_measure_is_cut_and_takes_no_memory() {
        let (mut frames, mut buffer) = (Frames::default(), BytesMut::new());
        let mut lines = VecDeque::new();
        buffer.extend_from_slice(&[1, 0, 0, 0]);
        buffer.extend_from_slice(&(100_u32 * 1024 * 1024).to_be_bytes());
        for _ in 0..100 * 1024 {
            buffer.extend_from_slice(&[b'x'; 1024]);
            frames.take(&mut buffer, &mut lines).unwrap();
            assert!(buffer.is_empty());
            assert!(frames.frame.as_ref().is_none_or(|frame| frame.kept.len() <= MAX_FRAME));
        }
        assert_eq!(lines.pop_front().unwrap().line.len(), MAX_LINE);
    }

    #[test]
    fn what_is_not_framed_is_refused() {
        assert_eq!(read(&[b"plain text of a terminal"]), Err(NotFramed));
        assert_eq!(read(&[&[3, 0, 0, 0, 0, 0, 0, 1, b'x']]), Err(NotFramed));
    }

    proptest! {
        /// However the answer is cut into pieces, it yields the same lines.
        #[test]
        fn the_same_lines_come_of_any_pieces(
            texts in prop::collection::vec(("[a-z é]{0,9}", any::<bool>(), 1..3_u8), 0..20),
            cuts in prop::collection::vec(0..400_usize, 0..20),
        ) {
            let bytes: Vec<u8> = texts
                .iter()
                .flat_map(|(text, beyond, kind)| framed(*kind, &format!("{text}\n"), *beyond))
                .collect();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let lines: Vec<String> =
                read(&pieces).unwrap().into_iter().map(|line| line.line).collect();
            let expected: Vec<String> = texts.into_iter().map(|(text, ..)| text).collect();
            prop_assert_eq!(lines, expected);
        }

        #[test]
        fn any_bytes_give_bounded_lines_or_none(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            if let Ok(lines) = read(&[&bytes]) {
                prop_assert!(lines.iter().all(|line| line.line.len() <= MAX_LINE));
            }
        }
    }
}
