-- Whether the app may be used from devices without a browser (RFC 8628).
ALTER TABLE oauth_clients ADD COLUMN device_flow INTEGER NOT NULL DEFAULT 0 CHECK (device_flow IN (0, 1));
-- The secret before the last rotation, and until when it is still taken.
ALTER TABLE oauth_clients ADD COLUMN old_secret_hash BLOB CHECK (length(old_secret_hash) = 32);
ALTER TABLE oauth_clients ADD COLUMN old_secret_until INTEGER;

UPDATE oauth_clients SET device_flow = 1 WHERE client_id = 'buddo-cli';

CREATE INDEX oauth_grants_by_client ON oauth_grants (client_id);

-- Devices that wait for somebody to decide in a browser (RFC 8628), for some minutes.
CREATE TABLE oauth_device_codes (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    -- Of the code that the person types.
    user_hash  BLOB NOT NULL UNIQUE CHECK (length(user_hash) = 32),
    client_id  TEXT NOT NULL REFERENCES oauth_clients (client_id) ON DELETE CASCADE,
    scopes     TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Seconds that the device has to leave between two questions.
    interval_s INTEGER NOT NULL CHECK (interval_s > 0),
    polled_at  INTEGER,
    -- Null: nobody has decided.
    is_allowed INTEGER CHECK (is_allowed IN (0, 1)),
    grant_id   TEXT REFERENCES oauth_grants (id) ON DELETE CASCADE,
    -- When it was exchanged for tokens, which it is once.
    used_at    INTEGER,
    CHECK ((is_allowed IS 1) = (grant_id IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_device_codes_by_client ON oauth_device_codes (client_id);
CREATE INDEX oauth_device_codes_by_grant ON oauth_device_codes (grant_id);
CREATE INDEX oauth_device_codes_by_expiry ON oauth_device_codes (expires_at);

CREATE INDEX oauth_codes_by_grant ON oauth_codes (grant_id);

-- Who let which app do what, and who ended it. Without references: it outlives what it is about.
CREATE TABLE oauth_audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    action     TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    -- Whose access it is about, where it is about somebody's.
    account_id TEXT,
    -- Null: the platform's own.
    actor      TEXT,
    at         INTEGER NOT NULL,
    details    TEXT
) STRICT;
CREATE INDEX oauth_audit_by_client ON oauth_audit (client_id, seq);
CREATE INDEX oauth_audit_by_account ON oauth_audit (account_id, seq);
