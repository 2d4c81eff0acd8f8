INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation, status)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 10 * :n - 1)
SELECT printf('00000000-0000-4000-8000-%012x', n), 'host-' || n, '127.0.0.1:1', :sealing_key, 0, 1,
    1, json_object('agent_version', '0.1.0', 'stale', json('false'),
        'memory_mb', 8192 + n % 7, 'cpu_millicores', 2000, 'warnings', json_array())
FROM i;

INSERT INTO accounts (id, email, email_key, username, username_key, password, referral_code,
    created_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 20 * :n - 1)
SELECT printf('00000000-0000-4000-8000-%012x', n), n, n, n, n, '$', n, 0 FROM i;

INSERT INTO deployments (id, app_id, account_id, tier_id, host_id, subdomain, status, run, revision,
    container_name, memory_limit_mb, cpu_limit_millicores, pids_limit, inserted_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 100 * :n - 1)
SELECT printf('00000000-0000-4000-8000-%012x', n), printf('00000000-0000-4000-8000-%012x', n),
    printf('00000000-0000-4000-8000-%012x', n % (20 * :n)), (SELECT id FROM tiers LIMIT 1),
    printf('00000000-0000-4000-8000-%012x', n % (10 * :n)), 'app-' || n, 'running', 'running', 1,
    'app-' || n, 256, 250, 256, 0
FROM i;

INSERT INTO revisions (deployment_id, number, created_at) SELECT id, 1, 0 FROM deployments;
INSERT INTO services (deployment_id, revision, name, introduced, public, replicas, image, port, env,
    probe, strategy)
SELECT id, 1, 'app', 1, 1, 1, 'docker.io/library/nginx:latest', 8000,
    unhex(iif(seq = 3, '010101010101010101010101', '050505050505050505050505') || hex(zeroblob(88))),
    '{}', 'rolling'
FROM deployments;

-- One account has made and destroyed many.
INSERT INTO deployments (id, app_id, account_id, tier_id, host_id, subdomain, status, run, revision,
    container_name, memory_limit_mb, cpu_limit_millicores, pids_limit, inserted_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 200 * :n - 1)
SELECT 'destroyed-' || n, 'app', '00000000-0000-4000-8000-000000000001', (SELECT id FROM tiers LIMIT 1),
    '00000000-0000-4000-8000-000000000001', 'gone', 'destroyed', 'running', 1, 'gone', 256, 250, 256, 0
FROM i;

-- The first deployment was restarted again and again.
INSERT INTO audit (id, deployment_id, action, status, at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 500 * :n - 1)
SELECT 'audit-' || n, '00000000-0000-4000-8000-000000000000', 'deploy', 'pending',
    n * 2 * :cutoff / (500 * :n)
FROM i;
INSERT INTO audit_outcomes (audit_seq, status, at) SELECT seq, 'failed', at FROM audit;
INSERT INTO audit_chain (seq, log, entry, at, hash) SELECT seq, 'audit', seq, at, randomblob(32) FROM audit;
INSERT INTO audit_chain (log, entry, at, hash)
    SELECT 'audit_outcomes', seq, 2 * :cutoff, randomblob(32) FROM audit_outcomes;
DROP TRIGGER audit_head_goes_on;
UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit_chain ORDER BY seq DESC LIMIT 1);

INSERT INTO oauth_grants (id, client_id, account_id, scopes, created_at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 100 * :n - 1)
SELECT printf('00000000-0000-4000-8000-%012x', n), 'buddo-cli',
    printf('00000000-0000-4000-8000-%012x', n % (20 * :n)), 'deploy:manage', 0
FROM i;
INSERT INTO oauth_tokens (hash, kind, grant_id, scopes, issued_at, expires_at)
SELECT randomblob(32), 'refresh', id, 'deploy:manage', 0, iif(rowid % 2, 1, 3) * :cutoff FROM oauth_grants;
INSERT INTO oauth_codes (hash, grant_id, redirect_uri, challenge, expires_at, used_at)
SELECT randomblob(32), id, '', '', 5, 1 FROM oauth_grants;

INSERT INTO idempotency (account_id, key, body_hash, result, at)
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 500 * :n - 1)
SELECT printf('00000000-0000-4000-8000-%012x', n % (20 * :n)), n, randomblob(32), '{}',
    n * 2 * :cutoff / (500 * :n)
FROM i;
