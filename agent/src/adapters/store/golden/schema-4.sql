-- A database as agents of schema 4 left it: what every later agent must be able to take up.
-- Never edited; a new schema adds a file of the one before it.
-- The one document in force, as the bytes that were signed. Epoch and generation are decimal
-- text: they are unsigned 64-bit numbers, which SQLite's integers are not.
CREATE TABLE document (
    only_one   INTEGER PRIMARY KEY CHECK (only_one = 1),
    envelope   BLOB NOT NULL,
    epoch      TEXT NOT NULL,
    generation TEXT NOT NULL,
    digest     TEXT NOT NULL,
    -- Wall time is never earlier than the newest document's signature (Unix seconds).
    floor      INTEGER NOT NULL
) STRICT;

-- What must survive the agent, of each deployment; JSON of memory::Durable.
CREATE TABLE deployments (
    id    TEXT PRIMARY KEY,
    state TEXT NOT NULL
) STRICT;

-- Reports that the coordinator has not acknowledged. A report is a level: a newer one of the
-- same subject replaces an older one, so there are never more than subjects.
CREATE TABLE reports (
    seq     INTEGER PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    report  TEXT NOT NULL
) STRICT;

-- What was last reported of each subject, so that a restart reports nothing twice.
CREATE TABLE reported (
    subject TEXT PRIMARY KEY,
    body    TEXT NOT NULL
) STRICT;

-- The number of the last report ever written; a number is never used twice.
CREATE TABLE counter (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    seq      INTEGER NOT NULL
) STRICT;

-- The host id under which all of this was written. Another identity has another order of documents
-- and another coordinator to report to.
CREATE TABLE owner (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    host     TEXT NOT NULL
) STRICT;

-- Whom the document in force says to trust, as JSON; written with it. None: as at the join.
CREATE TABLE trust (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    trust    TEXT NOT NULL
) STRICT;

-- The join by which this host got its identity: a later one begins with the trust it was given.
ALTER TABLE owner ADD COLUMN joined TEXT NOT NULL DEFAULT '';

-- The last report that the coordinator has acknowledged. One that asks for reports from before
-- it has lost them.
ALTER TABLE counter ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0;

-- What must survive the agent, of each workload (`DEPLOYMENT/SERVICE/REPLICA`); JSON of
-- persisted::Persisted. What the agent knew by deployment is not carried over: a database that has
-- any of it is refused before this, because the containers that it is about have other names.
DROP TABLE deployments;
CREATE TABLE workloads (
    id    TEXT PRIMARY KEY,
    state TEXT NOT NULL
) STRICT;

INSERT INTO document VALUES (1, x'7b7d', '1', '18446744073709551615', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1793527200);
INSERT INTO workloads VALUES ('00000000-0000-0000-0000-000000000005/app/0',
    '{"index":3,"live":{"revision":2,"slot":"b"},"digests":{"2":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"failures":{"1":{"code":"never_healthy","cause":"c","fix":"f"}},"proven":[2],"rollback_watch":{"state":"watching","revision":2,"since":"2026-12-01T10:00:00Z"}}');
INSERT INTO reports VALUES (1793527200041, '00000000-0000-0000-0000-000000000005',
    '{"seq":0,"at":"2026-12-01T10:00:00Z","kind":"deployment","id":"00000000-0000-0000-0000-000000000005","revision":4,"phase":"live","serving":4,"health":"healthy","checked_at":"2026-12-01T10:00:00Z","failure":null,"services":[{"name":"app","revision":2,"phase":"live","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","failure":null,"replicas":[{"replica":0,"serving":2,"health":"healthy","checked_at":"2026-12-01T10:00:00Z","container":"buddo-00000000-0000-0000-0000-000000000005-app-0-r2-b"}]}]}');
INSERT INTO reported VALUES ('00000000-0000-0000-0000-000000000005',
    '{"kind":"deployment","id":"00000000-0000-0000-0000-000000000005","revision":4,"phase":"live","serving":4,"health":"healthy","checked_at":"2026-12-01T10:00:00Z","failure":null,"services":[{"name":"app","revision":2,"phase":"live","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","failure":null,"replicas":[{"replica":0,"serving":2,"health":"healthy","checked_at":"2026-12-01T10:00:00Z","container":"buddo-00000000-0000-0000-0000-000000000005-app-0-r2-b"}]}]}');
INSERT INTO counter VALUES (1, 1793527200041, 1793527200040);
INSERT INTO owner VALUES (1, '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002');
INSERT INTO trust VALUES (1, '{"signing_keys":[],"cas":["a CA"]}');
PRAGMA user_version = 4;
