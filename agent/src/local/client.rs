//! Queries to a running agent over its local socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;

/// An agent that takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer accepted: the document of a full host.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing answers at the socket.
    #[error("no agent answers at {path}; start it: systemctl --user start buddo-agent")]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It does not answer in time.
    #[error("the agent did not answer within {} s; see its log", DEADLINE.as_secs())]
    Deadline,
    /// The exchange broke off.
    #[error("the agent's answer broke off")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It refused; its own words.
    #[error("{0}")]
    Refused(String),
}

/// Gets `path_and_query`; returns the body of a successful answer.
pub async fn get(socket: &Path, path_and_query: &str) -> Result<Vec<u8>, AskError> {
    tokio::time::timeout(DEADLINE, exchange(socket, path_and_query))
        .await
        .map_err(|_| AskError::Deadline)?
}

async fn exchange(socket: &Path, path_and_query: &str) -> Result<Vec<u8>, AskError> {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .map_err(|source| AskError::Connect { path: socket.to_owned(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| AskError::Exchange(error.into()))?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get(path_and_query)
        .header(http::header::HOST, "agent")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| AskError::Exchange(error.into()))?;
    let answer =
        sender.send_request(request).await.map_err(|error| AskError::Exchange(error.into()))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER);
    let body = body.collect().await.map_err(AskError::Exchange)?.to_bytes().to_vec();
    drop(connection);
    if status.is_success() {
        return Ok(body);
    }
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = problem.get("detail").and_then(serde_json::Value::as_str);
    Err(AskError::Refused(
        detail.map_or_else(|| format!("the agent answered {status}"), str::to_owned),
    ))
}
