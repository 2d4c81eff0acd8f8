-- What a revision is made of: one row for each of its services. A revision of before has the one
-- service `app`, under the number of the revision itself.

CREATE TABLE services (
    deployment_id TEXT NOT NULL,
    revision      INTEGER NOT NULL,
    name          TEXT NOT NULL,
    -- The revision that introduced this content.
    introduced    INTEGER NOT NULL CHECK (introduced <= revision),
    -- Whether visitors reach it.
    public        INTEGER NOT NULL CHECK (public IN (0, 1)),
    replicas      INTEGER NOT NULL CHECK (replicas > 0),
    image         TEXT NOT NULL,
    digest        TEXT,
    port          INTEGER NOT NULL,
    env           BLOB,
    probe         TEXT NOT NULL,
    strategy      TEXT NOT NULL,
    PRIMARY KEY (deployment_id, revision, name),
    FOREIGN KEY (deployment_id, revision) REFERENCES revisions (deployment_id, number)
) STRICT, WITHOUT ROWID;

INSERT INTO services (deployment_id, revision, name, introduced, public, replicas, image, digest,
        port, env, probe, strategy)
    SELECT deployment_id, number, 'app', number, 1, 1, image, digest, port, env, probe, strategy
    FROM revisions;

-- Each revision has exactly one.
CREATE UNIQUE INDEX services_public ON services (deployment_id, revision) WHERE public = 1;

-- Takes the place of `revisions_by_key`.
CREATE INDEX services_by_key ON services (substr(env, 1, 12)) WHERE env IS NOT NULL;

-- What counts the bytes of environments names their column, so it goes first and comes back at the
-- end. What was counted stays: the same bytes are there.
DROP INDEX revisions_by_key;
DROP TRIGGER host_loads_begin;
DROP TRIGGER host_loads_follow_deployments;
DROP TRIGGER host_loads_follow_new_revisions;
DROP TRIGGER host_loads_follow_environments;
DROP TRIGGER host_loads_follow_old_revisions;
DROP VIEW host_loads_counted;

-- The largest first: each of these writes the whole table.
ALTER TABLE revisions DROP COLUMN env;
ALTER TABLE revisions DROP COLUMN probe;
ALTER TABLE revisions DROP COLUMN image;
ALTER TABLE revisions DROP COLUMN digest;
ALTER TABLE revisions DROP COLUMN port;
ALTER TABLE revisions DROP COLUMN strategy;

CREATE VIEW host_loads_counted AS SELECT
    h.host_id, h.allocatable_mb, h.standing,
    (SELECT coalesce(sum(d.memory_limit_mb), 0) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS reserved_mb,
    (SELECT count(*) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS containers,
    (SELECT coalesce(sum(length(s.env)), 0) FROM deployments d
        JOIN services s ON s.deployment_id = d.id AND s.revision = d.revision
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS env_bytes,
    (SELECT coalesce(max(d.memory_limit_mb), 0) FROM deployments d
        WHERE d.host_id = h.host_id AND d.status <> 'destroyed') AS largest_mb
FROM host_standings h;

CREATE TRIGGER host_loads_begin AFTER INSERT ON hosts
BEGIN
    INSERT INTO host_loads
        (host_id, allocatable_mb, standing, reserved_mb, containers, env_bytes, largest_mb)
        SELECT host_id, allocatable_mb, standing, reserved_mb, containers, env_bytes, largest_mb
        FROM host_loads_counted WHERE host_id = NEW.id;
END;

CREATE TRIGGER host_loads_follow_deployments
AFTER UPDATE OF host_id, status, revision, memory_limit_mb ON deployments
WHEN NEW.host_id <> OLD.host_id OR NEW.revision <> OLD.revision
    OR NEW.memory_limit_mb <> OLD.memory_limit_mb
    OR (NEW.status = 'destroyed') <> (OLD.status = 'destroyed')
BEGIN
    UPDATE host_loads SET reserved_mb = reserved_mb - OLD.memory_limit_mb,
        containers = containers - 1,
        env_bytes = env_bytes - coalesce((SELECT sum(length(env)) FROM services
            WHERE deployment_id = OLD.id AND revision = OLD.revision), 0),
        largest_mb = coalesce((SELECT max(memory_limit_mb) FROM deployments
            WHERE host_id = OLD.host_id AND status <> 'destroyed'), 0)
    WHERE host_id = OLD.host_id AND OLD.status <> 'destroyed';
    UPDATE host_loads SET reserved_mb = reserved_mb + NEW.memory_limit_mb,
        containers = containers + 1,
        env_bytes = env_bytes + coalesce((SELECT sum(length(env)) FROM services
            WHERE deployment_id = NEW.id AND revision = NEW.revision), 0),
        largest_mb = max(largest_mb, NEW.memory_limit_mb)
    WHERE host_id = NEW.host_id AND NEW.status <> 'destroyed';
END;

CREATE TRIGGER host_loads_follow_new_services AFTER INSERT ON services WHEN NEW.env IS NOT NULL
BEGIN
    UPDATE host_loads SET env_bytes = env_bytes + length(NEW.env)
    WHERE host_id = (SELECT host_id FROM deployments
        WHERE id = NEW.deployment_id AND revision = NEW.revision AND status <> 'destroyed');
END;

CREATE TRIGGER host_loads_follow_environments AFTER UPDATE OF env ON services
WHEN length(NEW.env) IS NOT length(OLD.env)
BEGIN
    UPDATE host_loads
    SET env_bytes = env_bytes + coalesce(length(NEW.env), 0) - coalesce(length(OLD.env), 0)
    WHERE host_id = (SELECT host_id FROM deployments
        WHERE id = NEW.deployment_id AND revision = NEW.revision AND status <> 'destroyed');
END;

CREATE TRIGGER host_loads_follow_old_services AFTER DELETE ON services WHEN OLD.env IS NOT NULL
BEGIN
    UPDATE host_loads SET env_bytes = env_bytes - length(OLD.env)
    WHERE host_id = (SELECT host_id FROM deployments
        WHERE id = OLD.deployment_id AND revision = OLD.revision AND status <> 'destroyed');
END;

-- Documents of schema 1 are of no use to any agent now. Each host gets one of a new generation:
-- no generation is used for two documents.
DELETE FROM documents;
UPDATE hosts SET generation = generation + 1;

-- Kept results of idempotent requests hold a revision as it was read then.
UPDATE idempotency SET result = json_set(
    json_remove(result, '$.revision.image', '$.revision.digest', '$.revision.port',
        '$.revision.probe', '$.revision.strategy'),
    '$.revision.services', json_object(
        'public', json_object(
            'name', 'app',
            'introduced', result -> '$.revision.number',
            'replicas', 1,
            'image', result -> '$.revision.image',
            'digest', result -> '$.revision.digest',
            'port', result -> '$.revision.port',
            'probe', result -> '$.revision.probe',
            'strategy', result -> '$.revision.strategy'),
        'internal', json_array()))
WHERE json_valid(result) AND result ->> '$.revision.image' IS NOT NULL;
