//! The document in force.

use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::model::id::Generation;
use buddo_shared::model::image::Digest;
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use super::{Store, StoreError};

/// The stored document: its signed bytes and what acceptance needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The envelope as received.
    pub envelope: Vec<u8>,
    /// Its epoch and generation.
    pub generation: Generation,
    /// `sha256:` of its payload.
    pub digest: Digest,
    /// Wall time is never earlier than this, as long as the epoch stays and the host does not join
    /// again.
    pub floor: Timestamp,
    /// The trust roots it sets; `None`: those the host already has. What is read back may have come
    /// with an earlier document.
    pub trust: Option<Trust>,
}

impl Store {
    /// Makes `held` the document in force, and stores its trust roots in the same commit: a crash
    /// leaves both or neither. On disk when this returns.
    pub async fn put_document(&self, held: Held) -> Result<(), StoreError> {
        let trust = held.trust.as_ref().map(serde_json::to_string).transpose();
        let trust = trust.map_err(malformed)?;
        self.call("store the document", move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO document (only_one, envelope, epoch, generation, digest, floor)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (only_one) DO UPDATE SET envelope = ?1, epoch = ?2,
                   generation = ?3, digest = ?4,
                   floor = CASE epoch WHEN ?2 THEN max(floor, ?5) ELSE ?5 END",
                rusqlite::params![
                    held.envelope,
                    held.generation.epoch.to_string(),
                    held.generation.generation.to_string(),
                    held.digest.as_str(),
                    held.floor.as_second(),
                ],
            )?;
            if let Some(trust) = &trust {
                transaction.execute(
                    "INSERT INTO trust (only_one, trust) VALUES (1, ?1)
                     ON CONFLICT (only_one) DO UPDATE SET trust = ?1",
                    [trust],
                )?;
            }
            transaction.commit()
        })
        .await
    }

    /// The document in force, if one was ever accepted, with the trust roots that documents have
    /// set since the last join.
    pub async fn document(&self) -> Result<Option<Held>, StoreError> {
        type Row = (Vec<u8>, String, String, String, i64, Option<String>);
        let row: Option<Row> = self
            .call("read the document", |connection| {
                connection
                    .query_row(
                        "SELECT envelope, epoch, generation, digest, floor, trust
                         FROM document LEFT JOIN trust USING (only_one)",
                        [],
                        |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)),
                    )
                    .optional()
            })
            .await?;
        row.map(|(envelope, epoch, generation, digest, floor, trust)| {
            Ok(Held {
                envelope,
                generation: Generation {
                    epoch: epoch.parse().map_err(malformed)?,
                    generation: generation.parse().map_err(malformed)?,
                },
                digest: Digest::parse(&digest).map_err(malformed)?,
                floor: Timestamp::from_second(floor).map_err(malformed)?,
                trust: trust
                    .map(|text| serde_json::from_str(&text).map_err(malformed))
                    .transpose()?,
            })
        })
        .transpose()
    }
}

fn malformed(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Malformed { what: "document", source: Box::new(source) }
}
