//! Signed documents.

use buddo_shared::model::id::{Generation, HostId};
use jiff::Timestamp;

use super::column::{get, millis, text, time, to_json};
use super::hosts::{signed, unsigned};
use super::trust::trusts;
use super::{Row, Tx, params};
use crate::store::contract::{DocumentRow, DocumentTrust, Documents, Result};

impl Documents for Tx<'_> {
    fn document(&self, host: HostId, generation: Generation) -> Result<Option<DocumentRow>> {
        let operation = "read a document";
        let sql = "SELECT * FROM documents WHERE host_id = ?1 AND epoch = ?2 AND generation = ?3";
        let params = params![
            text(&host),
            signed(operation, generation.epoch)?,
            signed(operation, generation.generation)?
        ];
        self.first(operation, sql, params, |row| {
            Ok(DocumentRow {
                generation,
                digest: get(row, "digest")?,
                envelope: get(row, "envelope")?,
                issued_at: time(row, "issued_at")?,
                expires_at: time(row, "expires_at")?,
                trust: trust(row)?,
            })
        })
    }

    fn document_mark(
        &self,
        host: HostId,
        generation: Generation,
    ) -> Result<Option<(Timestamp, Option<DocumentTrust>)>> {
        let operation = "read a document's age";
        let sql = "SELECT issued_at, signer, trust FROM documents
                   WHERE host_id = ?1 AND epoch = ?2 AND generation = ?3";
        let params = params![
            text(&host),
            signed(operation, generation.epoch)?,
            signed(operation, generation.generation)?
        ];
        self.first(operation, sql, params, |row| Ok((time(row, "issued_at")?, trust(row)?)))
    }

    fn last_document(&self, host: HostId) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT envelope FROM documents WHERE host_id = ?1
                   ORDER BY epoch DESC, generation DESC LIMIT 1";
        self.first("read the last document", sql, [text(&host)], |row| get(row, "envelope"))
    }

    fn newest_document(&self, host: HostId) -> Result<Option<Generation>> {
        let sql = "SELECT epoch, generation FROM documents WHERE host_id = ?1
                   ORDER BY epoch DESC, generation DESC LIMIT 1";
        self.first("look up the newest document", sql, [text(&host)], |row| {
            let (epoch, generation) = (get(row, "epoch")?, get(row, "generation")?);
            Ok(Generation { epoch: unsigned(epoch), generation: unsigned(generation) })
        })
    }

    fn insert_document(&mut self, host: HostId, document: &DocumentRow) -> Result<()> {
        let operation = "store a document";
        let epoch = signed(operation, document.generation.epoch)?;
        let generation = signed(operation, document.generation.generation)?;
        self.run(
            "delete older documents",
            "DELETE FROM documents WHERE host_id = ?1 AND (epoch, generation) < (?2, ?3)",
            params![text(&host), epoch, generation],
        )?;
        let sql = "INSERT INTO documents
                       (host_id, epoch, generation, digest, envelope, issued_at, expires_at,
                        signer, trust)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let trust = document.trust.as_ref();
        let params = params![
            text(&host),
            epoch,
            generation,
            document.digest,
            document.envelope,
            millis(document.issued_at),
            millis(document.expires_at),
            trust.map(|trust| &trust.signer),
            trust.map(|trust| to_json(&trust.names)).transpose()?,
        ];
        self.run(operation, sql, params).map(drop)
    }
}

fn trust(row: &Row<'_>) -> Result<Option<DocumentTrust>> {
    let signer: Option<String> = get(row, "signer")?;
    Ok(signer.zip(trusts(row, "trust")?).map(|(signer, names)| DocumentTrust { signer, names }))
}
