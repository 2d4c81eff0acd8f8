-- Organisations, their teams, who is in them, and the keys of teams. A deployment is a team's.

CREATE TABLE orgs (
    id          TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    slug        TEXT NOT NULL,
    plan        TEXT NOT NULL DEFAULT 'free',
    -- Whose own it is; null: it is shared.
    personal_of TEXT REFERENCES accounts (id),
    -- Whose limits its deployments count against: one of its owners.
    payer_id    TEXT NOT NULL REFERENCES accounts (id),
    created_at  INTEGER NOT NULL,
    deleted_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX orgs_by_slug ON orgs (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX orgs_by_person ON orgs (personal_of)
    WHERE personal_of IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX orgs_by_payer ON orgs (payer_id);

CREATE TABLE org_members (
    org_id     TEXT NOT NULL REFERENCES orgs (id),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    role       TEXT NOT NULL CHECK (role IN ('org_owner', 'org_admin', 'org_member')),
    joined_at  INTEGER NOT NULL,
    PRIMARY KEY (org_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX org_members_by_account ON org_members (account_id);

CREATE TABLE teams (
    id         TEXT PRIMARY KEY NOT NULL,
    org_id     TEXT NOT NULL REFERENCES orgs (id),
    name       TEXT NOT NULL,
    slug       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX teams_by_slug ON teams (org_id, slug) WHERE deleted_at IS NULL;

-- Only members of the team's organisation: who leaves that leaves its teams.
CREATE TABLE team_members (
    team_id    TEXT NOT NULL REFERENCES teams (id),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    role       TEXT NOT NULL CHECK (role IN ('team_admin', 'developer', 'viewer')),
    joined_at  INTEGER NOT NULL,
    PRIMARY KEY (team_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX team_members_by_account ON team_members (account_id);

-- Who was invited and has not come yet.
CREATE TABLE invitations (
    id         TEXT PRIMARY KEY NOT NULL,
    org_id     TEXT NOT NULL REFERENCES orgs (id),
    email      TEXT NOT NULL,
    email_key  TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('org_owner', 'org_admin', 'org_member')),
    team_id    TEXT REFERENCES teams (id),
    team_role  TEXT CHECK (team_role IN ('team_admin', 'developer', 'viewer')),
    invited_by TEXT NOT NULL REFERENCES accounts (id),
    -- Of the mail's token; null until the mail is sent.
    hash       BLOB UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CHECK ((team_id IS NULL) = (team_role IS NULL)),
    UNIQUE (org_id, email_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_by_email ON invitations (email_key);
CREATE INDEX invitations_by_expiry ON invitations (expires_at);
CREATE INDEX invitations_by_inviter ON invitations (invited_by);

CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY NOT NULL,
    hash         BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    team_id      TEXT NOT NULL REFERENCES teams (id),
    -- Who made it: it can no more than they can, and nothing without them.
    account_id   TEXT NOT NULL REFERENCES accounts (id),
    name         TEXT NOT NULL,
    hint         TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_by_team ON api_keys (team_id);
CREATE INDEX api_keys_by_account ON api_keys (account_id);
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at);

-- Browsers that logged in for the API: the cookie stands for a login, and ends with it.
CREATE TABLE web_sessions (
    hash     BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    login_id TEXT NOT NULL UNIQUE REFERENCES logins (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What was done to organisations: ids and words, nothing of a person.
CREATE TABLE org_audit (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id   TEXT NOT NULL,
    team_id  TEXT,
    actor    TEXT,
    action   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    details  TEXT
) STRICT;
CREATE INDEX org_audit_by_org ON org_audit (org_id, seq);

-- Some mails are about one of several things, such as an invitation; empty: the account itself.
CREATE TABLE mail_outbox_8 (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    kind       TEXT NOT NULL,
    -- Empty: the account's address at the time of sending.
    recipient  TEXT NOT NULL DEFAULT '',
    subject    TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL,
    UNIQUE (account_id, kind, recipient, subject)
) STRICT;
INSERT INTO mail_outbox_8 (seq, account_id, kind, recipient, created_at, attempts, due_at)
    SELECT seq, account_id, kind, recipient, created_at, attempts, due_at FROM mail_outbox;
DROP TABLE mail_outbox;
ALTER TABLE mail_outbox_8 RENAME TO mail_outbox;
CREATE INDEX mail_outbox_by_due ON mail_outbox (due_at);

-- Each account has an organisation of its own with one team, under the account's id: ids are only
-- unique within a kind. What it deployed so far is that team's.
INSERT INTO orgs (id, name, slug, personal_of, payer_id, created_at)
    SELECT id, username, '@' || username_key, id, id, created_at FROM accounts
    WHERE deleted_at IS NULL;
INSERT INTO org_members (org_id, account_id, role, joined_at)
    SELECT id, payer_id, 'org_owner', created_at FROM orgs;
INSERT INTO teams (id, org_id, name, slug, created_at)
    SELECT id, id, 'Default', 'default', created_at FROM orgs;

-- Null: of an account that is gone, and destroyed with it.
ALTER TABLE deployments ADD COLUMN team_id TEXT REFERENCES teams (id);
UPDATE deployments SET team_id = account_id WHERE account_id IN (SELECT id FROM teams);
CREATE INDEX deployments_team ON deployments (team_id, seq) WHERE status <> 'destroyed';

-- The command line manages teams and keys as well; no other app may.
UPDATE oauth_clients SET scopes = scopes || ' teams:manage' WHERE client_id = 'buddo-cli';
