-- What the deployments of each host take of it, kept by the triggers below in the transaction of
-- each change, so that placement reads a few rows where it used to sum up all deployments. A sweep
-- compares with the view, which counts afresh.

CREATE TABLE host_loads (
    host_id     TEXT PRIMARY KEY NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    -- What apps may take of what the host says it has, before overcommitment; 0 until it has
    -- reported.
    allocatable_mb INTEGER NOT NULL,
    -- 0: it was removed; 1: it takes no further deployment; 2: it is away, so that it may be lost;
    -- 3: nothing but room may speak against one.
    standing    INTEGER NOT NULL CHECK (standing IN (0, 1, 2, 3)),
    -- Of its deployments that are not destroyed: memory promised, how many they are, bytes of the
    -- environments of their current revisions as they are stored, and memory of the largest.
    reserved_mb INTEGER NOT NULL,
    containers  INTEGER NOT NULL,
    env_bytes   INTEGER NOT NULL,
    largest_mb  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Holds all that the choice among hosts reads, best first.
CREATE INDEX host_loads_by_room
    ON host_loads (standing DESC, allocatable_mb - reserved_mb DESC, host_id, allocatable_mb,
        reserved_mb, containers, env_bytes, largest_mb);

CREATE INDEX deployments_host_memory ON deployments (host_id, memory_limit_mb)
    WHERE status <> 'destroyed';

-- What a host is, apart from its deployments. The memory as `Capacity` has it: what it says, up to
-- the bound, less a reserve; or what its administrator allows, up to that.
CREATE VIEW host_standings AS SELECT host_id, standing,
    coalesce(min(allowed_mb, believed_mb), max(believed_mb - 384 - believed_mb / 32, 0), 0)
        AS allocatable_mb
FROM (SELECT id AS host_id,
    CASE WHEN removed_at IS NOT NULL THEN 0
        WHEN coalesce(drained_at, locked_at) IS NOT NULL THEN 1
        WHEN coalesce(json_valid(status), 0) = 0 THEN 1
        WHEN status ->> '$.lacks' IS NOT NULL THEN 1
        WHEN unreachable_since IS NOT NULL OR refusal IS NOT NULL THEN 2
        ELSE 3 END AS standing,
    CAST(iif(json_valid(status), status ->> '$.allocatable_mb', NULL) AS INTEGER) AS allowed_mb,
    min(CAST(iif(json_valid(status), status ->> '$.memory_mb', 0) AS INTEGER),
        coalesce(max_memory_mb, 0x7fffffffffffffff)) AS believed_mb
FROM hosts);

CREATE VIEW host_loads_counted AS SELECT
    h.host_id, h.allocatable_mb, h.standing,
    (SELECT coalesce(sum(d.memory_limit_mb), 0) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS reserved_mb,
    (SELECT count(*) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS containers,
    (SELECT coalesce(sum(length(r.env)), 0) FROM deployments d
        JOIN revisions r ON r.deployment_id = d.id AND r.number = d.revision
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS env_bytes,
    (SELECT coalesce(max(d.memory_limit_mb), 0) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS largest_mb
FROM host_standings h;

INSERT INTO host_loads (host_id, allocatable_mb, standing, reserved_mb, containers, env_bytes, largest_mb)
    SELECT host_id, allocatable_mb, standing, reserved_mb, containers, env_bytes, largest_mb
    FROM host_loads_counted;

CREATE TRIGGER host_loads_begin AFTER INSERT ON hosts
BEGIN
    INSERT INTO host_loads
        (host_id, allocatable_mb, standing, reserved_mb, containers, env_bytes, largest_mb)
        SELECT host_id, allocatable_mb, standing, reserved_mb, containers, env_bytes, largest_mb
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
    UPDATE host_loads SET (allocatable_mb, standing) =
        (SELECT allocatable_mb, standing FROM host_standings WHERE host_id = NEW.id)
    WHERE host_id = NEW.id AND (allocatable_mb, standing) IS NOT
        (SELECT allocatable_mb, standing FROM host_standings WHERE host_id = NEW.id);
END;

-- The first revision comes after its deployment, and brings its environment's bytes itself.
CREATE TRIGGER host_loads_follow_new_deployments AFTER INSERT ON deployments
WHEN NEW.status <> 'destroyed'
BEGIN
    UPDATE host_loads SET reserved_mb = reserved_mb + NEW.memory_limit_mb,
        containers = containers + 1,
        largest_mb = max(largest_mb, NEW.memory_limit_mb)
    WHERE host_id = NEW.host_id;
END;

CREATE TRIGGER host_loads_follow_deployments
AFTER UPDATE OF host_id, status, revision, memory_limit_mb ON deployments
WHEN NEW.host_id <> OLD.host_id OR NEW.revision <> OLD.revision
    OR NEW.memory_limit_mb <> OLD.memory_limit_mb
    OR (NEW.status = 'destroyed') <> (OLD.status = 'destroyed')
BEGIN
    UPDATE host_loads SET reserved_mb = reserved_mb - OLD.memory_limit_mb,
        containers = containers - 1,
        env_bytes = env_bytes - coalesce((SELECT length(env) FROM revisions
            WHERE deployment_id = OLD.id AND number = OLD.revision), 0),
        largest_mb = coalesce((SELECT max(memory_limit_mb) FROM deployments
            WHERE host_id = OLD.host_id AND status <> 'destroyed'), 0)
    WHERE host_id = OLD.host_id AND OLD.status <> 'destroyed';
    UPDATE host_loads SET reserved_mb = reserved_mb + NEW.memory_limit_mb,
        containers = containers + 1,
        env_bytes = env_bytes + coalesce((SELECT length(env) FROM revisions
            WHERE deployment_id = NEW.id AND number = NEW.revision), 0),
        largest_mb = max(largest_mb, NEW.memory_limit_mb)
    WHERE host_id = NEW.host_id AND NEW.status <> 'destroyed';
END;

CREATE TRIGGER host_loads_follow_new_revisions AFTER INSERT ON revisions WHEN NEW.env IS NOT NULL
BEGIN
    UPDATE host_loads SET env_bytes = env_bytes + length(NEW.env)
    WHERE host_id = (SELECT host_id FROM deployments
        WHERE id = NEW.deployment_id AND revision = NEW.number AND status <> 'destroyed');
END;

CREATE TRIGGER host_loads_follow_environments AFTER UPDATE OF env ON revisions
WHEN length(NEW.env) IS NOT length(OLD.env)
BEGIN
    UPDATE host_loads
    SET env_bytes = env_bytes + coalesce(length(NEW.env), 0) - coalesce(length(OLD.env), 0)
    WHERE host_id = (SELECT host_id FROM deployments
        WHERE id = NEW.deployment_id AND revision = NEW.number AND status <> 'destroyed');
END;

CREATE TRIGGER host_loads_follow_old_revisions AFTER DELETE ON revisions WHEN OLD.env IS NOT NULL
BEGIN
    UPDATE host_loads SET env_bytes = env_bytes - length(OLD.env)
    WHERE host_id = (SELECT host_id FROM deployments
        WHERE id = OLD.deployment_id AND revision = OLD.number AND status <> 'destroyed');
END;
