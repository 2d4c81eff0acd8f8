//! Leases of hosts.

use std::time::Duration;

use buddo_shared::id::HostId;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::Tx;
use super::column::{parsed, text, time};
use crate::store::contract::{Lease, Leases, Result, StoreError};

/// The database's clock, in milliseconds since 1970; each driver names its own.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

/// The condition makes two holders at once impossible: it is checked under the write lock.
const ACQUIRE: &str = concat!(
    "INSERT INTO host_leases (host_id, holder, expires_at) VALUES (?1, ?2, ",
    now!(),
    " + ?3)
     ON CONFLICT (host_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
     WHERE host_leases.holder = excluded.holder OR host_leases.expires_at <= ",
    now!()
);

const RENEW: &str = concat!(
    "UPDATE host_leases SET expires_at = ",
    now!(),
    " + ?2 WHERE holder = ?1 RETURNING host_id"
);

const READ: &str = "SELECT holder, expires_at FROM host_leases WHERE host_id = ?1";

const READ_VALID: &str = concat!(
    "SELECT holder, expires_at FROM host_leases WHERE host_id = ?1 AND expires_at > ",
    now!()
);

impl Leases for Tx<'_> {
    fn acquire_lease(&mut self, host: HostId, holder: Uuid, ttl: Duration) -> Result<Lease> {
        let operation = "acquire a host's lease";
        let params = params![text(&host), text(&holder), millis(operation, ttl)?];
        self.run(operation, ACQUIRE, params)?;
        let lease = self.first(operation, READ, [text(&host)], read)?;
        lease.ok_or_else(|| StoreError::operation(operation)("it was not written"))
    }

    fn renew_leases(&mut self, holder: Uuid, ttl: Duration) -> Result<Vec<HostId>> {
        let operation = "renew leases of hosts";
        let params = params![text(&holder), millis(operation, ttl)?];
        self.all(operation, RENEW, params, |row| parsed(row, "host_id"))
    }

    fn lease(&self, host: HostId) -> Result<Option<Lease>> {
        self.first("read a host's lease", READ_VALID, [text(&host)], read)
    }

    fn release_lease(&mut self, host: HostId, holder: Uuid) -> Result<()> {
        let sql = "DELETE FROM host_leases WHERE host_id = ?1 AND holder = ?2";
        self.run("release a host's lease", sql, params![text(&host), text(&holder)]).map(drop)
    }

    fn release_leases(&mut self, holder: Uuid) -> Result<()> {
        let sql = "DELETE FROM host_leases WHERE holder = ?1";
        self.run("release leases of hosts", sql, [text(&holder)]).map(drop)
    }
}

fn read(row: &Row<'_>) -> Result<Lease> {
    Ok(Lease { holder: parsed(row, "holder")?, expires_at: time(row, "expires_at")? })
}

fn millis(operation: &'static str, ttl: Duration) -> Result<i64> {
    i64::try_from(ttl.as_millis()).map_err(StoreError::operation(operation))
}

#[cfg(test)]
mod tests;
