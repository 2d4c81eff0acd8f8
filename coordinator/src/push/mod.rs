//! Brings signed documents to hosts and takes their reports: one task a host.

mod desired;
mod document;
mod frames;
mod link;
mod session;
mod wake;

use std::collections::HashMap;

use buddo_shared::id::HostId;
use tokio::task::{Id, JoinSet};
use tokio::time::{Duration, sleep};

pub use document::DocumentError;
#[cfg(test)]
pub(crate) use document::current as document;
pub use link::LinkError;
pub use wake::Wake;

use crate::http::problem::chain;
use crate::service::hosts;
use crate::state::AppState;

/// Until the list of hosts is read again after the database failed, or a host's task ended.
const RETRY: Duration = Duration::from_secs(1);

/// Serves all hosts until the process drains. A host that joins is served at once; a task that
/// ends before the drain (it panicked) is started again.
pub async fn run(state: AppState) {
    let mut tasks = JoinSet::new();
    let mut served: HashMap<HostId, Id> = HashMap::new();
    loop {
        let listed = hosts::list(&state.store).await;
        let retry = listed.is_err();
        match listed {
            Ok(hosts) => {
                for host in hosts {
                    served.entry(host.id).or_insert_with(|| {
                        tasks.spawn(session::serve(state.clone(), host.id)).id()
                    });
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "cannot list the hosts"),
        }
        tokio::select! {
            () = state.drain.cancelled() => break,
            () = state.wake.until_joined() => {}
            () = sleep(RETRY), if retry => {}
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                served.retain(|_, task| *task != id);
                tracing::error!("a host's task ended; it is started again");
                sleep(RETRY).await;
            }
        }
    }
    // Each task sees the drain itself.
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests;
