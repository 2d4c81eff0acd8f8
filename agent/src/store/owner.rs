//! Under which identity the rest was written.

use buddo_shared::id::HostId;
use rusqlite::OptionalExtension as _;

use super::{Store, StoreError};

impl Store {
    /// Makes the database that of `host`; true if it was another host's. Then the document and
    /// the reports of that identity are forgotten: the next coordinator counts documents from the
    /// start, and has been told nothing. What is known of containers stays, as they do.
    pub async fn belong_to(&self, host: HostId) -> Result<bool, StoreError> {
        self.call("take up this host's identity", move |connection| {
            let host = host.to_string();
            let transaction = connection.transaction()?;
            let owner: Option<String> =
                transaction.query_row("SELECT host FROM owner", [], |row| row.get(0)).optional()?;
            if owner.as_ref() == Some(&host) {
                return Ok(false);
            }
            let other = owner.is_some();
            if other {
                transaction.execute_batch(
                    "DELETE FROM document; DELETE FROM reports; DELETE FROM reported;",
                )?;
            }
            transaction.execute(
                "INSERT INTO owner (only_one, host) VALUES (1, ?1)
                 ON CONFLICT (only_one) DO UPDATE SET host = ?1",
                [host],
            )?;
            transaction.commit()?;
            Ok(other)
        })
        .await
    }
}
