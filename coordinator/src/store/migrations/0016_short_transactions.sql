-- What lets work that comes again and again touch no more than what it is about.

-- Entries of `audit` about a deploy that has not ended: entries are never edited, so that nothing in
-- them tells. One a deployment at most, of a hundred thousand entries.
CREATE TABLE open_deploys (
    audit_seq     INTEGER PRIMARY KEY NOT NULL,
    deployment_id TEXT NOT NULL
) STRICT;
CREATE INDEX open_deploys_by_deployment ON open_deploys (deployment_id);

INSERT INTO open_deploys (audit_seq, deployment_id)
    SELECT seq, deployment_id FROM audit
    WHERE action = 'deploy' AND status = 'pending'
        AND NOT EXISTS (SELECT 1 FROM audit_outcomes o WHERE o.audit_seq = audit.seq);

CREATE TRIGGER deploys_open AFTER INSERT ON audit
WHEN NEW.action = 'deploy' AND NEW.status = 'pending'
BEGIN INSERT INTO open_deploys (audit_seq, deployment_id) VALUES (NEW.seq, NEW.deployment_id); END;
CREATE TRIGGER deploys_end AFTER INSERT ON audit_outcomes
BEGIN DELETE FROM open_deploys WHERE audit_seq = NEW.audit_seq; END;
CREATE TRIGGER deploys_are_forgotten AFTER DELETE ON audit
BEGIN DELETE FROM open_deploys WHERE audit_seq = OLD.seq; END;

-- The chain is forgotten in the order of its numbers; nothing looks for times.
DROP INDEX audit_chain_by_time;

-- Each ciphertext begins with the form and the id of its key, 12 bytes: what is under another key
-- than the current one is on both sides of it.
CREATE INDEX revisions_by_key ON revisions (substr(env, 1, 12)) WHERE env IS NOT NULL;
CREATE INDEX accounts_by_key ON accounts (substr(totp_secret, 1, 12)) WHERE totp_secret IS NOT NULL;

-- Grants that lost something that kept them: the purge looks at these and at no others.
CREATE TABLE waning_grants (
    grant_id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO waning_grants (grant_id)
    SELECT id FROM oauth_grants
    WHERE NOT EXISTS (SELECT 1 FROM oauth_tokens t WHERE t.grant_id = oauth_grants.id);

-- Not where the grant itself is what goes.
CREATE TRIGGER grants_lose_tokens AFTER DELETE ON oauth_tokens
WHEN EXISTS (SELECT 1 FROM oauth_grants WHERE id = OLD.grant_id)
BEGIN INSERT INTO waning_grants (grant_id) VALUES (OLD.grant_id) ON CONFLICT DO NOTHING; END;
CREATE TRIGGER grants_lose_codes AFTER DELETE ON oauth_codes
WHEN EXISTS (SELECT 1 FROM oauth_grants WHERE id = OLD.grant_id)
BEGIN INSERT INTO waning_grants (grant_id) VALUES (OLD.grant_id) ON CONFLICT DO NOTHING; END;
CREATE TRIGGER grants_lose_devices AFTER DELETE ON oauth_device_codes
WHEN EXISTS (SELECT 1 FROM oauth_grants WHERE id = OLD.grant_id)
BEGIN INSERT INTO waning_grants (grant_id) VALUES (OLD.grant_id) ON CONFLICT DO NOTHING; END;

-- A code that was exchanged stays as long as its grant, so that it is known if it comes again.
CREATE INDEX oauth_codes_unused ON oauth_codes (expires_at) WHERE used_at IS NULL;
DROP INDEX oauth_codes_by_expiry;
CREATE INDEX email_tokens_by_expiry ON email_tokens (expires_at);
