//! `POST /v1/reports/ack`: reports that the coordinator has committed are forgotten.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::report::Acknowledge;
use http::StatusCode;

use crate::control::server::answer::{Answer, Refused, malformed, no_content, problem, read};
use crate::control::server::router::{Call, Endpoint};
use crate::ports::Outbox;

/// The largest acknowledgement, in bytes.
const MAX_ACKNOWLEDGE: usize = 1_024;

pub(super) fn endpoint<O: Outbox>(outbox: Arc<O>) -> impl Endpoint {
    move |call| acknowledge(Arc::clone(&outbox), call)
}

async fn acknowledge<O: Outbox>(outbox: Arc<O>, call: Call) -> Result<Answer, Refused> {
    let body = read(call.body, MAX_ACKNOWLEDGE).await?;
    let Acknowledge { through } = serde_json::from_slice(&body)
        .map_err(|_| malformed("the body is not an acknowledgement: {\"through\": SEQ}"))?;
    outbox.acknowledge(through).await.map_err(|error| {
        let detail = format!("the acknowledgement could not be stored: {}", chain(&error));
        problem(StatusCode::SERVICE_UNAVAILABLE, "not_stored", "Not stored", detail)
    })?;
    Ok(no_content())
}
