//! The load of each host is updated with each change, in its transaction. A sweep recounts it and
//! corrects differences: the scheduler relies on it, and a database can be changed from outside.

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::HostId;

use crate::state::AppState;
use crate::store::StoreError;

/// Hosts checked per query.
const BATCH: u32 = 100;

/// Checks all hosts, and logs the findings.
pub(crate) async fn check(state: &AppState) {
    if let Err(error) = sweep(state).await {
        tracing::error!(error = %chain(&error), "cannot check the loads of hosts");
    }
}

/// Corrects wrong loads; returns the hosts concerned.
pub async fn sweep(state: &AppState) -> Result<Vec<HostId>, StoreError> {
    let mut corrected = Vec::new();
    while !state.drain.is_cancelled() {
        let wrong: Result<Vec<HostId>, StoreError> =
            state.store.read_long(|tables| tables.miscounted_hosts(BATCH)).await;
        let wrong = wrong?;
        for &id in &wrong {
            let put_right = state.store.write(move |tables| {
                let before = tables.load(id)?;
                tables.recount_load(id)?;
                Ok::<_, StoreError>((before, tables.load(id)?))
            });
            let (before, after) = put_right.await?;
            let what = "a host's load was wrong; corrected";
            tracing::error!(host = %id, ?before, ?after, "{what}");
            state.metrics.corrected_load();
        }
        let is_last = wrong.len() < BATCH as usize;
        corrected.extend(wrong);
        if is_last {
            break;
        }
    }
    Ok(corrected)
}

#[cfg(test)]
mod tests;
