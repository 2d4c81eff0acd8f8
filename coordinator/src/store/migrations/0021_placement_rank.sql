-- 'standing' has two other meanings elsewhere; here it is the rank by which placement prefers a host.
-- The views and triggers that name it go first and come back at the end, otherwise as they were.
DROP TRIGGER host_loads_begin;
DROP TRIGGER host_loads_follow_hosts;
DROP VIEW host_loads_counted;
DROP VIEW host_standings;

ALTER TABLE host_loads RENAME COLUMN standing TO placement_rank;

-- What a host is, apart from its deployments. The memory as `Capacity` has it: what it says, up to
-- the bound, less a reserve; or what its administrator allows, up to that.
CREATE VIEW host_ranks AS SELECT host_id, placement_rank,
    coalesce(min(allowed_mb, believed_mb), max(believed_mb - 384 - believed_mb / 32, 0), 0)
        AS allocatable_mb
FROM (SELECT id AS host_id,
    CASE WHEN removed_at IS NOT NULL THEN 0
        WHEN coalesce(drained_at, locked_at) IS NOT NULL THEN 1
        WHEN coalesce(json_valid(status), 0) = 0 THEN 1
        WHEN status ->> '$.lacks' IS NOT NULL THEN 1
        WHEN unreachable_since IS NOT NULL OR refusal IS NOT NULL THEN 2
        ELSE 3 END AS placement_rank,
    CAST(iif(json_valid(status), status ->> '$.allocatable_mb', NULL) AS INTEGER) AS allowed_mb,
    min(CAST(iif(json_valid(status), status ->> '$.memory_mb', 0) AS INTEGER),
        coalesce(max_memory_mb, 0x7fffffffffffffff)) AS believed_mb
FROM hosts);

CREATE VIEW host_loads_counted AS SELECT
    h.host_id, h.allocatable_mb, h.placement_rank,
    (SELECT coalesce(sum(d.memory_limit_mb), 0) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS reserved_mb,
    (SELECT count(*) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS containers,
    (SELECT coalesce(sum(length(s.env)), 0) FROM deployments d
        JOIN services s ON s.deployment_id = d.id AND s.revision = d.revision
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS env_bytes,
    (SELECT coalesce(max(d.memory_limit_mb), 0) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS largest_mb
FROM host_ranks h;

CREATE TRIGGER host_loads_begin AFTER INSERT ON hosts
BEGIN
    INSERT INTO host_loads
        (host_id, allocatable_mb, placement_rank, reserved_mb, containers, env_bytes, largest_mb)
        SELECT host_id, allocatable_mb, placement_rank, reserved_mb, containers, env_bytes, largest_mb
        FROM host_loads_counted WHERE host_id = NEW.id;
END;

-- With most reports and connections nothing changes that counts here, and then nothing is written.
CREATE TRIGGER host_loads_follow_hosts
AFTER UPDATE OF status, max_memory_mb, removed_at, drained_at, locked_at, unreachable_since, refusal
    ON hosts
WHEN (NEW.status, NEW.max_memory_mb, NEW.removed_at, NEW.drained_at, NEW.locked_at,
        NEW.unreachable_since, NEW.refusal)
    IS NOT (OLD.status, OLD.max_memory_mb, OLD.removed_at, OLD.drained_at, OLD.locked_at,
        OLD.unreachable_since, OLD.refusal)
BEGIN
    UPDATE host_loads SET (allocatable_mb, placement_rank) =
        (SELECT allocatable_mb, placement_rank FROM host_ranks WHERE host_id = NEW.id)
    WHERE host_id = NEW.id AND (allocatable_mb, placement_rank) IS NOT
        (SELECT allocatable_mb, placement_rank FROM host_ranks WHERE host_id = NEW.id);
END;
