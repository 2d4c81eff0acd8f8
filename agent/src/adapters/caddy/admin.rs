//! Caddy's admin API on its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

/// A load waits for the old configuration's listeners, and with thousands of sites takes seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why a request to the admin API failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot connect to Caddy's admin socket {0}; is Caddy running?")]
    Connect(PathBuf, #[source] std::io::Error),
    /// The connection broke off.
    #[error("Caddy closed the connection to its admin socket")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer in time.
    #[error("Caddy's admin socket did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// Caddy rejected the configuration, with its message. The previous one stays in force.
    #[error("Caddy refuses the configuration: {0}")]
    Refused(String),
    /// An undocumented answer.
    #[error("Caddy's admin socket answered {status}: {message}")]
    Unexpected { status: u16, message: String },
}

/// A client of one Caddy.
#[derive(Debug, Clone)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    /// Talks to the admin API at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Adapts and loads a Caddyfile. If it is already running, Caddy reloads nothing.
    pub async fn load(&self, caddyfile: &str) -> Result<(), AdminError> {
        let body = Bytes::copy_from_slice(caddyfile.as_bytes());
        let (status, answer) = self.call(Method::POST, "/load", Some(body)).await?;
        match status {
            StatusCode::OK => Ok(()),
            StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => {
                Err(AdminError::Refused(words(&answer)))
            }
            _ => Err(AdminError::Unexpected { status: status.as_u16(), message: words(&answer) }),
        }
    }

    /// Whether Caddy answers at all.
    pub async fn ping(&self) -> Result<(), AdminError> {
        let (status, answer) = self.call(Method::GET, "/config/admin", None).await?;
        match status {
            StatusCode::OK => Ok(()),
            _ => Err(AdminError::Unexpected { status: status.as_u16(), message: words(&answer) }),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &'static str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes), AdminError> {
        tokio::time::timeout(DEADLINE, self.exchange(method, path, body))
            .await
            .unwrap_or(Err(AdminError::Deadline(DEADLINE)))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &'static str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes), AdminError> {
        let exchange = |error: hyper::Error| AdminError::Exchange(Box::new(error));
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| AdminError::Connect(self.socket.clone(), error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(exchange)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            // 2.6.2 answers 403 on a Unix socket unless this is empty; if it is missing, 400.
            .header(header::HOST, HeaderValue::from_static(""))
            .header(header::CONTENT_TYPE, "text/caddyfile")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| AdminError::Exchange(Box::new(error)))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(exchange)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(AdminError::Exchange)?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(connection);
        tokio::pin!(answer);
        // Both in this task: when the deadline drops it, the connection closes.
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended.map_err(exchange)?;
                answer.await
            }
        }
    }
}

/// `{"error": "…"}`, or the start of whatever came, on one line.
fn words(answer: &Bytes) -> String {
    #[derive(Deserialize)]
    struct Words {
        error: String,
    }
    let text = serde_json::from_slice::<Words>(answer)
        .map_or_else(|_| String::from_utf8_lossy(answer).into_owned(), |words| words.error);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(1_000).collect()
}
