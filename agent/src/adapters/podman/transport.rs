//! HTTP/1.1 over the Unix socket: one connection per call, each with a deadline, bodies bounded.
//!
//! A connection costs 0.1 ms here; a pool could hand out a connection to a service that has
//! restarted since.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::elements::{Element, Keep, Malformed, Reader};
use super::service::{self, Silence};
use crate::ports::{ContainersError, Hindrance};
use crate::process::metrics::Metrics;

/// Concurrent calls. Podman takes a lock per container and one for its database, so more would only
/// queue there, where they cost memory.
const CONCURRENCY: usize = 32;

/// The largest answer that is read whole, in bytes. Answers whose size others decide are read by
/// [`Transport::list`] and [`Transport::object`].
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What went wrong between us and the service.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("cannot connect to {0:?}; is Podman's service running?")]
    Connect(PathBuf, #[source] std::io::Error),
    #[error("the service does not speak HTTP")]
    Handshake(#[source] hyper::Error),
    #[error("the service closed the connection")]
    Send(#[source] hyper::Error),
    #[error("the answer was cut off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is not the JSON documented for this API version")]
    Malformed(#[from] Malformed),
    #[error("the answer does not match the documentation of this API version")]
    Decode(#[source] serde_json::Error),
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// So that callers without knowledge of transports learn that Podman may be fine.
    #[error(transparent)]
    Hindered(#[from] Hindrance),
    #[error("the request could not be written")]
    Request(#[source] http::Error),
}

impl TransportError {
    /// Names the operation that it ended.
    pub(super) fn during(self, operation: &'static str) -> ContainersError {
        let source: Box<dyn std::error::Error + Send + Sync> = match self {
            Self::Hindered(hindrance) => Box::new(hindrance),
            error => Box::new(error),
        };
        ContainersError::Unavailable { operation, source }
    }
}

/// One request to be sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    pub(super) method: Method,
    /// Path and query, escaped.
    pub(super) path: String,
    pub(super) body: Option<(&'static str, Bytes)>,
    pub(super) registry_auth: Option<HeaderValue>,
    pub(super) deadline: Duration,
    /// The largest answer that is read whole, in bytes.
    pub(super) max_answer: usize,
}

impl Call {
    /// A call of the libpod API: `path` is what follows its version prefix.
    pub(super) fn libpod(operation: &'static str, method: Method, path: impl AsRef<str>) -> Self {
        Self {
            operation,
            method,
            path: format!("/v4.0.0/libpod/{}", path.as_ref()),
            body: None,
            registry_auth: None,
            deadline: Duration::from_secs(10),
            max_answer: MAX_ANSWER,
        }
    }

    pub(super) fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub(super) fn body(self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { body: Some((media_type, body.into())), ..self }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) operation: &'static str,
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// Decodes a body that is documented to be JSON.
    pub(super) fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T, ContainersError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| TransportError::Decode(error).during(self.operation))
    }

    /// Podman's error body: `{"cause", "message", "response"}`.
    pub(super) fn refusal(&self) -> ContainersError {
        ContainersError::Refused {
            operation: self.operation,
            status: self.status.as_u16(),
            message: self.message(),
        }
    }

    /// The message of an error answer, or the start of whatever was sent instead.
    pub(super) fn message(&self) -> String {
        #[derive(Deserialize)]
        struct Words {
            message: String,
        }
        let text = match serde_json::from_slice(&self.body) {
            Ok(Words { message }) => message,
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        text.trim().chars().take(1_000).collect()
    }
}

/// The result of a call for one object.
#[derive(Debug)]
pub(super) enum Told {
    /// The kept part of it.
    Object(Element),
    /// An answer with a status other than 200.
    Other(Answer),
}

/// Aborts the task that drives a connection when its user drops it.
#[derive(Debug)]
pub(super) struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where calls go out.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    socket: PathBuf,
    slots: Arc<Semaphore>,
    version: Arc<ArcSwapOption<String>>,
    metrics: Metrics,
    silence: Arc<Silence>,
}

impl Transport {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
            version: Arc::new(ArcSwapOption::empty()),
            metrics: Metrics::default(),
            silence: Arc::default(),
        }
    }

    /// The same transport, whose calls are counted.
    pub(super) fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The service's version as of its last answer. It may change while we run.
    pub(super) fn version(&self) -> Option<Arc<String>> {
        self.version.load_full()
    }

    /// Sends a call and reads the whole answer, within its deadline.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, ContainersError> {
        let (operation, deadline, most) = (call.operation, call.deadline, call.max_answer);
        let whole = async {
            let (response, _connection) = self.exchange(call).await?;
            answer(operation, response, most).await
        };
        self.within(operation, deadline, whole).await
    }

    /// Sends a call whose answer is a list, and passes its objects to `each` as they arrive, with
    /// the fields in `keep`: the whole of it within the deadline, and in bounded memory whatever
    /// its size.
    pub(super) async fn list(
        &self,
        call: Call,
        keep: &'static [Keep],
        each: impl FnMut(Element) -> Result<(), TransportError> + Send,
    ) -> Result<(), ContainersError> {
        match self.stream(call, Reader::new(keep), u64::MAX, each).await? {
            None => Ok(()),
            Some(answer) => Err(answer.refusal()),
        }
    }

    /// Sends a call whose answer is one object, and reads of it what `reader` keeps: within the
    /// deadline, and in bounded memory. An answer above `most` bytes yields nothing.
    pub(super) async fn object(
        &self,
        call: Call,
        reader: Reader,
        most: u64,
    ) -> Result<Told, ContainersError> {
        let operation = call.operation;
        let mut found = None;
        let take = |element| {
            found = Some(element);
            Ok(())
        };
        let other = self.stream(call, reader, most, take).await?;
        // The reader only succeeds after an object.
        let told = other.map(Told::Other).or(found.map(Told::Object));
        told.ok_or_else(|| TransportError::from(Malformed::CutOff).during(operation))
    }

    /// Sends a call and feeds its answer, of at most `most` bytes, to `reader` as it arrives. An
    /// answer with a status other than 200 is returned.
    async fn stream(
        &self,
        call: Call,
        mut reader: Reader,
        most: u64,
        mut each: impl FnMut(Element) -> Result<(), TransportError> + Send,
    ) -> Result<Option<Answer>, ContainersError> {
        let (operation, deadline, max_answer) = (call.operation, call.deadline, call.max_answer);
        let whole = async {
            let (response, _connection) = self.exchange(call).await?;
            if response.status() != StatusCode::OK {
                return answer(operation, response, max_answer).await.map(Some);
            }
            let mut body = response.into_body();
            let mut left = most;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| TransportError::Body(Box::new(error)))?;
                if let Some(data) = frame.data_ref() {
                    let rest = left.checked_sub(data.len() as u64);
                    left = rest.ok_or(Hindrance::TooLarge { most })?;
                    reader.feed(data, &mut each)?;
                }
            }
            reader.finish()?;
            Ok(None)
        };
        self.within(operation, deadline, whole).await
    }

    /// Runs an exchange when there is a free slot, and records how the service did.
    async fn within<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        exchange: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, ContainersError> {
        let until = Instant::now() + deadline;
        // Waiting for a slot counts, too: the caller planned with the deadline. A long wait says
        // nothing about the service, which may be busy with all the others.
        let Ok(_slot) = tokio::time::timeout_at(until, self.slots.acquire()).await else {
            self.metrics.called(operation, false);
            let crowded = Hindrance::Crowded { calls: CONCURRENCY, waited: deadline };
            return Err(TransportError::from(crowded).during(operation));
        };
        let begun = Instant::now();
        let answered = tokio::time::timeout_at(until, exchange).await;
        self.metrics.called(operation, matches!(answered, Ok(Ok(_))));
        match &answered {
            Ok(Ok(_)) => self.silence.broken(),
            // A call with hardly any time left after its wait does not prove a silent service.
            Err(_) if begun.elapsed() * 2 < deadline => {}
            Err(_) if self.silence.missed(Instant::now()) => service::end(&self.socket).await,
            // Starting a service that is down is systemd's job, unless it merely cannot be found.
            Ok(Err(TransportError::Connect(..))) if self.silence.absent(Instant::now()) => {
                service::end_absent(&self.socket).await;
            }
            Err(_) | Ok(Err(_)) => {}
        }
        answered
            .unwrap_or(Err(TransportError::Deadline(deadline)))
            .map_err(|error| error.during(operation))
    }

    /// Ends the service if it uses more than `limit_kib` KiB of memory. Returns whether it did.
    pub(super) async fn end_if_larger(&self, limit_kib: u64) -> bool {
        service::end_if_larger(&self.socket, limit_kib).await
    }

    /// Sends a call whose answer is a stream; the deadline applies to its head. The stream lives as
    /// long as the returned [`Connection`].
    pub(super) async fn open(
        &self,
        call: Call,
    ) -> Result<(http::Response<Incoming>, Connection), ContainersError> {
        let (operation, deadline) = (call.operation, call.deadline);
        tokio::time::timeout(deadline, self.exchange(call))
            .await
            .unwrap_or(Err(TransportError::Deadline(deadline)))
            .map_err(|error| error.during(operation))
    }

    async fn exchange(
        &self,
        call: Call,
    ) -> Result<(http::Response<Incoming>, Connection), TransportError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| TransportError::Connect(self.socket.clone(), error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(TransportError::Handshake)?;
        let driver = tokio::spawn(async move {
            // How it ended reaches the caller through the response or its body.
            let _ = connection.await;
        });
        let guard = Connection(driver.abort_handle());
        let request = request(call).map_err(TransportError::Request)?;
        let response = sender.send_request(request).await.map_err(TransportError::Send)?;
        self.remember_version(response.headers());
        Ok((response, guard))
    }

    fn remember_version(&self, headers: &http::HeaderMap) {
        let Some(version) = headers.get("libpod-api-version").and_then(|v| v.to_str().ok()) else {
            return;
        };
        if self.version.load().as_deref().is_none_or(|known| known != version) {
            self.version.store(Some(Arc::new(version.to_owned())));
        }
    }
}

/// Reads the whole of an answer of at most `most` bytes.
async fn answer(
    operation: &'static str,
    response: http::Response<Incoming>,
    most: usize,
) -> Result<Answer, TransportError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), most).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            TransportError::from(Hindrance::TooLarge { most: most as u64 })
        } else {
            TransportError::Body(error)
        }
    })?;
    Ok(Answer { operation, status, body: body.to_bytes() })
}

fn request(call: Call) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request =
        Request::builder().method(call.method).uri(call.path).header(header::HOST, "podman");
    if let Some(auth) = call.registry_auth {
        request = request.header("x-registry-auth", auth);
    }
    match call.body {
        Some((media_type, body)) => {
            request.header(header::CONTENT_TYPE, media_type).body(Full::new(body))
        }
        None => request.body(Full::default()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixListener;

    use super::*;

    fn ping(deadline: Duration) -> Call {
        Call::libpod("ping", Method::GET, "_ping").deadline(deadline)
    }

    #[tokio::test]
    async fn an_absent_service_is_unavailable_and_the_error_names_its_socket() {
        let transport = Transport::new(PathBuf::from("/nonexistent/podman.sock"));
        let error = transport.call(ping(Duration::from_secs(1))).await.unwrap_err();
        let ContainersError::Unavailable { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("/nonexistent/podman.sock"), "{source}");
    }

    /// All slots are taken by calls with long deadlines, such as pulls and starts.
    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_slot_counts_towards_the_deadline() {
        let transport = Transport::new(PathBuf::from("/nonexistent/podman.sock"));
        let taken = transport.slots.acquire_many(u32::try_from(CONCURRENCY).unwrap()).await;
        let begun = Instant::now();
        let call = transport.call(ping(Duration::from_secs(3)));
        let error = tokio::time::timeout(Duration::from_secs(30), call).await;
        let error = error.expect("it waits for ever").unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
        let ContainersError::Unavailable { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("32 earlier calls"), "{source}");
        drop(taken);
        let error = transport.call(ping(Duration::from_secs(3))).await.unwrap_err();
        let ContainersError::Unavailable { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("cannot connect"), "the place is free again: {source}");
    }

    /// `fm_23`: a service that accepts and then hangs ends in a deadline, not in an endless wait.
    #[tokio::test]
    async fn fm_23_a_call_to_a_hanging_service_ends_at_its_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sink = Vec::new();
            // Ends only when the client hangs up, which is what the guard must do.
            stream.read_to_end(&mut sink).await.unwrap();
        });
        let transport = Transport::new(socket);
        let error = transport.call(ping(Duration::from_millis(50))).await.unwrap_err();
        assert!(matches!(error, ContainersError::Unavailable { operation: "ping", .. }));
        tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    }

    /// A call that waited for its slot has the rest of its time, not all of it again; and that it
    /// was not answered in that says nothing about the service.
    #[tokio::test(start_paused = true)]
    async fn after_waiting_for_a_slot_a_call_has_only_its_remaining_time() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        // It accepts connections, and is silent.
        let _listener = UnixListener::bind(&socket).unwrap();
        let transport = Transport::new(socket);
        for _ in 0..2 {
            let begun = Instant::now();
            let taken = transport.slots.acquire_many(u32::try_from(CONCURRENCY).unwrap()).await;
            let free = async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(taken);
            };
            let (called, ()) = tokio::join!(transport.call(ping(Duration::from_secs(3))), free);
            called.unwrap_err();
            assert_eq!(begun.elapsed(), Duration::from_secs(3));
        }
        assert!(!transport.silence.missed(Instant::now()), "it would be ended for that");
    }
}
