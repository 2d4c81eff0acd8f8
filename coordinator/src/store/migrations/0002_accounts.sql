-- Accounts, the mail they wait for, and OAuth. Passwords and tokens are hashes; nothing here
-- logs anybody in.

CREATE TABLE accounts (
    registration_number INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT NOT NULL UNIQUE,
    email               TEXT NOT NULL,
    email_key           TEXT NOT NULL UNIQUE,
    username            TEXT NOT NULL,
    username_key        TEXT NOT NULL UNIQUE,
    password            TEXT NOT NULL,
    referral_code       TEXT NOT NULL UNIQUE,
    referred_by         TEXT REFERENCES accounts (id),
    tier                TEXT NOT NULL DEFAULT 'free',
    points              INTEGER NOT NULL DEFAULT 0,
    is_admin            INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    email_verified_at   INTEGER,
    token_epoch         INTEGER NOT NULL DEFAULT 0,
    created_at          INTEGER NOT NULL
) STRICT;

CREATE TABLE email_tokens (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    email_key  TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX email_tokens_by_account ON email_tokens (account_id);

-- What is to be sent, not its text: that holds a token, and is made when it is sent.
CREATE TABLE mail_outbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    kind       TEXT NOT NULL CHECK (kind IN ('verify_email')),
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL,
    UNIQUE (account_id, kind)
) STRICT;
CREATE INDEX mail_outbox_by_due ON mail_outbox (due_at);

-- Browsers that logged in on the authorization page.
CREATE TABLE browser_sessions (
    hash        BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    account_id  TEXT NOT NULL REFERENCES accounts (id),
    token_epoch INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX browser_sessions_by_expiry ON browser_sessions (expires_at);

CREATE TABLE oauth_clients (
    id            TEXT PRIMARY KEY NOT NULL,
    client_id     TEXT NOT NULL UNIQUE,
    -- Null: built in.
    owner_id      TEXT REFERENCES accounts (id),
    -- Null: a public client, which cannot keep a secret (RFC 6749, 2.1).
    secret_hash   BLOB CHECK (length(secret_hash) = 32),
    name          TEXT NOT NULL,
    description   TEXT,
    logo_url      TEXT,
    website_url   TEXT,
    redirect_uris TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    is_approved   INTEGER NOT NULL CHECK (is_approved IN (0, 1)),
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX oauth_clients_by_owner ON oauth_clients (owner_id);

INSERT INTO oauth_clients VALUES
    ('0c0ffee0-0000-4000-8000-00000000c110', 'buddo-cli', NULL, NULL, 'Buddo CLI',
     'The command line of Buddo.', NULL, 'https://buddo.xyz',
     '["http://127.0.0.1/callback","http://[::1]/callback","http://localhost/callback"]',
     'profile:read points:read deploy:manage', 1, 1763856000000);

-- One consent (or login of the CLI): every token that came of it ends with it.
CREATE TABLE oauth_grants (
    id         TEXT PRIMARY KEY NOT NULL,
    client_id  TEXT NOT NULL REFERENCES oauth_clients (client_id),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX oauth_grants_by_account ON oauth_grants (account_id);

CREATE TABLE oauth_codes (
    hash         BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    grant_id     TEXT NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    redirect_uri TEXT NOT NULL,
    challenge    TEXT NOT NULL,
    expires_at   INTEGER NOT NULL,
    used_at      INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_codes_by_expiry ON oauth_codes (expires_at);

CREATE TABLE oauth_tokens (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    kind       TEXT NOT NULL CHECK (kind IN ('access', 'refresh')),
    grant_id   TEXT NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    scopes     TEXT NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When a refresh token was exchanged for its successor.
    used_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_tokens_by_expiry ON oauth_tokens (expires_at);
CREATE INDEX oauth_tokens_by_grant ON oauth_tokens (grant_id);
