//! `PUT /v1/desired-state`: a signed document, answered once it is on disk.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::signed::{MAX_ENVELOPE, VerifyError};
use http::{StatusCode, header};
use tokio::sync::Mutex;

use crate::control::server::answer::{Answer, Refused, json, problem, read};
use crate::control::server::router::{Call, Endpoint};
use crate::ports::{DesiredStateSink, Refusal};

pub(super) fn endpoint<I: DesiredStateSink>(sink: Arc<I>) -> impl Endpoint {
    // Only one document at a time is in memory, whoever sends it: it may be 32 MiB.
    let one = Arc::new(Mutex::new(()));
    move |call| put(Arc::clone(&sink), Arc::clone(&one), call)
}

async fn put<I: DesiredStateSink>(
    sink: Arc<I>,
    one: Arc<Mutex<()>>,
    call: Call,
) -> Result<Answer, Refused> {
    let media_type = call.head.headers.get(header::CONTENT_TYPE);
    if media_type.is_none_or(|value| value != "application/jose+json") {
        return Err(problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "wrong_media_type",
            "Unsupported media type",
            "a document must be sent as application/jose+json",
        ));
    }
    let _one = one.lock().await;
    let envelope = read(call.body, MAX_ENVELOPE).await?;
    let accepted = sink.offer(envelope).await.map_err(|refusal| refused(&refusal))?;
    Ok(json(StatusCode::OK, "application/json", &accepted))
}

/// A refused document, in the form that the coordinator reads.
fn refused(refusal: &Refusal) -> Refused {
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
