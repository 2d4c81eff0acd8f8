INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation, status)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 4999)
SELECT printf('00000000-0000-4000-8000-%012x', n), 'host-' || n, '127.0.0.1:1', :sealing_key, 0, 1,
    1, json_object('agent_version', '0.1.0', 'podman_version', '5.4.0', 'caddy_version', '2.10.0',
        'document', json_object('epoch', 1, 'generation', 1), 'stale', json('false'),
        'memory_mb', 65536, 'cpu_millicores', 32000, 'warnings', json_array())
FROM i;

INSERT INTO accounts (id, email, email_key, username, username_key, password, referral_code,
    email_verified_at, created_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 1999)
SELECT printf('00000000-0000-4000-8000-%012x', n), n || '@example.com', n || '@example.com',
    'user-' || n, 'user-' || n, '$', n, 0, 0 FROM i;
INSERT INTO orgs (id, name, slug, personal_of, payer_id, created_at)
    SELECT id, username, '@' || username_key, id, id, 0 FROM accounts;
INSERT INTO org_members (org_id, account_id, role, joined_at)
    SELECT id, payer_id, 'org_owner', 0 FROM orgs;
INSERT INTO teams (id, org_id, name, slug, created_at) SELECT id, id, 'Default', 'default', 0 FROM orgs;

INSERT INTO deployments (id, app_id, account_id, team_id, tier_id, host_id, subdomain, status, run,
    revision, serving, container_name, memory_limit_mb, cpu_limit_millicores, pids_limit, inserted_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 99999)
SELECT printf('00000000-0000-4000-8000-%012x', n), printf('00000000-0000-4000-8000-%012x', n),
    printf('00000000-0000-4000-8000-%012x', n % 2000), printf('00000000-0000-4000-8000-%012x', n % 2000),
    (SELECT id FROM tiers WHERE slug = 'buddo-starter'),
    printf('00000000-0000-4000-8000-%012x', n % 5000), 'app-' || n, 'running', 'running', 1, 1,
    'app-' || n || '-1', 256, 250, 256, 0
FROM i;

-- A fifth of all entries are about one deployment, which was restarted 100,000 times.
INSERT INTO audit (id, deployment_id, action, status, at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 499999)
SELECT 'audit-' || n,
    printf('00000000-0000-4000-8000-%012x', iif(n % 5, n % 100000, 0)),
    'deploy', 'pending', iif(n < 250000, n, :now)
FROM i;
INSERT INTO audit_outcomes (audit_seq, status, at) SELECT seq, 'completed', :now FROM audit;
INSERT INTO audit_chain (seq, log, entry, at, hash)
    SELECT seq, 'audit', seq, at, randomblob(32) FROM audit;
INSERT INTO audit_chain (log, entry, at, hash)
    SELECT 'audit_outcomes', seq, :now, randomblob(32) FROM audit_outcomes;
DROP TRIGGER audit_head_goes_on;
UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit_chain ORDER BY seq DESC LIMIT 1);

-- Each was exchanged for tokens, which a tenth will have lost in a year.
INSERT INTO oauth_grants (id, client_id, account_id, scopes, created_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 99999)
SELECT printf('00000000-0000-4000-8000-%012x', n), 'buddo-cli',
    printf('00000000-0000-4000-8000-%012x', n % 2000), 'deploy:manage', 0
FROM i;
INSERT INTO oauth_tokens (hash, kind, grant_id, scopes, issued_at, expires_at)
SELECT randomblob(32), 'refresh', id, 'deploy:manage', 0, :now + iif(rowid % 10, 1000, 100) * 86400000
FROM oauth_grants;
INSERT INTO oauth_codes (hash, grant_id, redirect_uri, challenge, expires_at, used_at)
SELECT randomblob(32), id, '', '', 600000, 1 FROM oauth_grants;
