-- What keeps an account its owner's: logins that can be ended one by one, a second factor, links
-- by mail, a log of what was done to it, and its end.

-- Each login's JWT names one of these, and is void without it.
CREATE TABLE logins (
    id           TEXT PRIMARY KEY NOT NULL,
    account_id   TEXT NOT NULL REFERENCES accounts (id),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    address      TEXT NOT NULL,
    user_agent   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_by_account ON logins (account_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);

-- The grants that the CLI got for a login: they end with it.
CREATE TABLE login_grants (
    grant_id TEXT PRIMARY KEY NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    login_id TEXT NOT NULL REFERENCES logins (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX login_grants_by_login ON login_grants (login_id);

-- Links of mails other than the verification's.
CREATE TABLE mailed_links (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    purpose    TEXT NOT NULL CHECK (purpose IN ('reset_password', 'change_email')),
    -- Where the mail went.
    email      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX mailed_links_by_account ON mailed_links (account_id);
CREATE INDEX mailed_links_by_expiry ON mailed_links (expires_at);

-- Whoever asks for a new password, known or not: the same row, so that the answer takes as long.
CREATE TABLE reset_requests (
    email_key    TEXT PRIMARY KEY NOT NULL,
    requested_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- More kinds of mail, some of them to an address that is not the account's. The program knows the
-- kinds; a CHECK would have this table made anew for each.
CREATE TABLE mail_outbox_6 (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    kind       TEXT NOT NULL,
    -- Empty: the account's address at the time of sending.
    recipient  TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL,
    UNIQUE (account_id, kind, recipient)
) STRICT;
INSERT INTO mail_outbox_6 (seq, account_id, kind, created_at, attempts, due_at)
    SELECT seq, account_id, kind, created_at, attempts, due_at FROM mail_outbox;
DROP TABLE mail_outbox;
ALTER TABLE mail_outbox_6 RENAME TO mail_outbox;
CREATE INDEX mail_outbox_by_due ON mail_outbox (due_at);

-- Encrypted under the master key; null: none, and no time: not confirmed yet.
ALTER TABLE accounts ADD COLUMN totp_secret BLOB;
ALTER TABLE accounts ADD COLUMN totp_enabled_at INTEGER;
-- The time step of the last code that was taken (RFC 6238, 5.2): no code of it or earlier counts.
ALTER TABLE accounts ADD COLUMN totp_last_step INTEGER NOT NULL DEFAULT 0;
-- When it was deleted: what is left of it then is its id and its registration number.
ALTER TABLE accounts ADD COLUMN deleted_at INTEGER;
CREATE INDEX accounts_by_referrer ON accounts (referred_by) WHERE referred_by IS NOT NULL;

CREATE TABLE recovery_codes (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    account_id TEXT NOT NULL REFERENCES accounts (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX recovery_codes_by_account ON recovery_codes (account_id);

-- What was done to accounts: ids and words, nothing of a person.
CREATE TABLE account_audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    details    TEXT
) STRICT;
CREATE INDEX account_audit_by_account ON account_audit (account_id, seq);
