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
