-- Times are milliseconds since 1970-01-01 UTC. Identifiers are UUIDs in their text form.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The epoch of all desired-state documents; a restore from a backup raises it.
INSERT INTO meta (key, value) VALUES ('epoch', 1);

CREATE TABLE tiers (
    id                     TEXT PRIMARY KEY NOT NULL,
    slug                   TEXT NOT NULL UNIQUE,
    name                   TEXT NOT NULL,
    payment_method         TEXT NOT NULL CHECK (payment_method IN ('buddo_points', 'bitcoin')),
    monthly_cost_points    INTEGER,
    monthly_cost_sats      INTEGER,
    memory_limit_mb        INTEGER NOT NULL CHECK (memory_limit_mb > 0),
    cpu_limit_millicores   INTEGER NOT NULL CHECK (cpu_limit_millicores > 0),
    pids_limit             INTEGER NOT NULL CHECK (pids_limit > 0),
    custom_domain_allowed  INTEGER NOT NULL CHECK (custom_domain_allowed IN (0, 1)),
    monthly_stipend_points INTEGER NOT NULL,
    ad_reach_multiplier    REAL NOT NULL,
    max_per_account        INTEGER,
    position               INTEGER NOT NULL,
    CHECK ((payment_method = 'bitcoin') = (monthly_cost_points IS NULL)),
    CHECK ((payment_method = 'bitcoin') = (monthly_cost_sats IS NOT NULL))
) STRICT;

INSERT INTO tiers VALUES
    ('0c0ffee0-0000-4000-8000-000000000001', 'buddo-starter', 'Buddo Starter', 'buddo_points',
     500, NULL, 256, 250, 256, 0, 50, 1.0, 10, 1),
    ('0c0ffee0-0000-4000-8000-000000000002', 'bitcoin-pro', 'Bitcoin Pro', 'bitcoin',
     NULL, 25000, 1024, 1000, 1024, 1, 500, 2.0, NULL, 2);

CREATE TABLE hosts (
    id                    TEXT PRIMARY KEY NOT NULL,
    name                  TEXT NOT NULL UNIQUE,
    address               TEXT NOT NULL,
    sealing_key           TEXT NOT NULL,
    joined_at             INTEGER NOT NULL,
    epoch                 INTEGER NOT NULL,
    generation            INTEGER NOT NULL,
    acked_epoch           INTEGER,
    acked_generation      INTEGER,
    report_seq            INTEGER NOT NULL DEFAULT 0,
    status                TEXT,
    last_seen             INTEGER,
    unreachable_since     INTEGER
) STRICT;

CREATE TABLE join_tokens (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    name       TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deployments (
    seq                  INTEGER PRIMARY KEY AUTOINCREMENT,
    id                   TEXT NOT NULL UNIQUE,
    app_id               TEXT NOT NULL,
    account_id           TEXT NOT NULL,
    tier_id              TEXT NOT NULL REFERENCES tiers (id),
    host_id              TEXT NOT NULL REFERENCES hosts (id),
    subdomain            TEXT NOT NULL,
    custom_domain        TEXT,
    status               TEXT NOT NULL
        CHECK (status IN ('pending', 'deploying', 'running', 'stopped', 'destroyed')),
    run                  TEXT NOT NULL CHECK (run IN ('running', 'stopped', 'suspended')),
    revision             INTEGER NOT NULL,
    serving              INTEGER,
    container_name       TEXT NOT NULL,
    health               TEXT,
    last_health_check    INTEGER,
    last_error           TEXT,
    memory_limit_mb      INTEGER NOT NULL,
    cpu_limit_millicores INTEGER NOT NULL,
    pids_limit           INTEGER NOT NULL,
    billing_status       TEXT,
    deployed_at          INTEGER,
    stopped_at           INTEGER,
    inserted_at          INTEGER NOT NULL
) STRICT;

-- A subdomain and a domain are free again as soon as their deployment is destroyed.
CREATE UNIQUE INDEX deployments_subdomain ON deployments (subdomain) WHERE status <> 'destroyed';
CREATE UNIQUE INDEX deployments_domain ON deployments (custom_domain)
    WHERE status <> 'destroyed' AND custom_domain IS NOT NULL;
CREATE INDEX deployments_account ON deployments (account_id, seq) WHERE status <> 'destroyed';
CREATE INDEX deployments_host ON deployments (host_id) WHERE status <> 'destroyed';
CREATE INDEX deployments_app ON deployments (account_id, subdomain);

CREATE TABLE revisions (
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    number        INTEGER NOT NULL,
    image         TEXT NOT NULL,
    digest        TEXT,
    port          INTEGER NOT NULL,
    env           BLOB,
    probe         TEXT NOT NULL,
    strategy      TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (deployment_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
    host_id    TEXT NOT NULL REFERENCES hosts (id),
    epoch      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    envelope   BLOB NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (host_id, epoch, generation)
) STRICT;

CREATE TABLE audit (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    deployment_id TEXT NOT NULL,
    action        TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('pending', 'completed', 'failed')),
    initiated_by  TEXT,
    at            INTEGER NOT NULL,
    details       TEXT
) STRICT;

CREATE INDEX audit_deployment ON audit (deployment_id, seq);

CREATE TABLE idempotency (
    account_id TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  BLOB NOT NULL CHECK (length(body_hash) = 32),
    answer     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (account_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_at ON idempotency (at);
