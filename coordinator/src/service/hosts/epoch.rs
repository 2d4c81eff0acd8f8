//! The epoch of all documents. It rises after a restore from a backup: until then hosts hold newer
//! documents than the restored database knows, and refuse what it signs.

use jiff::Timestamp;
use serde_json::json;

use crate::store::{Store, StoreError, Tables};

/// Result of raising the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The new epoch.
    pub epoch: u64,
    /// How many hosts get a new document.
    pub hosts: usize,
}

/// Raises the epoch, and every host's generation with it, in one transaction that is audited.
///
/// The new epoch is at least the current time in seconds. Counting up by one would reuse an epoch
/// that hosts already know if the same backup is restored twice.
pub async fn raise(store: &Store, now: Timestamp) -> Result<Raised, StoreError> {
    store
        .write(move |tables| {
            let raised = raise_in(tables, now)?;
            let details = json!({ "epoch": raised.epoch, "hosts": raised.hosts });
            tables.insert_admin_act("epoch_raise", now, None, &details)?;
            Ok(raised)
        })
        .await
}

/// The same within the caller's transaction and audit entry.
pub(crate) fn raise_in(tables: &mut dyn Tables, now: Timestamp) -> Result<Raised, StoreError> {
    let epoch = tables.raise_epoch(u64::try_from(now.as_second()).unwrap_or(0))?;
    let hosts = tables.hosts()?;
    for host in &hosts {
        tables.bump_generation(host.id)?;
    }
    Ok(Raised { epoch, hosts: hosts.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn an_epoch_raise_makes_every_hosts_next_document_newer() {
        let world = World::new();
        let (first, _) = world.host(1, 4096).await;
        let (second, _) = world.host(2, 4096).await;
        let store = &world.state.store;
        let wanted = async |id| {
            let host = store.read(move |tables| tables.host(id)).await;
            host.map_err(|error: StoreError| error).unwrap().unwrap().wanted
        };
        let before = [wanted(first).await, wanted(second).await];
        let now = world.state.clock.now();
        let raised = raise(store, now).await.unwrap();
        assert_eq!(raised.hosts, 2);
        assert_eq!(i64::try_from(raised.epoch).unwrap(), now.as_second());
        for (id, before) in [first, second].into_iter().zip(before) {
            assert!(wanted(id).await > before);
            assert_eq!(wanted(id).await.epoch, raised.epoch);
        }
        assert_eq!(raise(store, now).await.unwrap().epoch, raised.epoch + 1, "it only rises");
    }
}
