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
