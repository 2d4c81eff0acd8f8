-- A database as agents of schema 1 left it: refused since schema 4. Never edited.
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

INSERT INTO document VALUES (1, x'7b7d', '1', '18446744073709551615', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1793527200);
INSERT INTO deployments VALUES ('00000000-0000-0000-0000-000000000005',
    '{"index":3,"live":{"revision":2,"slot":"b"},"digests":{"2":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"failures":{"1":{"code":"never_healthy","cause":"c","fix":"f"}},"proven":[2]}');
INSERT INTO reports VALUES (1793527200041, '00000000-0000-0000-0000-000000000005',
    '{"seq":0,"at":"2026-11-01T10:00:00Z","kind":"deployment","id":"00000000-0000-0000-0000-000000000005","revision":2,"phase":"live","serving":2,"health":"healthy","checked_at":"2026-11-01T10:00:00Z","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","failure":null,"container":"buddo-00000000-0000-0000-0000-000000000005-r2-b"}');
INSERT INTO reported VALUES ('00000000-0000-0000-0000-000000000005',
    '{"kind":"deployment","id":"00000000-0000-0000-0000-000000000005","revision":2,"phase":"live","serving":2,"health":"healthy","checked_at":"2026-11-01T10:00:00Z","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","failure":null,"container":"buddo-00000000-0000-0000-0000-000000000005-r2-b"}');
INSERT INTO counter VALUES (1, 1793527200041);
PRAGMA user_version = 1;
