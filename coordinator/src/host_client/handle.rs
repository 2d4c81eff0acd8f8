//! Calls to one connected host.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use buddo_shared::api::problem::Problem;
use buddo_shared::host_wire::connection::{MAX_CALLS, MAX_PUSHES};
use buddo_shared::model::id::HostId;
use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::SendRequest;
use http::header::{CONTENT_LENGTH, DATE};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::CallError;
use super::response::ResponseBody;
use super::upload::Upload;
use crate::domain::failure::one_line;
use crate::process::metrics::{Metrics, Present};

/// The body of a request: sent piece by piece, as the host takes it.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Reads in progress at once on one host.
pub(super) const MAX_READS: u32 = MAX_CALLS - MAX_PUSHES;
/// How long a call may wait for another to end. A reader that waits longer had better try again:
/// what is in progress then does not end soon.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Maximum bytes read of a refusal.
const MAX_REFUSAL: usize = 64 * 1024;
/// Maximum characters kept of one.
const MAX_WORDS: usize = 500;

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the call to the head of the answer, waiting for a permit and most of the upload
    /// included.
    pub head: Duration,
    /// Between two pieces of either body; `None`: as long as the connection lives, which is pinged.
    pub idle: Option<Duration>,
}

/// Why a connection has ended, once it has.
#[derive(Debug, Clone)]
pub(super) struct Ended(watch::Sender<Option<String>>);

impl Ended {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// The first reason counts.
    pub(super) fn because(&self, why: impl FnOnce() -> String) {
        self.0.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(why());
            }
            first
        });
    }

    pub(super) fn why(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Waits until it has, and says why.
    pub(super) async fn wait(&self) -> String {
        let mut ended = self.0.subscribe();
        let why = ended.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}

/// What a call holds of the limits, for as long as it is in progress.
#[derive(Debug)]
pub(super) struct Permits {
    _of_host: OwnedSemaphorePermit,
    _of_all: Option<OwnedSemaphorePermit>,
    _counted: Present,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) host: HostId,
    pub(super) authority: Authority,
    pub(super) sender: SendRequest<Bytes>,
    pub(super) since: Timestamp,
    pub(super) reads: Arc<Semaphore>,
    pub(super) pushes: Arc<Semaphore>,
    /// Of all hosts.
    pub(super) all_reads: Arc<Semaphore>,
    pub(super) ended: Ended,
    /// The agent's time in its last answer.
    pub(super) date: Mutex<Option<Timestamp>>,
    pub(super) metrics: Metrics,
}

/// A connected host. Clones share the connection, which lives as long as its session keeps it.
#[derive(Debug, Clone)]
pub struct HostHandle(pub(super) Arc<Shared>);

impl HostHandle {
    pub fn host(&self) -> HostId {
        self.0.host
    }

    /// When it was connected.
    pub fn since(&self) -> Timestamp {
        self.0.since
    }

    /// Reads from the host: sends `request`, whose URI is a path, and returns the answer as soon as
    /// its head is there. Dropping the future or the answer's body ends the call on the host, too.
    pub async fn call(
        &self,
        operation: &'static str,
        request: Request<RequestBody>,
        deadlines: Deadlines,
    ) -> Result<Response<ResponseBody>, CallError> {
        let begun = Instant::now();
        let within = MAX_WAIT.min(deadlines.head);
        let permits = async {
            // The host's first: one host's readers must not wait with permits that others need.
            let of_host = Arc::clone(&self.0.reads).acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.0.all_reads).acquire_owned().await.ok()?;
            Some((of_host, of_all))
        };
        let Ok(Some((of_host, of_all))) = timeout(within, permits).await else {
            return Err(CallError::Busy { operation, within });
        };
        let counted = self.0.metrics.host_call("read");
        let permits = Permits { _of_host: of_host, _of_all: Some(of_all), _counted: counted };
        self.exchange(operation, request, deadlines, begun, permits).await
    }

    /// The same with one of the permits that no reader can take.
    pub(super) async fn push(
        &self,
        operation: &'static str,
        request: Request<RequestBody>,
        deadlines: Deadlines,
    ) -> Result<Response<ResponseBody>, CallError> {
        let begun = Instant::now();
        let within = MAX_WAIT.min(deadlines.head);
        let permit = timeout(within, Arc::clone(&self.0.pushes).acquire_owned()).await;
        let Ok(Ok(of_host)) = permit else { return Err(CallError::Busy { operation, within }) };
        let counted = self.0.metrics.host_call("push");
        let permits = Permits { _of_host: of_host, _of_all: None, _counted: counted };
        self.exchange(operation, request, deadlines, begun, permits).await
    }

    async fn exchange(
        &self,
        operation: &'static str,
        request: Request<RequestBody>,
        deadlines: Deadlines,
        begun: Instant,
        permits: Permits,
    ) -> Result<Response<ResponseBody>, CallError> {
        let until = begun + deadlines.head;
        let late = CallError::Deadline { operation, within: deadlines.head };
        let answered = timeout_at(until, self.send(operation, request, deadlines, permits)).await;
        let answer = answered.unwrap_or(Err(late))?;
        if let Some(date) = date_of(&answer) {
            *self.0.date.lock().unwrap_or_else(PoisonError::into_inner) = Some(date);
        }
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let words = Limited::new(answer.into_body(), MAX_REFUSAL).collect();
        let words = timeout(deadlines.head, words).await;
        let words = words.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        let problem: Option<Problem> = words.and_then(|words| serde_json::from_slice(&words).ok());
        let (code, detail) = problem
            .map(|p| (one_line(&p.code, MAX_WORDS), one_line(&p.detail, MAX_WORDS)))
            .unwrap_or_default();
        Err(CallError::Refused { operation, status, code, detail })
    }

    async fn send(
        &self,
        operation: &'static str,
        request: Request<RequestBody>,
        deadlines: Deadlines,
        permits: Permits,
    ) -> Result<Response<ResponseBody>, CallError> {
        if let Some(why) = self.0.ended.why() {
            return Err(CallError::NotConnected { since: None, why });
        }
        let broken = |source| CallError::broken(operation, source, self.0.ended.why());
        let (request, body) = self.addressed(operation, request)?;
        let whole = body.is_end_stream();
        let mut sender = self.0.sender.clone().ready().await.map_err(broken)?;
        let (mut answer, stream) = sender.send_request(request, whole).map_err(broken)?;
        let mut upload = (!whole).then(|| Upload::start(body, stream, deadlines.idle));
        let answer = poll_fn(|cx| {
            let answer = answer.poll_unpin(cx);
            // Where the upload failed, the stream was reset for it, after the reason was told.
            match upload.as_mut().map(|upload| upload.poll_failed(operation, cx)) {
                Some(Poll::Ready(error)) => Poll::Ready(Err(error)),
                Some(Poll::Pending) | None => answer.map(|answer| answer.map_err(broken)),
            }
        });
        let answer = answer.await?;
        let ended = self.0.ended.clone();
        Ok(answer.map(|body| ResponseBody::new(operation, body, deadlines, ended, upload, permits)))
    }

    /// The request with the host's name and the length of its body, if that is known.
    fn addressed(
        &self,
        operation: &'static str,
        request: Request<RequestBody>,
    ) -> Result<(Request<()>, RequestBody), CallError> {
        let (mut head, body) = request.into_parts();
        let mut uri = std::mem::take(&mut head.uri).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTPS), Some(self.0.authority.clone()));
        head.uri = Uri::from_parts(uri)
            .map_err(|error| CallError::Request { operation, source: error.into() })?;
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok((Request::from_parts(head, ()), body))
    }
}

fn date_of<B>(answer: &Response<B>) -> Option<Timestamp> {
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}
