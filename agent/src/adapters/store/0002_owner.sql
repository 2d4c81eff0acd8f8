-- The host id under which all of this was written. Another identity has another order of documents
-- and another coordinator to report to.
CREATE TABLE owner (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    host     TEXT NOT NULL
) STRICT;
