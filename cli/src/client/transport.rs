//! One request, one bounded answer. Deadlines and retries are only here.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use buddo_shared::api::oauth::OAuthError;
use buddo_shared::api::problem::Problem;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, redirect};
use serde::de::DeserializeOwned;

use super::error::{ClientError, classify};
use crate::config::ApiUrl;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Upper bound on a requested pause: a person is waiting for the answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A page of 100 deployments is about 100 kB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Repeating is safe: reads, and creates with an `Idempotency-Key`.
    Harmless,
    /// Only while nothing was sent.
    BeforeSending,
}

/// An answer with a success status.
#[derive(Debug)]
pub(super) struct Answer {
    url: String,
    pub(super) headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| ClientError::Decode { url: self.url.clone(), source })
    }
}

/// A connection pool to one API.
pub(super) struct Transport {
    url: ApiUrl,
    client: Client,
}

impl Transport {
    /// Trusts the system's roots and the PEM certificates in `ca`.
    pub(super) fn new(url: ApiUrl, ca: Option<&[u8]>) -> Result<Self, ClientError> {
        let mut builder = Client::builder()
            .user_agent(concat!("buddo/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_DEADLINE)
            // A redirect would carry passwords and tokens to an address that nobody gave.
            .redirect(redirect::Policy::none())
            // reqwest's own retries would hide whether a request was sent.
            .retry(reqwest::retry::never());
        if url.is_loopback() {
            // A proxy cannot reach this machine's loopback.
            builder = builder.no_proxy();
        }
        if let Some(pem) = ca {
            let roots = Certificate::from_pem_bundle(pem).map_err(|e| ClientError::Ca(Some(e)))?;
            if roots.is_empty() {
                return Err(ClientError::Ca(None));
            }
            builder = builder.tls_certs_merge(roots);
        }
        Ok(Self { url, client: builder.build().map_err(ClientError::Setup)? })
    }

    /// Where the API is.
    pub(super) fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// A request to `path`.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url.join(path))
    }

    /// Sends what `make` builds until there is an answer or `retry` forbids another try: at most
    /// four times, with growing, jittered pauses, or those the API asks for.
    pub(super) async fn send(
        &self,
        retry: Retry,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, ClientError> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(3)
            .with_jitter();
        let may_repeat = |error: &ClientError| match retry {
            Retry::Harmless => error.is_transient(),
            Retry::BeforeSending => error.is_before_sending(),
        };
        let as_asked = |error: &ClientError, pause: Option<Duration>| {
            let asked = error.retry_after().unwrap_or_default().min(LONGEST_PAUSE);
            pause.map(|pause| pause.max(asked))
        };
        (|| self.send_once(make())).retry(pauses).when(may_repeat).adjust(as_asked).await
    }

    async fn send_once(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let response =
            request.timeout(ANSWER_DEADLINE).send().await.map_err(|e| self.classify(e))?;
        let mut response = self.good(response).await?;
        let headers = std::mem::take(response.headers_mut());
        let body = self.body(response).await?;
        Ok(Answer { url: self.url.as_str().to_owned(), headers, body })
    }

    /// Sends a request whose answer never ends; its status is checked, its body is the caller's.
    pub(super) async fn open(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let sent = tokio::time::timeout(ANSWER_DEADLINE, request.send()).await;
        let response =
            sent.map_err(|_| self.late(ANSWER_DEADLINE))?.map_err(|error| self.classify(error))?;
        self.good(response).await
    }

    /// The error for a server that stays silent.
    pub(super) fn late(&self, after: Duration) -> ClientError {
        ClientError::Timeout { url: self.url.as_str().to_owned(), after }
    }

    /// The error for what reqwest reports.
    pub(super) fn classify(&self, error: reqwest::Error) -> ClientError {
        classify(error, self.url.as_str(), ANSWER_DEADLINE)
    }

    /// Passes successful answers on and parses error answers.
    async fn good(&self, response: Response) -> Result<Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = self.url.as_str().to_owned();
        if status.is_redirection() {
            let location = response.headers().get(LOCATION);
            let to = location.and_then(|to| to.to_str().ok()).unwrap_or("nowhere").to_owned();
            return Err(ClientError::Redirect { url, to });
        }
        let retry_after = retry_after(response.headers());
        let body = tokio::time::timeout(ANSWER_DEADLINE, self.body(response))
            .await
            .map_err(|_| self.late(ANSWER_DEADLINE))??;
        if let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return Err(ClientError::Problem { problem: Box::new(problem), retry_after });
        }
        let status = status.as_u16();
        match serde_json::from_slice::<OAuthError>(&body) {
            Ok(error) => Err(ClientError::OAuth { status, error }),
            Err(_) => Err(ClientError::Unexpected { url, status, retry_after }),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.classify(e))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let url = self.url.as_str().to_owned();
                return Err(ClientError::TooLong { url, limit: MAX_ANSWER });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The delay of a `Retry-After` in seconds (RFC 9110, 10.2.3); the API sends no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
