//! The three endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::api::problem::{MEDIA_TYPE, Problem};
use buddo_shared::report::Acknowledge;
use buddo_shared::signed::{MAX_ENVELOPE, VerifyError};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::reports;
use crate::ports::{DesiredStateSink, Outbox, Refusal};

/// How long the body of a request may take.
const BODY_DEADLINE: Duration = Duration::from_mins(1);

/// The largest acknowledgement, in bytes.
const MAX_ACKNOWLEDGE: usize = 1_024;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Answers requests of peers that TLS let in.
#[derive(Debug)]
pub(super) struct Handler<I, O> {
    intake: Arc<I>,
    outbox: Arc<O>,
    stop: CancellationToken,
    /// Only one document at a time is in memory.
    document: Mutex<()>,
}

impl<I: DesiredStateSink, O: Outbox> Handler<I, O> {
    pub(super) fn new(intake: Arc<I>, outbox: Arc<O>, stop: CancellationToken) -> Self {
        Self { intake, outbox, stop, document: Mutex::new(()) }
    }

    pub(super) async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        let answered = match (request.method(), request.uri().path()) {
            (&Method::PUT, "/v1/desired-state") => self.desired_state(request).await,
            (&Method::GET, "/v1/reports") => self.reports(request.uri().query()).await,
            (&Method::POST, "/v1/reports/ack") => self.acknowledge(request).await,
            _ => Err(problem(
                StatusCode::NOT_FOUND,
                "no_such_endpoint",
                "Not found",
                "there is no such endpoint on a host",
            )),
        };
        answered.unwrap_or_else(|problem| {
            tracing::warn!(%peer, code = problem.code, reason = problem.detail, "refused");
            let status = StatusCode::from_u16(problem.status);
            json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), MEDIA_TYPE, &problem)
        })
    }

    async fn desired_state(&self, request: Request<Incoming>) -> Result<Answer, Box<Problem>> {
        let media_type = request.headers().get(header::CONTENT_TYPE);
        if media_type.is_none_or(|value| value != "application/jose+json") {
            return Err(problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "wrong_media_type",
                "Unsupported media type",
                "a document must be sent as application/jose+json",
            ));
        }
        let _one = self.document.lock().await;
        let envelope = body(request.into_body(), MAX_ENVELOPE).await?;
        let accepted = self.intake.offer(envelope).await.map_err(|refusal| refused(&refusal))?;
        Ok(json(StatusCode::OK, "application/json", &accepted))
    }

    async fn reports(&self, query: Option<&str>) -> Result<Answer, Box<Problem>> {
        let after = query
            .unwrap_or_default()
            .split('&')
            .find_map(|pair| pair.strip_prefix("after="))
            .map_or(Ok(0), str::parse)
            .map_err(|_| malformed("the query's `after` is not a sequence number"))?;
        self.outbox.resume(after).await.map_err(|error| {
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_read",
                "Not read",
                format!("reports cannot be read: {}", chain(&error)),
            )
        })?;
        let body = reports::stream(Arc::clone(&self.outbox), after, self.stop.clone());
        Ok(answer(StatusCode::OK, "application/x-ndjson", body))
    }

    async fn acknowledge(&self, request: Request<Incoming>) -> Result<Answer, Box<Problem>> {
        let body = body(request.into_body(), MAX_ACKNOWLEDGE).await?;
        let Acknowledge { through } = serde_json::from_slice(&body)
            .map_err(|_| malformed("the body is not an acknowledgement: {\"through\": SEQ}"))?;
        self.outbox.acknowledge(through).await.map_err(|error| {
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_stored",
                "Not stored",
                format!("the acknowledgement could not be stored: {}", chain(&error)),
            )
        })?;
        let mut answer = answer(StatusCode::NO_CONTENT, "application/json", Full::default());
        answer.headers_mut().remove(header::CONTENT_TYPE);
        Ok(answer)
    }
}

/// Reads a body of at most `limit` bytes, within its deadline.
async fn body(body: Incoming, limit: usize) -> Result<Bytes, Box<Problem>> {
    // Refused by its declared size: not one byte is read of a body that is too large.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let read = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(malformed("the body was cut off")),
        Err(_) => Err(problem(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "Timeout",
            format!("the body did not come within {} s", BODY_DEADLINE.as_secs()),
        )),
    }
}

fn problem(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Box<Problem> {
    Box::new(Problem::new(status.as_u16(), code, title, detail))
}

fn malformed(detail: &str) -> Box<Problem> {
    problem(StatusCode::BAD_REQUEST, "malformed_request", "Malformed request", detail)
}

fn too_large(limit: usize) -> Box<Problem> {
    let detail = format!("the body has more than {limit} bytes");
    problem(StatusCode::PAYLOAD_TOO_LARGE, "document_too_large", "Too large", detail)
}

/// A refused document, in the form that the coordinator reads.
fn refused(refusal: &Refusal) -> Box<Problem> {
    let (status, code) = match refusal {
        Refusal::Unverified(error @ VerifyError::TooLarge(_)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, error.code())
        }
        Refusal::Unverified(error) => (StatusCode::UNPROCESSABLE_ENTITY, error.code()),
        Refusal::Stale { .. } => (StatusCode::CONFLICT, "stale_generation"),
        Refusal::Conflict(_) => (StatusCode::CONFLICT, "generation_conflict"),
        Refusal::Expired { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "expired"),
        Refusal::IssuedInFuture { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "issued_in_future"),
        Refusal::Trust(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_trust"),
        Refusal::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_stored"),
    };
    problem(status, code, "The document is not accepted", chain(refusal))
}

fn json(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => answer(status, media_type, Full::new(Bytes::from(text))),
        // None of our own types fails; an empty 500 is still an answer.
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, media_type, Full::default()),
    }
}

fn answer<B>(status: StatusCode, media_type: &'static str, body: B) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut answer = Response::new(body.map_err(io::Error::other).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}
