//! What the coordinator asks of an agent to keep its host up to date: documents in, reports out.

use std::time::Duration;

use buddo_shared::host_wire::report::{Accepted, Acknowledge};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};

use crate::host_client::{CallError, Connection, Deadlines, RequestBody, ResponseBody};
use crate::store::contract::DocumentRow;

/// Deadline for the answer to a call; a document may be large.
const CALL: Duration = Duration::from_secs(30);
/// Maximum bytes read of an answer.
const MAX_ANSWER: usize = 64 * 1024;

impl CallError {
    /// Whether the agent does not trust the key that signed a document.
    pub(super) fn is_unknown_key(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "unknown_key")
    }

    /// Whether the agent could not store what it received: its disk is full or failing.
    pub(super) fn is_not_stored(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "not_stored")
    }

    /// If the agent rejected a document or could not store it: why, and what an administrator
    /// should do.
    pub(super) fn refusal(&self) -> Option<String> {
        let Self::Refused { status, code, detail, .. } = self else { return None };
        if !status.is_client_error() && !self.is_not_stored() {
            return None;
        }
        let fix = match code.as_str() {
            "stale_generation" | "generation_conflict" => {
                "the host holds a newer document than this database knows, as after a restore \
                 from a backup; run `buddo-coordinator epoch raise`"
            }
            "expired" => {
                "the clocks of coordinator and host differ by a day; set both right. If they are, \
                 the host once took a document from the future: run `buddo-coordinator epoch raise`"
            }
            "issued_in_future" => {
                "the clock of the coordinator or of the host is wrong; set both right \
                 (`timedatectl`)"
            }
            "unknown_key" | "foreign_host" | "bad_signature" => {
                "the host trusts another signing key; restore signing.key from its backup, or \
                 let the host join again"
            }
            "not_stored" => {
                "the disk of the host is full or fails; make room there (`buddo-agent doctor`), \
                 and the document is taken within half a minute"
            }
            "newer_schema" => "the agent is older than the coordinator; upgrade it",
            "older_schema" => {
                "the coordinator is older than the agent; upgrade both to the same version"
            }
            _ => "read the agent's log",
        };
        Some(format!("{code}: {detail}: {fix}"))
    }
}

/// Sends a document; returns once the agent has stored it on disk.
pub(super) async fn put(connection: &Connection, document: &DocumentRow) -> Result<(), CallError> {
    let operation = "send the desired state";
    let body = Bytes::copy_from_slice(&document.envelope);
    let request =
        request(operation, Method::PUT, "/v1/desired-state", Some(APPLICATION_JOSE), body)?;
    let answer = connection.push(operation, request, Deadlines { head: CALL, idle: None }).await?;
    let bytes = read(operation, answer.into_body()).await?;
    let accepted: Accepted = serde_json::from_slice(&bytes)
        .map_err(|error| CallError::Answer { operation, source: error.into() })?;
    if accepted.generation == document.generation && accepted.digest.as_str() == document.digest {
        Ok(())
    } else {
        Err(CallError::Mismatch)
    }
}

/// Opens the stream of reports after `seq`. It may be silent for as long as nothing changes.
pub(super) async fn reports(connection: &Connection, seq: u64) -> Result<ResponseBody, CallError> {
    let operation = "open the report stream";
    let path = format!("/v1/reports?after={seq}");
    let request = request(operation, Method::GET, &path, None, Bytes::new())?;
    let answer = connection.push(operation, request, Deadlines { head: CALL, idle: None }).await?;
    Ok(answer.into_body())
}

/// Acknowledges that all reports up to `through` are committed.
pub(super) async fn acknowledge(connection: &Connection, through: u64) -> Result<(), CallError> {
    let operation = "acknowledge reports";
    let body = serde_json::to_vec(&Acknowledge { through })
        .map_err(|error| CallError::Request { operation, source: error.into() })?;
    let path = "/v1/reports/ack";
    let request = request(operation, Method::POST, path, Some("application/json"), body.into())?;
    connection.push(operation, request, Deadlines { head: CALL, idle: None }).await.map(drop)
}

const APPLICATION_JOSE: &str = "application/jose+json";

fn request(
    operation: &'static str,
    method: Method,
    path: &str,
    content_type: Option<&'static str>,
    body: Bytes,
) -> Result<Request<RequestBody>, CallError> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    request.body(body).map_err(|error| CallError::Request { operation, source: error.into() })
}

async fn read(operation: &'static str, body: ResponseBody) -> Result<Bytes, CallError> {
    let read = tokio::time::timeout(CALL, Limited::new(body, MAX_ANSWER).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(source)) => Err(CallError::Answer { operation, source }),
        Err(_) => Err(CallError::Deadline { operation, within: CALL }),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    /// Whatever an agent may say of a document, see `docs/operations.md`.
    #[test]
    fn each_refusal_of_a_document_says_what_to_do() {
        let said = |code: &str, status| {
            let (operation, detail) = ("send the desired state", "schema 1".to_owned());
            CallError::Refused { operation, status, code: code.to_owned(), detail }.refusal()
        };
        for code in [
            "stale_generation",
            "generation_conflict",
            "expired",
            "issued_in_future",
            "unknown_key",
            "foreign_host",
            "bad_signature",
            "newer_schema",
            "older_schema",
        ] {
            let said = said(code, StatusCode::UNPROCESSABLE_ENTITY).unwrap();
            assert!(!said.contains("read the agent's log"), "{said}");
        }
        let full = said("not_stored", StatusCode::INSUFFICIENT_STORAGE).unwrap();
        assert!(full.contains("make room"), "{full}");
        assert_eq!(said("busy", StatusCode::SERVICE_UNAVAILABLE), None);
    }
}
