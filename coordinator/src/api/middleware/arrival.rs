//! Reads a request's whole body before the request takes a concurrency slot, in bounded time and
//! memory: a slow or silent client keeps nobody waiting.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::api::extract::json::MAX_BODY;
use crate::api::problem::{self, ApiError};

/// From the head of a request to the end of its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// Body bytes that any request may buffer for free: nearly all bodies are shorter.
const FREE: usize = 4 * 1024;
/// Budget for the bytes beyond that, of all requests together.
const BUDGET: usize = 64 * 1024 * 1024;

/// The memory budget for request bodies.
#[derive(Debug, Clone)]
pub(in crate::api) struct BodyBudget(Arc<Semaphore>);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

/// Middleware: passes the request on with its body in memory.
pub(in crate::api) async fn arrive(
    State(budget): State<BodyBudget>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let read = timeout(PATIENCE, read(body, &budget)).await.unwrap_or_else(|_| {
        let detail = "the body did not arrive within 10 seconds; send it faster";
        Err(ApiError::new(problem::REQUEST_TIMEOUT, detail))
    });
    match read {
        Ok((body, _budget)) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn read(
    mut body: Body,
    BodyBudget(budget): &BodyBudget,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let ended = |_| {
            let detail = "the body ended early; send it whole";
            ApiError::new(problem::INVALID_REQUEST, detail)
        };
        let Ok(data) = frame.map_err(ended)?.into_data() else { continue };
        let length = whole.len() + data.len();
        if length > MAX_BODY {
            return Err(too_large());
        }
        let missing = length.saturating_sub(FREE.max(whole.len()));
        if missing > 0 {
            let more = u32::try_from(missing).unwrap_or(u32::MAX);
            let more = Arc::clone(budget).try_acquire_many_owned(more).map_err(|_| full())?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), held))
}

fn too_large() -> ApiError {
    let detail = format!("the body has more than {MAX_BODY} bytes; send less");
    ApiError::new(problem::PAYLOAD_TOO_LARGE, detail)
}

fn full() -> ApiError {
    let detail = "too many large bodies are being received at once; try again in 5 seconds";
    ApiError::new(problem::OVERLOADED, detail)
        .with_header(RETRY_AFTER, HeaderValue::from_static("5"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::StatusCode;

    use super::*;

    fn body(frames: Vec<usize>) -> Body {
        let frames = frames.into_iter().map(|n| Ok::<_, std::io::Error>(vec![b'a'; n]));
        Body::from_stream(stream::iter(frames))
    }

    fn status(refusal: &ApiError) -> StatusCode {
        StatusCode::from_u16(refusal.problem().status).unwrap()
    }

    #[tokio::test]
    async fn a_large_body_reserves_memory_and_releases_it() {
        let budget = BodyBudget::default();
        let (bytes, held) = read(body(vec![FREE]), &budget).await.unwrap();
        assert_eq!((bytes.len(), held.is_none()), (FREE, true));
        let (bytes, held) = read(body(vec![1000, FREE, 1000]), &budget).await.unwrap();
        assert_eq!(bytes.len(), FREE + 2000);
        assert_eq!(budget.0.available_permits(), BUDGET - 2000);
        drop(held);
        assert_eq!(budget.0.available_permits(), BUDGET);
    }

    #[tokio::test]
    async fn a_body_over_budget_is_refused_and_a_small_one_is_not() {
        let budget = BodyBudget(Arc::new(Semaphore::new(10)));
        let refusal = read(body(vec![FREE, 11]), &budget).await.unwrap_err();
        assert_eq!(status(&refusal), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(budget.0.available_permits(), 10);
        read(body(vec![FREE]), &budget).await.unwrap();
    }

    #[tokio::test]
    async fn more_than_a_mebibyte_is_413_with_or_without_a_content_length() {
        let refusal = read(body(vec![MAX_BODY, 1]), &BodyBudget::default()).await.unwrap_err();
        assert_eq!(status(&refusal), StatusCode::PAYLOAD_TOO_LARGE);
        let said = Body::from(vec![b'a'; MAX_BODY + 1]);
        let refusal = read(said, &BodyBudget(Arc::new(Semaphore::new(0)))).await.unwrap_err();
        assert_eq!(status(&refusal), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
