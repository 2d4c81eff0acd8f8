//! Hosts and join tokens.

use buddo_shared::host_wire::renewal::HostKey;
use buddo_shared::host_wire::report::HostStatus;
use buddo_shared::host_wire::sealed::SealingKey;
use buddo_shared::model::id::{Generation, HostId};
use jiff::Timestamp;

use super::column::{get, json, millis, opt_time, parsed, text, time, to_json, to_word, word};
use super::params::list;
use super::trust::identity;
use super::value::ToValue;
use super::{Row, Tx, named_params, params};
use crate::domain::capacity::{DESIRED_BYTES, HELPER_KIB};
use crate::domain::scheduler::{ClosedHosts, MAX_DOCUMENT_BYTES, MAX_ENV_BYTES};
use crate::store::contract::{
    CandidateHost, CandidateMark, CandidateSearch, Host, HostIdentities as _, Hosts, JoinTokenRow,
    Load, Reach, Result, StoreError,
};

const LOAD: &str = "
    SELECT reserved_mb, containers, env_bytes, largest_mb FROM host_loads WHERE host_id = ?1";

/// The index alone selects the hosts, by the rule of `domain::scheduler::place`; no other rows are
/// read. Only for an unreachable host its time is needed.
const CANDIDATES: &str = "
    SELECT l.placement_rank, l.allocatable_mb - l.reserved_mb AS spare_mb, l.containers, l.env_bytes,
        l.largest_mb, l.reserved_mb, h.id, h.status, h.max_memory_mb, h.unreachable_since,
        h.refusal IS NOT NULL AS refuses
    FROM (SELECT host_id FROM host_loads AS one
          WHERE placement_rank >= 2
              AND (:memory_mb IS NULL
                  OR reserved_mb + :memory_mb
                      + CASE WHEN largest_mb > :memory_mb THEN largest_mb ELSE :memory_mb END
                      + ((containers + 2) * :helper_kib + 1023) / 1024
                      <= allocatable_mb * CAST(:overcommit AS DOUBLE PRECISION)
                  AND env_bytes + :env_bytes <= :most_env_bytes
                  AND (containers + 1) * :desired_bytes + ((env_bytes + :env_bytes) * 4 + 2) / 3
                      <= :most_document_bytes)
              AND (:placement_rank IS NULL OR (-placement_rank, reserved_mb - allocatable_mb, host_id)
                  > (:placement_rank, :spare_mb, :host_id))
              AND host_id NOT IN (:except)
              AND (placement_rank > 2 OR NOT EXISTS (SELECT 1 FROM hosts
                  WHERE id = one.host_id AND unreachable_since <= :lost_at))
          ORDER BY placement_rank DESC, allocatable_mb - reserved_mb DESC, host_id LIMIT :limit) AS best
    JOIN host_loads l ON l.host_id = best.host_id
    JOIN hosts h ON h.id = best.host_id
    ORDER BY l.placement_rank DESC, spare_mb DESC, h.id";

/// In the order in which `domain::scheduler::place` looks for a reason.
const CLOSED: &str = "
    SELECT count(*) FILTER (WHERE reason = 'locked') AS locked,
        count(*) FILTER (WHERE reason = 'drained') AS drained,
        count(*) FILTER (WHERE reason = 'lost') AS lost,
        count(*) FILTER (WHERE reason = 'unknown') AS unknown,
        count(*) FILTER (WHERE reason = 'short') AS short
    FROM (SELECT CASE WHEN h.locked_at IS NOT NULL THEN 'locked'
              WHEN h.drained_at IS NOT NULL THEN 'drained'
              WHEN h.unreachable_since <= ?1 THEN 'lost'
              WHEN r.is_readable = 0 THEN 'unknown'
              WHEN l.placement_rank = 1 THEN 'short' END AS reason
          FROM host_loads l JOIN hosts h ON h.id = l.host_id
              JOIN host_reports r ON r.host_id = l.host_id
          WHERE l.placement_rank > 0) AS closed";

const MISCOUNTED: &str = "
    SELECT c.host_id FROM host_loads_counted c LEFT JOIN host_loads l ON l.host_id = c.host_id
    WHERE (c.allocatable_mb, c.placement_rank, c.reserved_mb, c.containers, c.env_bytes, c.largest_mb)
        IS DISTINCT FROM (l.allocatable_mb, l.placement_rank, l.reserved_mb, l.containers, l.env_bytes, l.largest_mb)
    LIMIT ?1";

const RECOUNT: &str = "
    INSERT INTO host_loads
        (host_id, allocatable_mb, placement_rank, reserved_mb, containers, env_bytes, largest_mb)
    SELECT host_id, allocatable_mb, placement_rank, reserved_mb, containers, env_bytes, largest_mb
    FROM host_loads_counted WHERE host_id = ?1
    ON CONFLICT (host_id) DO UPDATE SET allocatable_mb = excluded.allocatable_mb,
        placement_rank = excluded.placement_rank, reserved_mb = excluded.reserved_mb,
        containers = excluded.containers, env_bytes = excluded.env_bytes,
        largest_mb = excluded.largest_mb";

const UPSERT: &str = "
    INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation, host_key,
        trusts, max_memory_mb)
    VALUES (?1, ?2, ?3, ?4, ?5, (SELECT value FROM meta WHERE key = 'epoch'), ?6, ?7, ?8, ?9)
    ON CONFLICT (id) DO UPDATE SET address = excluded.address,
        sealing_key = excluded.sealing_key, joined_at = excluded.joined_at,
        host_key = excluded.host_key, trusts = excluded.trusts, locked_at = NULL,
        removed_at = NULL, unreachable_since = NULL, acked_epoch = NULL, acked_generation = NULL,
        report_seq = 0, refusal = NULL,
        max_memory_mb = coalesce(excluded.max_memory_mb, hosts.max_memory_mb)";

const BUMP: &str = "
    UPDATE hosts SET generation = generation + 1,
        epoch = (SELECT value FROM meta WHERE key = 'epoch')
    WHERE id = ?1 RETURNING epoch, generation";

impl Hosts for Tx<'_> {
    fn hosts(&self) -> Result<Vec<Host>> {
        self.all(
            "list hosts",
            "SELECT * FROM hosts WHERE removed_at IS NULL ORDER BY name",
            [],
            read,
        )
    }

    fn host(&self, id: HostId) -> Result<Option<Host>> {
        self.first("read a host", "SELECT * FROM hosts WHERE id = ?1", [text(&id)], read)
    }

    fn reach(&self, id: HostId) -> Result<Option<Reach>> {
        let sql = "SELECT name, unreachable_since, locked_at, refusal IS NOT NULL AS refuses
                   FROM hosts WHERE id = ?1";
        self.first("read how a host is reached", sql, [text(&id)], |row| {
            Ok(Reach {
                name: get(row, "name")?,
                unreachable_since: opt_time(row, "unreachable_since")?,
                locked_at: opt_time(row, "locked_at")?,
                refuses: get(row, "refuses")?,
            })
        })
    }

    fn load(&self, id: HostId) -> Result<Load> {
        let load = self.first("read a host's load", LOAD, [text(&id)], read_load)?;
        Ok(load.unwrap_or_default())
    }

    fn candidate_hosts(
        &self,
        search: CandidateSearch<'_>,
        after: Option<CandidateMark>,
        limit: u32,
    ) -> Result<Vec<CandidateHost>> {
        let operation = "look for room";
        let demand = search.fits.map(|(demand, _)| demand);
        let named = named_params! {
            ":memory_mb": demand.map(|demand| signed(operation, demand.memory_mb)).transpose()?,
            ":env_bytes": demand.map(|demand| signed(operation, demand.env_bytes)).transpose()?,
            ":overcommit": search.fits.map(|(_, overcommit)| overcommit),
            ":helper_kib": signed(operation, HELPER_KIB)?,
            ":desired_bytes": signed(operation, DESIRED_BYTES)?,
            ":most_env_bytes": signed(operation, MAX_ENV_BYTES)?,
            ":most_document_bytes": signed(operation, MAX_DOCUMENT_BYTES)?,
            ":placement_rank": after.map(|mark| -mark.placement_rank),
            ":spare_mb": after.map(|mark| -mark.spare_mb),
            ":host_id": after.map(|mark| text(&mark.host)),
            ":lost_at": millis(search.lost_at),
            ":limit": limit,
        };
        let (marks, except) = list(named.len() + 1, search.except.iter().map(text).collect());
        let mut params = named.to_vec();
        params.extend(except.iter().map(|host| ("", host as &dyn ToValue)));
        self.all(operation, &CANDIDATES.replace(":except", &marks), &params[..], |row| {
            Ok(CandidateHost {
                // An unreadable status counts as none: the host gets nothing new.
                status: json(row, "status").ok(),
                max_memory_mb: get::<Option<i64>>(row, "max_memory_mb")?.map(unsigned),
                unreachable_since: opt_time(row, "unreachable_since")?,
                refuses: get(row, "refuses")?,
                load: read_load(row)?,
                mark: CandidateMark {
                    placement_rank: get(row, "placement_rank")?,
                    spare_mb: get(row, "spare_mb")?,
                    host: parsed(row, "id")?,
                },
            })
        })
    }

    fn closed_hosts(&self, lost_at: Timestamp) -> Result<ClosedHosts> {
        let read = |row: &Row<'_>| {
            Ok(ClosedHosts {
                drained: get(row, "drained")?,
                locked: get(row, "locked")?,
                lost: get(row, "lost")?,
                short: get(row, "short")?,
                unknown: get(row, "unknown")?,
            })
        };
        let counted = self.first("count closed hosts", CLOSED, [millis(lost_at)], read)?;
        Ok(counted.unwrap_or_default())
    }

    fn miscounted_hosts(&self, limit: u32) -> Result<Vec<HostId>> {
        self.all("check the loads of hosts", MISCOUNTED, [limit], |row| parsed(row, "host_id"))
    }

    fn recount_load(&mut self, id: HostId) -> Result<()> {
        self.run("count a host's load", RECOUNT, [text(&id)]).map(drop)
    }

    fn host_named(&self, name: &str) -> Result<Option<Host>> {
        self.first("read a host", "SELECT * FROM hosts WHERE name = ?1", [name], read)
    }

    fn upsert_host(&mut self, host: &Host) -> Result<()> {
        let params = params![
            text(&host.id),
            host.name,
            host.address,
            to_word(&host.sealing_key)?,
            millis(host.joined_at),
            signed("store a host", host.wanted.generation)?,
            host.identity.key.as_ref().map(HostKey::spki),
            host.identity.trusts.as_ref().map(to_json).transpose()?,
            host.max_memory_mb.map(|mb| signed("store a host", mb)).transpose()?,
        ];
        self.run("store a host", UPSERT, params)?;
        match &host.identity.certificate {
            Some(issued) => self.set_certificate(host.id, issued),
            None => Ok(()),
        }
    }

    fn bump_generation(&mut self, id: HostId) -> Result<Generation> {
        let bumped = self.first("raise a generation", BUMP, [text(&id)], |row| {
            generation(row, "epoch", "generation")
        })?;
        bumped.flatten().ok_or_else(|| {
            StoreError::operation("raise a generation")(format!("there is no host {id}"))
        })
    }

    fn raise_epoch(&mut self, floor: u64) -> Result<u64> {
        let operation = "raise the epoch";
        let sql = "UPDATE meta SET value = CASE WHEN value + 1 > ?1 THEN value + 1 ELSE ?1 END
                   WHERE key = 'epoch' RETURNING value";
        let raised =
            self.first(operation, sql, [signed(operation, floor)?], |row| get(row, "value"))?;
        raised.map(unsigned).ok_or_else(|| StoreError::operation(operation)("there is none"))
    }

    fn set_acknowledged(&mut self, id: HostId, generation: Generation) -> Result<()> {
        let operation = "record an acknowledgement";
        let sql = "UPDATE hosts SET acked_epoch = ?2, acked_generation = ?3, refusal = NULL,
                       trusts = coalesce((SELECT trust FROM documents
                           WHERE host_id = ?1 AND epoch = ?2 AND generation = ?3), trusts)
                   WHERE id = ?1";
        let params = params![
            text(&id),
            signed(operation, generation.epoch)?,
            signed(operation, generation.generation)?
        ];
        self.run(operation, sql, params).map(drop)
    }

    fn set_refusal(&mut self, id: HostId, why: &str) -> Result<()> {
        let sql = "UPDATE hosts SET refusal = ?2 WHERE id = ?1";
        self.run("record a refusal", sql, params![text(&id), why]).map(drop)
    }

    fn set_report_seq(&mut self, id: HostId, seq: u64) -> Result<()> {
        let operation = "record a report";
        let sql = "UPDATE hosts SET report_seq = ?2 WHERE id = ?1";
        self.run(operation, sql, params![text(&id), signed(operation, seq)?]).map(drop)
    }

    fn set_host_status(&mut self, id: HostId, status: &HostStatus) -> Result<()> {
        let sql = "UPDATE hosts SET status = ?2 WHERE id = ?1";
        self.run("record a host's status", sql, params![text(&id), to_json(status)?]).map(drop)
    }

    fn set_flooded(&mut self, id: HostId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE hosts SET flooded_at = ?2 WHERE id = ?1";
        self.run("record that a host is cut off", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn set_max_memory(&mut self, id: HostId, mb: Option<u64>) -> Result<()> {
        let operation = "limit a host's memory";
        let mb = mb.map(|mb| signed(operation, mb)).transpose()?;
        let sql = "UPDATE hosts SET max_memory_mb = ?2 WHERE id = ?1";
        self.run(operation, sql, params![text(&id), mb]).map(drop)
    }

    fn set_reached(&mut self, id: HostId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE hosts SET last_seen = ?2, unreachable_since = NULL WHERE id = ?1";
        self.run("record a connection", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn set_unreachable(&mut self, id: HostId, since: Timestamp) -> Result<()> {
        let sql = "UPDATE hosts SET unreachable_since = coalesce(unreachable_since, ?2)
                   WHERE id = ?1";
        self.run("record a lost connection", sql, params![text(&id), millis(since)]).map(drop)
    }

    fn insert_join_token(&mut self, token: &JoinTokenRow, now: Timestamp) -> Result<()> {
        self.run(
            "delete expired join tokens",
            "DELETE FROM join_tokens WHERE expires_at <= ?1",
            [millis(now)],
        )?;
        let sql = "INSERT INTO join_tokens (hash, name, expires_at, max_memory_mb)
                   VALUES (?1, ?2, ?3, ?4)";
        let operation = "store a join token";
        let most = token.max_memory_mb.map(|mb| signed(operation, mb)).transpose()?;
        let params = params![token.hash, token.name, millis(token.expires_at), most];
        self.run(operation, sql, params).map(drop)
    }

    fn take_join_token(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<Option<JoinTokenRow>> {
        let sql = "DELETE FROM join_tokens WHERE hash = ?1 AND expires_at > ?2
                   RETURNING hash, name, expires_at, max_memory_mb";
        self.first("take a join token", sql, params![hash, millis(now)], |row| {
            Ok(JoinTokenRow {
                hash: get(row, "hash")?,
                name: get(row, "name")?,
                max_memory_mb: get::<Option<i64>>(row, "max_memory_mb")?.map(unsigned),
                expires_at: time(row, "expires_at")?,
            })
        })
    }
}

fn read_load(row: &Row<'_>) -> Result<Load> {
    Ok(Load {
        reserved_mb: unsigned(get(row, "reserved_mb")?),
        containers: unsigned(get(row, "containers")?),
        env_bytes: unsigned(get(row, "env_bytes")?),
        largest_mb: unsigned(get(row, "largest_mb")?),
    })
}

fn read(row: &Row<'_>) -> Result<Host> {
    let wanted = generation(row, "epoch", "generation")?
        .ok_or_else(|| StoreError::corrupt("hosts.generation")("is null"))?;
    Ok(Host {
        id: parsed(row, "id")?,
        name: get(row, "name")?,
        address: get(row, "address")?,
        sealing_key: word::<SealingKey>(row, "sealing_key")?,
        joined_at: time(row, "joined_at")?,
        wanted,
        acknowledged: generation(row, "acked_epoch", "acked_generation")?,
        report_seq: unsigned(get(row, "report_seq")?),
        status: match get::<Option<String>>(row, "status")? {
            Some(_) => Some(json(row, "status")?),
            None => None,
        },
        last_seen: opt_time(row, "last_seen")?,
        unreachable_since: opt_time(row, "unreachable_since")?,
        refusal: get(row, "refusal")?,
        max_memory_mb: get::<Option<i64>>(row, "max_memory_mb")?.map(unsigned),
        flooded_at: opt_time(row, "flooded_at")?,
        identity: identity(row)?,
    })
}

fn generation(
    row: &Row<'_>,
    epoch: &'static str,
    generation: &'static str,
) -> Result<Option<Generation>> {
    let epoch: Option<i64> = get(row, epoch)?;
    let generation: Option<i64> = get(row, generation)?;
    Ok(epoch.zip(generation).map(|(epoch, generation)| Generation {
        epoch: unsigned(epoch),
        generation: unsigned(generation),
    }))
}

/// SQLite has only signed integers; none of ours is negative.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number as a signed column; an error if it does not fit.
pub(super) fn signed(operation: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(StoreError::operation(operation))
}
