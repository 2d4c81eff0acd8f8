-- Which coordinator pushes to a host. Times are the database's own, in milliseconds since 1970.
CREATE TABLE host_leases (
    host_id    TEXT PRIMARY KEY NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    holder     TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each holder renews all of its leases at once.
CREATE INDEX host_leases_by_holder ON host_leases (holder);
