//! Host identities.

use buddo_shared::host_wire::renewal::HostKey;
use buddo_shared::model::id::HostId;
use jiff::Timestamp;

use super::column::{get, json, millis, opt_parsed, opt_time, text, to_json};
use super::hosts::unsigned;
use super::{Row, Tx, params};
use crate::domain::host_trust::{Issued, Trusts};
use crate::store::contract::{HostIdentities, HostIdentity, Result, StoreError};

impl HostIdentities for Tx<'_> {
    fn set_certificate(&mut self, id: HostId, issued: &Issued) -> Result<()> {
        let sql = "UPDATE hosts SET certificate_number = ?2, certificate_ca = ?3,
                       certificate_expires_at = ?4, renewal = ?5, renewed = ?6
                   WHERE id = ?1";
        let renewal = issued.renewal.as_ref();
        let params = params![
            text(&id),
            issued.number,
            issued.ca,
            millis(issued.expires_at),
            renewal.map(|(request, _)| text(request)),
            renewal.map(|(_, answer)| answer),
        ];
        self.run("record a certificate", sql, params).map(drop)
    }

    fn set_trusts(&mut self, id: HostId, trusts: &Trusts) -> Result<()> {
        let sql = "UPDATE hosts SET trusts = ?2 WHERE id = ?1";
        self.run("record what a host trusts", sql, params![text(&id), to_json(trusts)?]).map(drop)
    }

    fn lock_host(&mut self, id: HostId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE hosts SET locked_at = coalesce(locked_at, ?2) WHERE id = ?1";
        self.run("lock a host", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn remove_host(&mut self, id: HostId, at: Timestamp) -> Result<()> {
        let operation = "remove a host";
        self.run(operation, "DELETE FROM documents WHERE host_id = ?1", [text(&id)])?;
        let sql = "UPDATE hosts SET removed_at = ?2, host_key = NULL, renewal = NULL,
                       renewed = NULL, status = NULL, last_seen = NULL
                   WHERE id = ?1";
        self.run(operation, sql, params![text(&id), millis(at)]).map(drop)
    }

    fn last_admin_act(&self) -> Result<u64> {
        let sql = "SELECT coalesce(max(seq), 0) AS seq FROM admin_audit";
        let last = self.first("read the administrators' log", sql, [], |row| get(row, "seq"))?;
        Ok(unsigned(last.unwrap_or(0)))
    }
}

pub(super) fn identity(row: &Row<'_>) -> Result<HostIdentity> {
    let key: Option<Vec<u8>> = get(row, "host_key")?;
    let key = key.map(|der| HostKey::from_spki(&der).map_err(StoreError::corrupt("host_key")));
    let ca: Option<String> = get(row, "certificate_ca")?;
    let expires_at = opt_time(row, "certificate_expires_at")?;
    let renewal = opt_parsed(row, "renewal")?.zip(get(row, "renewed")?);
    let number = get(row, "certificate_number")?;
    Ok(HostIdentity {
        key: key.transpose()?,
        certificate: ca.zip(expires_at).map(|(ca, expires_at)| Issued {
            number,
            ca,
            expires_at,
            renewal,
        }),
        trusts: trusts(row, "trusts")?,
        locked_at: opt_time(row, "locked_at")?,
        drained_at: opt_time(row, "drained_at")?,
        removed_at: opt_time(row, "removed_at")?,
    })
}

/// A nullable column that holds [`Trusts`].
pub(super) fn trusts(row: &Row<'_>, name: &'static str) -> Result<Option<Trusts>> {
    match get::<Option<String>>(row, name)? {
        Some(_) => json(row, name).map(Some),
        None => Ok(None),
    }
}
