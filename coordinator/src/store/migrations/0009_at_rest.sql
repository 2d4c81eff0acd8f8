-- Audit logs that nobody edits, in one chain; accounts that are suspended; hosts that are drained.

-- How an entry of `audit` that was pending ended. It is not written into the entry: entries stay as
-- they were made.
CREATE TABLE audit_outcomes (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    audit_seq INTEGER NOT NULL UNIQUE,
    status    TEXT NOT NULL CHECK (status IN ('completed', 'failed')),
    at        INTEGER NOT NULL,
    details   TEXT
) STRICT;

-- Who did it: `account ID`; null: whoever may run commands on the machine.
ALTER TABLE admin_audit ADD COLUMN actor TEXT;

-- Each entry of each log has one link: SHA-256 over the link before and the entry.
CREATE TABLE audit_chain (
    seq   INTEGER PRIMARY KEY NOT NULL,
    log   TEXT NOT NULL,
    entry INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32),
    UNIQUE (log, entry)
) STRICT;
CREATE INDEX audit_chain_by_time ON audit_chain (at);

-- The last link, so that an end that is cut off is noticed.
CREATE TABLE audit_head (
    id   INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_head VALUES (1, 0, zeroblob(32));

-- The last link that was forgotten for its age: the chain begins after it.
CREATE TABLE audit_anchor (
    id   INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_anchor VALUES (1, 0, zeroblob(32));

CREATE TRIGGER audit_is_never_edited BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_outcomes_are_never_edited BEFORE UPDATE ON audit_outcomes
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER account_audit_is_never_edited BEFORE UPDATE ON account_audit
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER oauth_audit_is_never_edited BEFORE UPDATE ON oauth_audit
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER admin_audit_is_never_edited BEFORE UPDATE ON admin_audit
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER org_audit_is_never_edited BEFORE UPDATE ON org_audit
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_chain_is_never_edited BEFORE UPDATE ON audit_chain
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;

-- What the anchor covers may go, and nothing else.
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
WHEN NOT EXISTS (SELECT 1 FROM audit_chain c, audit_anchor a
    WHERE c.log = 'audit' AND c.entry = OLD.seq AND c.seq <= a.seq)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_outcomes_are_kept BEFORE DELETE ON audit_outcomes
WHEN NOT EXISTS (SELECT 1 FROM audit_chain c, audit_anchor a
    WHERE c.log = 'audit_outcomes' AND c.entry = OLD.seq AND c.seq <= a.seq)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER account_audit_is_kept BEFORE DELETE ON account_audit
WHEN NOT EXISTS (SELECT 1 FROM audit_chain c, audit_anchor a
    WHERE c.log = 'account_audit' AND c.entry = OLD.seq AND c.seq <= a.seq)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER oauth_audit_is_kept BEFORE DELETE ON oauth_audit
WHEN NOT EXISTS (SELECT 1 FROM audit_chain c, audit_anchor a
    WHERE c.log = 'oauth_audit' AND c.entry = OLD.seq AND c.seq <= a.seq)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER admin_audit_is_kept BEFORE DELETE ON admin_audit
WHEN NOT EXISTS (SELECT 1 FROM audit_chain c, audit_anchor a
    WHERE c.log = 'admin_audit' AND c.entry = OLD.seq AND c.seq <= a.seq)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER org_audit_is_kept BEFORE DELETE ON org_audit
WHEN NOT EXISTS (SELECT 1 FROM audit_chain c, audit_anchor a
    WHERE c.log = 'org_audit' AND c.entry = OLD.seq AND c.seq <= a.seq)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_chain_is_kept BEFORE DELETE ON audit_chain
WHEN OLD.seq > (SELECT seq FROM audit_anchor)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;

CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head WHEN NEW.seq <> OLD.seq + 1
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_head_is_kept BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_anchor_goes_on BEFORE UPDATE ON audit_anchor
WHEN NEW.seq <= OLD.seq OR NOT EXISTS
    (SELECT 1 FROM audit_chain WHERE seq = NEW.seq AND hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;
CREATE TRIGGER audit_anchor_is_kept BEFORE DELETE ON audit_anchor
BEGIN SELECT RAISE(ABORT, 'audit logs are never edited'); END;

-- Since when an account may not act, and why, in the administrator's words to its owner.
ALTER TABLE accounts ADD COLUMN suspended_at INTEGER;
ALTER TABLE accounts ADD COLUMN suspended_for TEXT;
-- Since when a host gets no further deployments.
ALTER TABLE hosts ADD COLUMN drained_at INTEGER;

-- 1: encrypted values may be of the first form, which names the owner and not the row; 2: none is.
INSERT INTO meta (key, value) VALUES ('sealed_form', 1);
