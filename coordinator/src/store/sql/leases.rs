//! Leases of hosts.

use std::time::Duration;

use buddo_shared::model::id::HostId;
use uuid::Uuid;

use super::column::{parsed, text, time};
use super::{Row, Tx, params};
use crate::store::contract::{Lease, Leases, Result, StoreError};

/// The condition makes two holders at once impossible: it is checked in the same transaction.
const ACQUIRE: &str = "INSERT INTO host_leases (host_id, holder, expires_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (host_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
     WHERE host_leases.holder = excluded.holder OR host_leases.expires_at <= ?4";

const READ: &str = "SELECT holder, expires_at FROM host_leases WHERE host_id = ?1";

impl Leases for Tx<'_> {
    fn acquire_lease(&mut self, host: HostId, holder: Uuid, ttl: Duration) -> Result<Lease> {
        let operation = "acquire a host's lease";
        let now = self.now(operation)?;
        let until = after(operation, now, ttl)?;
        self.run(operation, ACQUIRE, params![text(&host), text(&holder), until, now])?;
        let lease = self.first(operation, READ, [text(&host)], read)?;
        lease.ok_or_else(|| StoreError::operation(operation)("it was not written"))
    }

    fn renew_leases(&mut self, holder: Uuid, ttl: Duration) -> Result<Vec<HostId>> {
        let operation = "renew leases of hosts";
        let until = after(operation, self.now(operation)?, ttl)?;
        let sql = "UPDATE host_leases SET expires_at = ?2 WHERE holder = ?1 RETURNING host_id";
        self.all(operation, sql, params![text(&holder), until], |row| parsed(row, "host_id"))
    }

    fn lease(&self, host: HostId) -> Result<Option<Lease>> {
        let operation = "read a host's lease";
        let sql =
            "SELECT holder, expires_at FROM host_leases WHERE host_id = ?1 AND expires_at > ?2";
        self.first(operation, sql, params![text(&host), self.now(operation)?], read)
    }

    fn leases(&self) -> Result<Vec<(HostId, Lease)>> {
        let operation = "list the leases of hosts";
        let sql = "SELECT host_id, holder, expires_at FROM host_leases WHERE expires_at > ?1";
        self.all(operation, sql, [self.now(operation)?], |row| {
            Ok((parsed(row, "host_id")?, read(row)?))
        })
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

fn after(operation: &'static str, now: i64, ttl: Duration) -> Result<i64> {
    let ttl = i64::try_from(ttl.as_millis()).map_err(StoreError::operation(operation))?;
    Ok(now.saturating_add(ttl))
}
