//! Answers, and bodies of requests.

use std::io;
use std::time::Duration;

use buddo_shared::api::problem::Problem;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

/// How long the body of a request may take.
const BODY_DEADLINE: Duration = Duration::from_mins(1);
/// How long it may stand still. A coordinator that hangs in the middle of a document must not keep
/// another one's waiting: only one is in memory at a time.
const BODY_IDLE: Duration = Duration::from_secs(10);

/// The answer to a request; its body is made as fast as it is read.
pub type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Why a request is not answered.
pub type Refused = Box<Problem>;

/// Reads a body of at most `limit` bytes, within its deadlines.
pub(super) async fn read(body: Incoming, limit: usize) -> Result<Bytes, Refused> {
    read_within(body, limit, BODY_DEADLINE, BODY_IDLE).await
}

async fn read_within<B>(
    mut body: B,
    limit: usize,
    deadline: Duration,
    idle: Duration,
) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Refused by its declared size: not one byte is read of a body that is too large.
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit {
        return Err(too_large(limit));
    }
    let until = Instant::now() + deadline;
    let mut read = BytesMut::with_capacity(declared);
    loop {
        let next = timeout_at(until.min(Instant::now() + idle), body.frame()).await;
        let frame = next.map_err(|_| {
            problem(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "Timeout",
                format!(
                    "the body did not come within {} s, or nothing of it for {} s",
                    deadline.as_secs(),
                    idle.as_secs()
                ),
            )
        })?;
        match frame {
            None => return Ok(read.freeze()),
            Some(Err(_)) => return Err(malformed("the body was cut off")),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if read.len() + data.len() > limit {
                    return Err(too_large(limit));
                }
                read.extend_from_slice(&data);
            }
        }
    }
}

pub(super) fn problem(
    status: StatusCode,
    code: &str,
    title: &str,
    detail: impl Into<String>,
) -> Refused {
    Box::new(Problem::new(status.as_u16(), code, title, detail))
}

pub(super) fn malformed(detail: &str) -> Refused {
    problem(StatusCode::BAD_REQUEST, "malformed_request", "Malformed request", detail)
}

fn too_large(limit: usize) -> Refused {
    let detail = format!("the body has more than {limit} bytes");
    problem(StatusCode::PAYLOAD_TOO_LARGE, "document_too_large", "Too large", detail)
}

pub(super) fn json(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => answer(status, media_type, Full::new(Bytes::from(text))),
        // None of our own types fails; an empty 500 is still an answer.
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, media_type, Full::default()),
    }
}

pub(super) fn answer<B>(status: StatusCode, media_type: &'static str, body: B) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut answer = Response::new(body.map_err(io::Error::other).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// 204: done, and nothing to say.
pub(super) fn no_content() -> Answer {
    let mut answer = answer(StatusCode::NO_CONTENT, "application/json", Full::default());
    answer.headers_mut().remove(header::CONTENT_TYPE);
    answer
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;

    use super::*;

    type Piece = Result<hyper::body::Frame<Bytes>, Infallible>;

    async fn of(pieces: &[&'static [u8]], then_silence: bool) -> Result<Bytes, Refused> {
        let pieces: Vec<Piece> = pieces
            .iter()
            .map(|piece| Ok(hyper::body::Frame::data(Bytes::from_static(piece))))
            .collect();
        let silence = stream::pending::<Piece>().take(usize::from(then_silence));
        let body = StreamBody::new(Box::pin(stream::iter(pieces).chain(silence)));
        read_within(body, 6, BODY_DEADLINE, BODY_IDLE).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_whole_small_enough_and_in_time_or_refused() {
        assert_eq!(of(&[b"abc", b"def"], false).await.unwrap(), "abcdef");
        let begun = Instant::now();
        assert_eq!(of(&[b"abcd", b"efg"], true).await.unwrap_err().status, 413);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // A body that stands still is given up long before its own deadline.
        assert_eq!(of(&[b"abc"], true).await.unwrap_err().status, 408);
        assert_eq!(begun.elapsed(), BODY_IDLE);
    }
}
