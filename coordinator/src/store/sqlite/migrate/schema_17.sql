-- As schema 17 wrote them: an app that was restarted once and has an environment, one that runs its
-- first revision without one, and one that was destroyed.
INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation)
VALUES ('00000000-0000-0000-0000-000000000001', 'container-host-1', '127.0.0.1:1', 'k', 0, 1, 7);

INSERT INTO deployments (id, app_id, account_id, tier_id, host_id, subdomain, status, run, revision,
    serving, container_name, memory_limit_mb, cpu_limit_millicores, pids_limit, inserted_at)
SELECT '00000000-0000-0000-0000-00000000000' || letter, '00000000-0000-0000-0000-000000000002',
    '00000000-0000-0000-0000-000000000003', (SELECT min(id) FROM tiers),
    '00000000-0000-0000-0000-000000000001', 'app-' || letter, status, 'running', revision, 1, 'c',
    256, 250, 256, 1000
FROM (SELECT 'a' AS letter, 'running' AS status, 2 AS revision
    UNION SELECT 'b', 'deploying', 1 UNION SELECT 'c', 'destroyed', 1);

INSERT INTO revisions (deployment_id, number, image, digest, port, env, probe, strategy, domains,
    rollback_of, live_at, failure_code, failure_cause, failure_fix, created_at)
SELECT '00000000-0000-0000-0000-00000000000' || letter, number, image, digest, port, NULL,
    '{"kind":"http","path":"/","interval_ms":10000,"timeout_ms":2000,"healthy_after":1,'
        || '"unhealthy_after":3,"start_deadline_ms":60000}',
    strategy, domains, rollback_of, live_at, failure, failure, failure, 1000
FROM (SELECT 'a' AS letter, 1 AS number, 'ghcr.io/a/b:1' AS image,
        'sha256:1111111111111111111111111111111111111111111111111111111111111111' AS digest,
        3000 AS port, 'rolling' AS strategy, '["app.example.com"]' AS domains, NULL AS rollback_of,
        5000 AS live_at, NULL AS failure
    UNION SELECT 'a', 2, 'ghcr.io/a/b:1', NULL, 3001, 'recreate', '[]', 1, NULL, 'failed'
    UNION SELECT 'b', 1, 'docker.io/library/nginx:latest', NULL, 80, 'rolling', '[]', NULL, NULL, NULL
    UNION SELECT 'c', 1, 'docker.io/library/nginx:latest', NULL, 80, 'rolling', '[]', NULL, NULL, NULL);

INSERT INTO documents (host_id, epoch, generation, digest, envelope, issued_at, expires_at)
VALUES ('00000000-0000-0000-0000-000000000001', 1, 7, 'sha256:', x'00', 0, 1);

INSERT INTO idempotency (account_id, key, body_hash, result, at)
VALUES ('a', 'other', zeroblob(32), '{}', 1), ('a', 'broken', zeroblob(32), '{', 1),
    ('a', 'kept', zeroblob(32), '{
  "condition": {"failure": null, "health": null, "last_health_check": null, "waiting": null,
    "warning": null},
  "deployment": {"account": "00000000-0000-0000-0000-000000000003",
    "app_id": "00000000-0000-0000-0000-000000000002", "billing_status": null, "container_name": "c",
    "custom_domain": null, "deployed_at": null, "failure": null, "health": null, "held": null,
    "host": "00000000-0000-0000-0000-000000000001", "id": "00000000-0000-0000-0000-00000000000b",
    "inserted_at": "2026-05-21T10:00:00Z", "last_health_check": null, "lifecycle": "pending",
    "limits": {"cpu_millicores": 250, "memory_mb": 256, "pids": 256}, "restarts": 0, "revision": 1,
    "run": "running", "serving": null, "stopped_at": null, "subdomain": "app-b", "team": null,
    "tier_id": "0c0ffee0-0000-4000-8000-000000000001", "trouble": null},
  "host": "container-host-1",
  "revision": {"created_at": "1970-01-01T00:00:01Z", "digest": null, "domains": [], "failure": null,
    "image": "docker.io/library/nginx:latest", "live_at": null, "number": 1, "port": 80,
    "probe": {"healthy_after": 1, "interval_ms": 10000, "kind": "http", "path": "/",
      "start_deadline_ms": 60000, "timeout_ms": 2000, "unhealthy_after": 3},
    "rollback_of": null, "strategy": "rolling"}
}', 1);
