//! The document in force.

use buddo_shared::id::Generation;
use buddo_shared::image::Digest;
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use super::{Store, StoreError};

/// The stored document: its signed bytes and what acceptance needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The envelope as it came.
    pub envelope: Vec<u8>,
    /// Its place in the order.
    pub generation: Generation,
    /// `sha256:` of its payload.
    pub digest: Digest,
    /// Wall time is never earlier than this.
    pub floor: Timestamp,
}

impl Store {
    /// Makes `held` the document in force. On disk when this returns.
    pub async fn put_document(&self, held: Held) -> Result<(), StoreError> {
        self.call("store the document", move |connection| {
            connection
                .execute(
                    "INSERT INTO document (only_one, envelope, epoch, generation, digest, floor)
                     VALUES (1, ?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (only_one) DO UPDATE SET envelope = ?1, epoch = ?2,
                       generation = ?3, digest = ?4, floor = max(floor, ?5)",
                    rusqlite::params![
                        held.envelope,
                        held.generation.epoch.to_string(),
                        held.generation.generation.to_string(),
                        held.digest.as_str(),
                        held.floor.as_second(),
                    ],
                )
                .map(drop)
        })
        .await
    }

    /// The document in force, if one was ever accepted.
    pub async fn document(&self) -> Result<Option<Held>, StoreError> {
        type Row = (Vec<u8>, String, String, String, i64);
        let row: Option<Row> = self
            .call("read the document", |connection| {
                connection
                    .query_row(
                        "SELECT envelope, epoch, generation, digest, floor FROM document",
                        [],
                        |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)),
                    )
                    .optional()
            })
            .await?;
        row.map(|(envelope, epoch, generation, digest, floor)| {
            Ok(Held {
                envelope,
                generation: Generation {
                    epoch: epoch.parse().map_err(malformed)?,
                    generation: generation.parse().map_err(malformed)?,
                },
                digest: Digest::parse(&digest).map_err(malformed)?,
                floor: Timestamp::from_second(floor).map_err(malformed)?,
            })
        })
        .transpose()
    }
}

fn malformed(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Malformed { what: "document", source: Box::new(source) }
}
