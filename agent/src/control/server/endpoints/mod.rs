//! What a host can be asked, one file per endpoint.

mod acknowledge;
mod desired_state;
mod log;
mod reports;

use std::sync::Arc;

use http::Method;
use tokio_util::sync::CancellationToken;

use super::router::Router;
use crate::ports::{ContainerLogs, CurrentContainers, DesiredStateSink, Outbox};

/// What the endpoints work with.
pub struct Parts<I, O, L, C> {
    pub sink: Arc<I>,
    pub outbox: Arc<O>,
    pub logs: L,
    pub containers: C,
    /// Streams end with it.
    pub stop: CancellationToken,
}

/// The endpoints of a host.
pub fn routes<I, O, L, C>(parts: Parts<I, O, L, C>) -> Router
where
    I: DesiredStateSink,
    O: Outbox,
    L: ContainerLogs,
    C: CurrentContainers,
{
    let Parts { sink, outbox, logs, containers, stop } = parts;
    let reports = reports::endpoint(Arc::clone(&outbox), stop.clone());
    Router::default()
        .route(Method::PUT, "/v1/desired-state", desired_state::endpoint(sink))
        .route(Method::GET, "/v1/reports", reports)
        .route(Method::POST, "/v1/reports/ack", acknowledge::endpoint(outbox))
        .route(Method::GET, "/v1/deployments/{id}/log", log::endpoint(logs, containers, stop))
}
