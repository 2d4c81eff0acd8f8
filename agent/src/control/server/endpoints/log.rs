//! `GET /v1/deployments/{id}/log?tail=N&follow=true`: lines of the deployment's current container.
//!
//! A line is read from Podman when the one before it was sent; one that waits for a reader costs
//! nobody anything but that reader's stream.

use std::io;
use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::log::{LogLine, MAX_TAIL};
use buddo_shared::model::id::DeploymentId;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::control::server::answer::{Answer, Refused, answer, malformed, problem};
use crate::control::server::router::{Call, Endpoint};
use crate::ports::{ContainerLogs, ContainersError, CurrentContainers};

/// Logs read at once, by all coordinators: Podman's service has a thread for each follower.
const MAX_READERS: usize = 64;

/// Lines sent in one piece, if they are there already.
const TOGETHER: usize = 32;

/// Lines from the past if the reader does not say.
const TAIL: u32 = 100;

struct Logs<L, C> {
    source: L,
    containers: C,
    readers: Arc<Semaphore>,
    stop: CancellationToken,
}

pub(super) fn endpoint<L: ContainerLogs, C: CurrentContainers>(
    source: L,
    containers: C,
    stop: CancellationToken,
) -> impl Endpoint {
    let readers = Arc::new(Semaphore::new(MAX_READERS));
    let logs = Arc::new(Logs { source, containers, readers, stop });
    move |call| open(Arc::clone(&logs), call)
}

async fn open<L: ContainerLogs, C: CurrentContainers>(
    logs: Arc<Logs<L, C>>,
    call: Call,
) -> Result<Answer, Refused> {
    let id: DeploymentId = call
        .parameter("id")
        .parse()
        .map_err(|_| malformed("the path does not name a deployment by its id"))?;
    let tail = call.query("tail").map_or(Ok(TAIL), str::parse).ok().filter(|n| *n <= MAX_TAIL);
    let tail = tail.ok_or_else(|| {
        malformed(&format!("the query's `tail` is not a number of lines up to {MAX_TAIL}"))
    })?;
    let follow = match call.query("follow") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(malformed("the query's `follow` is neither true nor false")),
    };
    let none = || {
        let detail = "the host has no container of this deployment";
        problem(StatusCode::NOT_FOUND, "no_container", "No container", detail)
    };
    let container = logs.containers.current(id).ok_or_else(none)?;
    let reader = Arc::clone(&logs.readers).try_acquire_owned().map_err(|_| {
        let detail = format!("{MAX_READERS} logs are being read on this host; try again later");
        problem(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", "Too many readers", detail)
    })?;
    let lines = match logs.source.log(&container, tail, follow).await {
        Ok(lines) => lines,
        // Removed since the last pass.
        Err(ContainersError::NotFound(_)) => return Err(none()),
        Err(error) => {
            let detail = format!("the log cannot be read: {}", chain(&error));
            return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "not_read", "Not read", detail));
        }
    };
    let pieces = Box::pin(lines).ready_chunks(TOGETHER).flat_map(move |lines| {
        let _reading = &reader;
        stream::iter(pieces(lines))
    });
    let pieces = pieces.take_until(logs.stop.clone().cancelled_owned());
    Ok(answer(StatusCode::OK, "application/x-ndjson", StreamBody::new(Box::pin(pieces))))
}

/// The lines as one piece, and then the error that ended them.
fn pieces(lines: Vec<Result<LogLine, ContainersError>>) -> Vec<io::Result<Frame<Bytes>>> {
    let (mut text, mut failed) = (Vec::new(), None);
    for line in lines {
        let written = line.map_err(io::Error::other).and_then(|line| {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
            Ok(())
        });
        if let Err(error) = written {
            tracing::warn!(reason = %chain(&error), "a log cannot be read any further");
            failed = Some(Err(error));
            break;
        }
    }
    let text = (!text.is_empty()).then(|| Ok(Frame::data(text.into())));
    text.into_iter().chain(failed).collect()
}
