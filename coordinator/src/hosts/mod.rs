//! The live side of hosts: one task per host keeps a connection, over which the holder of the host's
//! lease delivers signed documents and takes reports, and anybody here may read.

mod agent_api;
mod budget;
mod deployment_spec;
mod dial;
mod document;
mod document_size;
mod frames;
mod held;
mod lease;
mod pushing;
mod session;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::HostId;
#[cfg(test)]
pub(crate) use document::current as document;
use tokio::task::{Id, JoinSet};
use tokio::time::{Duration, sleep};

use self::dial::Dial;
use self::lease::{HostLeases, Instance};
use self::session::Session;
use crate::service::hosts::join;
use crate::state::AppState;
use crate::store::StoreError;
pub use document::DocumentError;

/// Delay before the list of hosts is read again after the database failed or a host's task ended.
const RETRY: Duration = Duration::from_secs(1);
/// How often to poll for acts of administrators, which happen in another process: a read of one
/// number.
const NOTICE: Duration = Duration::from_secs(3);

/// Serves all hosts until the process drains.
pub async fn run(state: AppState) {
    let claimed = Instance::claim(&state.config.state_dir, &*state.random);
    let instance = claimed.unwrap_or_else(|error| {
        let error = chain(&error);
        tracing::error!(error, "a restart will have to wait for its own leases to end");
        Instance::new(&*state.random)
    });
    let leases = Arc::new(HostLeases::new(
        state.store.clone(),
        Arc::clone(&state.random),
        state.metrics.clone(),
        instance,
        state.config.hosts.lease,
    ));
    tokio::select! {
        never = leases.keep() => match never {},
        () = serve_all(&state, &leases) => {}
    }
    // After the last push: another coordinator takes over at its next try.
    leases.release_all().await;
}

/// A host that joins is served at once; a task that ends before the drain (it panicked) is
/// restarted.
async fn serve_all(state: &AppState, leases: &Arc<HostLeases>) {
    let dial = Arc::new(Dial::new(Arc::clone(&state.random)));
    let mut tasks = JoinSet::new();
    let mut served: HashMap<HostId, Id> = HashMap::new();
    // Created outside the loop, so that no iteration postpones it. It starts from the first act:
    // one that happened between the reading of the keys and now would be missed otherwise.
    let mut acts = std::pin::pin!(next_act(state.clone(), 0));
    loop {
        let listed = join::list(&state.store).await;
        let retry = listed.is_err();
        match listed {
            Ok(hosts) => {
                state.time.set_hosts(hosts.len());
                let new = hosts.iter().filter(|host| !served.contains_key(&host.id)).count();
                for host in hosts {
                    served.entry(host.id).or_insert_with(|| {
                        let (dial, leases) = (Arc::clone(&dial), Arc::clone(leases));
                        let session = Session { state: state.clone(), dial, leases, host: host.id };
                        tasks.spawn(session::serve(session, new)).id()
                    });
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "cannot list the hosts"),
        }
        tokio::select! {
            () = state.drain.cancelled() => break,
            () = state.wake.until_joined() => {}
            () = sleep(RETRY), if retry => {}
            seen = &mut acts => {
                acts.set(next_act(state.clone(), seen));
                take_notice(state);
                for host in served.keys() {
                    state.wake.host(*host);
                }
            }
            Some(ended) = tasks.join_next_with_id() => {
                // A removed host is not listed any more, so it is not served again.
                let id = ended.map_or_else(
                    |error| {
                        tracing::error!("a host's task failed; restarting it");
                        error.id()
                    },
                    |(id, ())| id,
                );
                served.retain(|_, task| *task != id);
                sleep(RETRY).await;
            }
        }
    }
    // Each task handles the drain itself.
    while tasks.join_next().await.is_some() {}
}

/// Waits until the last act of an administrator is not `seen`. Database errors are ignored and
/// polled again.
async fn next_act(state: AppState, seen: u64) -> u64 {
    loop {
        match state.store.read(|tables| tables.last_admin_act()).await {
            Ok(last) if last != seen => return last,
            Ok(_) => {}
            Err(error) => {
                let error: StoreError = error;
                tracing::debug!(error = %chain(&error), "cannot look for acts of administrators");
            }
        }
        sleep(NOTICE).await;
    }
}

/// Keys and CAs may have been rotated; if they cannot be read now, the previous ones stay in use.
fn take_notice(state: &AppState) {
    if let Err(error) = state.keys.reload() {
        tracing::error!(error = %chain(&error), "cannot reload the signing keys");
    }
    if let Err(error) = state.ca.reload() {
        tracing::error!(error = %chain(&error), "cannot reload the host CA");
    }
}

#[cfg(test)]
mod tests;
