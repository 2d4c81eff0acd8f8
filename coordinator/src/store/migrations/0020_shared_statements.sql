-- What statements need that are the same on every database.

-- Whether a host's status can be read: how JSON is checked differs.
CREATE VIEW host_reports AS
    SELECT id AS host_id, coalesce(json_valid(status), 0) AS is_readable FROM hosts;

-- The order in which an account gave its consents. Other databases have no rowid, and times are not
-- unique.
ALTER TABLE oauth_grants ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
UPDATE oauth_grants SET seq = rowid;
DROP INDEX oauth_grants_by_account;
CREATE INDEX oauth_grants_by_account ON oauth_grants (account_id, seq);
