-- As schema 3 wrote them: one that serves its second revision while the third comes up, and one
-- that never went live.
INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation)
VALUES ('00000000-0000-0000-0000-000000000001', 'container-host-1', '127.0.0.1:1', 'k', 0, 1, 1);

INSERT INTO deployments (id, app_id, account_id, tier_id, host_id, subdomain, custom_domain,
    status, run, revision, serving, container_name, memory_limit_mb, cpu_limit_millicores,
    pids_limit, deployed_at, inserted_at)
VALUES
    ('00000000-0000-0000-0000-00000000000a', 'app', 'account',
     '0c0ffee0-0000-4000-8000-000000000002', '00000000-0000-0000-0000-000000000001', 'one',
     'app.example.com', 'deploying', 'running', 3, 2, 'one-a', 256, 250, 256, 5000, 1000),
    ('00000000-0000-0000-0000-00000000000b', 'app', 'account',
     '0c0ffee0-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000001', 'two',
     NULL, 'pending', 'running', 1, NULL, 'two-b', 256, 250, 256, NULL, 1000);

INSERT INTO revisions (deployment_id, number, image, digest, port, env, probe, strategy, created_at)
SELECT id, number, 'docker.io/library/nginx:latest', NULL, 80, NULL,
    '{"kind":"http","path":"/","interval_ms":10000,"timeout_ms":2000,"healthy_after":1,'
        || '"unhealthy_after":3,"start_deadline_ms":60000}',
    'rolling', 1000
FROM deployments JOIN (SELECT 1 AS number UNION SELECT 2 UNION SELECT 3)
    ON subdomain = 'one' OR number = 1;
