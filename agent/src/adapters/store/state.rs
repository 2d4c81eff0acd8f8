//! What must survive the agent, per workload.

use std::collections::BTreeMap;

use super::{Store, StoreError};
use crate::model::persisted::Persisted;
use crate::model::workload::WorkloadId;

/// Workloads whose persisted state changed; `None`: forget it.
pub type Changes = BTreeMap<WorkloadId, Option<Persisted>>;

impl Store {
    /// Writes all `changes` in one transaction.
    pub async fn save(&self, changes: Changes) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(changes.len());
        for (id, state) in changes {
            let state = state.map(|state| serde_json::to_string(&state)).transpose();
            rows.push((id.to_string(), state.map_err(malformed)?));
        }
        self.call("store the workloads' state", move |connection| {
            let transaction = connection.transaction()?;
            for (id, state) in &rows {
                match state {
                    Some(state) => transaction.execute(
                        "INSERT INTO workloads (id, state) VALUES (?1, ?2)
                         ON CONFLICT (id) DO UPDATE SET state = ?2",
                        (id, state),
                    )?,
                    None => transaction.execute("DELETE FROM workloads WHERE id = ?1", [id])?,
                };
            }
            transaction.commit()
        })
        .await
    }

    /// All that was saved.
    pub async fn workloads(&self) -> Result<BTreeMap<WorkloadId, Persisted>, StoreError> {
        let rows: Vec<(String, String)> = self
            .call("read the workloads' state", |connection| {
                let mut statement = connection.prepare("SELECT id, state FROM workloads")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect()
            })
            .await?;
        rows.into_iter()
            .map(|(id, state)| {
                let id = id.parse().map_err(malformed)?;
                Ok((id, serde_json::from_str(&state).map_err(malformed)?))
            })
            .collect()
    }
}

fn malformed(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Malformed { what: "workload state", source: Box::new(source) }
}
