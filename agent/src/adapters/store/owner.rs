//! The identity under which the rest was written.

use buddo_shared::model::id::HostId;
use rusqlite::OptionalExtension as _;
use uuid::Uuid;

use super::{Store, StoreError};

impl Store {
    /// Assigns the database to `host` since the join `joined`; true if it belonged to another host.
    /// Then the document and the reports of that identity are forgotten: the next coordinator
    /// numbers documents from the start, and has been told nothing. The trust roots set by
    /// documents, and the time floor, are forgotten with each join, since that provides new trust.
    /// What is known of containers stays, as the containers do.
    pub async fn belong_to(&self, host: HostId, joined: Uuid) -> Result<bool, StoreError> {
        self.call("take up this host's identity", move |connection| {
            let (host, joined) = (host.to_string(), joined.to_string());
            let transaction = connection.transaction()?;
            let owner: Option<(String, String)> = transaction
                .query_row("SELECT host, joined FROM owner", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            if owner.as_ref().is_some_and(|(h, j)| (h, j) == (&host, &joined)) {
                return Ok(false);
            }
            transaction.execute("DELETE FROM trust", [])?;
            if owner.is_some() {
                transaction.execute("UPDATE document SET floor = 0", [])?;
            }
            let other = owner.is_some_and(|(before, _)| before != host);
            if other {
                transaction.execute_batch(
                    "DELETE FROM document; DELETE FROM reports; DELETE FROM reported;",
                )?;
            }
            transaction.execute(
                "INSERT INTO owner (only_one, host, joined) VALUES (1, ?1, ?2)
                 ON CONFLICT (only_one) DO UPDATE SET host = ?1, joined = ?2",
                [host, joined],
            )?;
            transaction.commit()?;
            Ok(other)
        })
        .await
    }
}
